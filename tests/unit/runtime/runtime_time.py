"""Time that tests move by hand, for code that waits in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Time:
    """A clock, and a way to wait by it: for one waiting thread.

    `waits` are the waits that began, in seconds, None for one without an end. `settled` is how a test knows that the
    thread has done what it was woken for: it waits again.
    """

    def __init__(self, now_ms: int = 1_000) -> None:
        self.now_ms = now_ms
        self.waits: list[float | None] = []
        self._began = threading.Condition()
        self._condition: threading.Condition | None = None

    def clock_ms(self) -> int:
        return self.now_ms

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        with self._began:
            self.waits.append(timeout_s)
            self._condition = condition
            self._began.notify_all()
        assert condition.wait(20), "nothing woke the thread"

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Do what wakes the thread, and go on once it waits again."""
        before = len(self.waits)
        yield
        with self._began:
            assert self._began.wait_for(lambda: len(self.waits) > before, 20), "the thread does not come to rest"

    def advance(self, by_ms: int) -> None:
        """Move the clock and let the thread look at it."""
        with self.settled():
            self.now_ms += by_ms
            assert self._condition is not None
            with self._condition:
                self._condition.notify_all()
