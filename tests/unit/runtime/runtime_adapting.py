"""Adaptive sessions on time that the test moves, and sources whose readings it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime_bundles import images
from runtime_time import Time

from ebbtide.runtime import Session
from ebbtide.runtime.adaptive import AdaptiveSession
from ebbtide.runtime.decision_log import ProblemLine, read_decisions
from ebbtide.runtime.policy import Decision, Signals

IMAGE = images(1)[0]
WARM, HOT, COLD = 860, 960, 100


class Readings:
    """A source whose next reading is whatever the test says, be it wrong; it can be listened to."""

    def __init__(self, headroom_mh: int | None = COLD) -> None:
        self.next: Callable[[int], Any] = lambda t_ms: Signals(t_ms, headroom_mh)
        self.reads: list[int] = []
        self.listener: Callable[[], None] | None = None

    def read(self, t_ms: int) -> Signals:
        self.reads.append(t_ms)
        found: Signals = self.next(t_ms)
        return found

    def heat(self, headroom_mh: int | None) -> None:
        self.next = lambda t_ms: Signals(t_ms, headroom_mh)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.listener = callback

        def stop() -> None:
            self.listener = None

        return stop

    def close(self) -> None:
        raise AssertionError("a source belongs to whoever made it")


class Stepped:
    """An adaptive session without a thread: the test moves the time and polls."""

    def __init__(self, session: Session, source: Readings | None = None, **options: Any) -> None:
        self.time, self.source = Time(), source or Readings()
        self.adaptive = AdaptiveSession(session, self.source, poll_ms=None, clock_ms=self.time.clock_ms, **options)

    def poll(self, headroom_mh: int | None, *, after_ms: int = 5_000) -> Decision | None:
        self.time.now_ms += after_ms
        self.source.heat(headroom_mh)
        return self.adaptive.poll()


class Threaded:
    """An adaptive session with its thread, on time that the test moves."""

    def __init__(self, session: Session, source: Any = None, **options: Any) -> None:
        self.time, self.source = Time(), source or Readings()
        self.adaptive = AdaptiveSession(
            session, self.source, clock_ms=self.time.clock_ms, wait=self.time.wait, **options
        )


def codes(path: Path) -> list[str]:
    return [line.code for line in read_decisions(path) if isinstance(line, ProblemLine)]


def fail(error: Exception) -> Any:
    """What a reading or a callback that goes wrong does."""
    raise error
