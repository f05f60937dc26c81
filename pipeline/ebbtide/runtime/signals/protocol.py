"""What gives readings of signals, and what every source needs to tell of events and of its choices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ebbtide.runtime.policy_signals import Signals


class SignalSource(Protocol):
    """Gives readings when asked, and tells of events between two of them.

    One thread reads at a time; listening and stopping to listen may be done from any. Whoever made a source closes it.
    """

    def read(self, t_ms: int) -> Signals:
        """The signals now; what cannot be read is absent.

        Args:
            t_ms: now, on a clock that never goes back, milliseconds; the time of the reading.

        Raises:
            EbbtideError: where nothing can be said at all; absent signals are no error.
        """
        ...

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back at every event that is worth an immediate reading: a new status, power saver, plugging in.

        A source that hears of no events never calls. The callback comes from any thread and must return at once.

        Returns:
            What ends it; a second call of that does nothing.
        """
        ...

    def close(self) -> None:
        """Give back what is held. A second close does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a source takes a signal from, and why from there.

    Attributes:
        signal: a field of `Signals`.
        taken_from: the file, call or sensor; None where the signal is left absent.
        why: for people.
    """

    signal: str
    taken_from: str | None
    why: str


class Listeners:
    """The callbacks of a source. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next = 0

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Take a callback; what is returned takes it out again."""
        with self._lock:
            key = self._next
            self._next += 1
            self._callbacks[key] = callback

        def stop() -> None:
            with self._lock:
                self._callbacks.pop(key, None)

        return stop

    def call(self) -> None:
        """Call all of them, in the order in which they came, with no lock held."""
        with self._lock:
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            callback()

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._callbacks.clear()
