"""When to look at the phone's signals, and the one thread that does it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ebbtide.errors import EbbtideError

_LOG = logging.getLogger(__name__)

Clock = Callable[[], int]
"""Monotonic milliseconds."""
Wait = Callable[[threading.Condition, float | None], object]
"""Waits on a condition that the caller holds, for so many seconds (None: until notified), as `Condition.wait` does."""


def monotonic_ms() -> int:
    """This machine's monotonic clock in milliseconds."""
    return time.monotonic_ns() // 1_000_000


class Schedule:
    """When the next poll is due. No clock and no thread: times are passed in, milliseconds of one monotonic clock.

    While it is used, a poll is due every `poll_ms`. It is idle from `idle_ms` after the last use on, and a use then
    makes a poll due at once. A poll that was asked for is due at once in any case.

    Args:
        poll_ms: >= 1.
        idle_ms: >= 1.

    Raises:
        EbbtideError: ``runtime.interval``.
    """

    def __init__(self, poll_ms: int, idle_ms: int) -> None:
        for place, value in (("poll_ms", poll_ms), ("idle_ms", idle_ms)):
            if type(value) is not int or value < 1:
                raise EbbtideError(
                    "runtime.interval",
                    f"{place} is no interval: {value!r}.",
                    expected="whole milliseconds, at least 1",
                    found=repr(value),
                    hint="leave it out for the default",
                    place=place,
                )
        self._poll_ms, self._idle_ms = poll_ms, idle_ms
        self._polled_ms: int | None = None
        self._asked = False
        # Written by whoever predicts, without a lock: any of several last uses is as good as another.
        self.used_ms: int | None = None

    def ask(self) -> None:
        """Make a poll due at once."""
        self._asked = True

    def polled(self, t_ms: int) -> None:
        """A poll begins now."""
        self._asked, self._polled_ms = False, t_ms

    def wait_ms(self, t_ms: int) -> int | None:
        """How long until the next poll: 0 if it is due, None if it is idle."""
        used_ms = self.used_ms
        if used_ms is None or t_ms - used_ms >= self._idle_ms:
            self._polled_ms = None
            return 0 if self._asked else None
        if self._asked or self._polled_ms is None:
            return 0
        # A clock that was set back must not put the next poll off for longer than a whole interval.
        return min(max(self._polled_ms + self._poll_ms - t_ms, 0), self._poll_ms)


class Poller:
    """Calls `poll` in one daemon thread as a `Schedule` says. It begins with the first use and sleeps when idle.

    `use`, `ask` and `close` may be called from any thread, also from `poll` itself.

    Args:
        poll: what is called, without any lock held. What it raises is logged, and polls go on.
        schedule: of this poller alone.
        clock_ms: monotonic milliseconds.
        wait: how the thread waits; tests bring their own time with it.
    """

    def __init__(
        self,
        poll: Callable[[], object],
        schedule: Schedule,
        *,
        clock_ms: Clock = monotonic_ms,
        wait: Wait = threading.Condition.wait,
    ) -> None:
        self._poll, self._schedule, self._clock_ms, self._wait = poll, schedule, clock_ms, wait
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._parked = True
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def use(self) -> None:
        """A prediction begins or ends: cheap while polls go on."""
        self._schedule.used_ms = self._clock_ms()
        # The thread says that it parks before it looks at the last use, and here it is the other way round, so at least
        # one of the two sees the other.
        if self._parked:
            with self._wake:
                self._rouse()

    def ask(self) -> None:
        """Poll at once, once, also when idle."""
        with self._wake:
            self._schedule.ask()
            self._rouse()

    def close(self) -> None:
        """End the thread; waits for a poll that is running, unless that is what calls this."""
        with self._wake:
            self._closed = True
            thread = self._thread
            self._wake.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _rouse(self) -> None:
        if self._closed:
            return
        if self._thread is None:
            self._parked = False
            self._thread = threading.Thread(target=self._run, name="ebbtide-signals", daemon=True)
            self._thread.start()
        self._wake.notify_all()

    def _run(self) -> None:
        while self._until_due():
            try:
                self._poll()
            except Exception:
                _LOG.exception("a poll of the signals failed")

    def _until_due(self) -> bool:
        """Wait for the next poll; False once closed."""
        with self._wake:
            while not self._closed:
                wait_ms = self._schedule.wait_ms(self._clock_ms())
                if wait_ms == 0:
                    self._schedule.polled(self._clock_ms())
                    return True
                if wait_ms is None:
                    self._parked = True
                    if self._schedule.wait_ms(self._clock_ms()) is None:
                        self._wait(self._wake, None)
                    self._parked = False
                else:
                    self._wait(self._wake, wait_ms / 1000)
        return False
