"""Signals from a script, for tests and for trying what a phone would do."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import replace

from ebbtide.errors import EbbtideError
from ebbtide.runtime.policy_signals import Signals, check_signals
from ebbtide.runtime.signals.protocol import Listeners


class ScriptedSource:
    """Gives the readings of a script: each holds from its own time until that of the next. May be used from any thread.

    Before the first, nothing is known. A reading keeps its headroom's age as it was written, as if it were measured
    anew all the time.

    Args:
        readings: in the order of their times; of several at one time the last holds.

    Raises:
        EbbtideError: ``policy.signal`` or ``signals.script``.
    """

    def __init__(self, readings: Iterable[Signals] = ()) -> None:
        self._lock = threading.Lock()
        self._listeners = Listeners()
        self._readings: list[Signals] = []
        self._times: list[int] = []
        for reading in readings:
            self._append(reading)

    def put(self, reading: Signals) -> None:
        """Append a reading and tell the listeners, as at an event.

        Raises:
            EbbtideError: ``policy.signal``, or ``signals.script`` for one before the last; the script then stays.
        """
        self._append(reading)
        self._listeners.call()

    def read(self, t_ms: int) -> Signals:
        """What the script says for a time."""
        with self._lock:
            at = bisect_right(self._times, t_ms)
            return replace(self._readings[at - 1], t_ms=t_ms) if at else Signals(t_ms)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back at every `put`; see `SignalSource`."""
        return self._listeners.add(callback)

    def close(self) -> None:
        """Forget the listeners."""
        self._listeners.clear()

    def _append(self, reading: Signals) -> None:
        check_signals(reading)
        with self._lock:
            if self._times and reading.t_ms < self._times[-1]:
                raise EbbtideError(
                    "signals.script",
                    f"The reading at {reading.t_ms} ms stands after one at {self._times[-1]} ms.",
                    expected="readings in the order of their times",
                    place=f"reading {len(self._times)}",
                )
            self._readings.append(reading)
            self._times.append(reading.t_ms)
