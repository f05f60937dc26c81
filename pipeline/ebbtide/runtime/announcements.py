"""Telling the application: in order, with no lock held, and whatever its callbacks do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Announcements:
    """Calls that wait to be made, made one after the other by whichever thread delivers first.

    A callback may cause further announcements; they are made after it, by the same thread.

    Args:
        failed: called with what a callback raised, also without any lock held.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], object]] = deque()
        self._delivering = False

    def add(self, call: Callable[[], object]) -> None:
        """Put a call at the end; it is made by the next `deliver`."""
        with self._lock:
            self._waiting.append(call)

    def deliver(self) -> None:
        """Make the calls that wait, unless another thread is at it, which then makes these, too."""
        while True:
            with self._lock:
                if self._delivering or not self._waiting:
                    return
                self._delivering = True
                call = self._waiting.popleft()
            try:
                call()
            except Exception as error:
                self._failed(error)
            finally:
                with self._lock:
                    self._delivering = False
