"""From a reading to a configuration in force: one tick of an adaptive session, without a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ebbtide.errors import EbbtideError
from ebbtide.runtime.announcements import Announcements
from ebbtide.runtime.decision_log import (
    DecisionLine,
    DecisionLog,
    Line,
    OverrideLine,
    ProblemLine,
    problem_of,
    wall_time,
)
from ebbtide.runtime.policy import Decision, Policy
from ebbtide.runtime.policy_signals import Signals, signals_json
from ebbtide.runtime.polling import Clock
from ebbtide.runtime.result import Result
from ebbtide.runtime.session import Current, Session
from ebbtide.runtime.slowdown import Slowdown, SlowdownReading

_LOG = logging.getLogger(__name__)

OnDecision = Callable[[Decision], object]


class Readings(Protocol):
    """What a tick asks of a source of signals."""

    def read(self, t_ms: int) -> Signals:
        """The signals at a time, milliseconds."""
        ...


class AdaptiveCore:
    """Reads signals, lets the policy decide, and puts what it decides in force. May be used from any thread.

    Whatever goes wrong in a tick is written down and leaves things as they are: a reading that is refused leaves the
    policy's state and the tier, a switch that fails leaves the configuration in force and is tried again by the next
    tick. One tick runs at a time; callbacks are called after it in the order of the decisions, without any lock held,
    by whichever thread is at it, and may call anything here.

    Args:
        session: what is switched. Another one's switch is undone by the next tick.
        source: of the readings; read by one thread at a time.
        policy: of this core alone.
        clock_ms: monotonic milliseconds, handed to the source; read once a tick, so that ticks of several threads are
            in the order of time.
        on_decision: called with every decision.
        on_stop: called with the decision once `Decision.should_stop` begins to hold, and not again while it does.
        log: where decisions and problems are written down; the caller closes it.
    """

    def __init__(
        self,
        session: Session,
        source: Readings,
        policy: Policy,
        clock_ms: Clock,
        *,
        on_decision: OnDecision | None = None,
        on_stop: OnDecision | None = None,
        log: DecisionLog | None = None,
    ) -> None:
        self._session, self._source, self._policy, self._log = session, source, policy, log
        self._clock_ms = clock_ms
        self._on_decision, self._on_stop = on_decision, on_stop
        self._lock = threading.Lock()
        self._announcements = Announcements(self._callback_failed)
        latencies = {entry.id: entry.expected.latency_us for entry in session.manifest.configurations}
        self._slowdown = Slowdown({name: None if known is None else known.p50 for name, known in latencies.items()})
        self._decision: Decision | None = None
        self._override: int | None = None
        self._why = "start"
        self._t_ms = 0
        self._said: set[str] = set()

    @property
    def decision(self) -> Decision | None:
        """The last decision of the policy, None before the first."""
        return self._decision

    @property
    def override_tier(self) -> int | None:
        """The tier that the application holds in force, None if the policy decides."""
        return self._override

    @property
    def limits(self) -> tuple[int, int]:
        """The application's minimum and maximum tier, as far as the bundle has them."""
        return self._policy.limits

    def slowdown(self) -> SlowdownReading:
        """The slow-down factor now, and what the configuration in force is held against."""
        return self._slowdown.reading(self._session.current.configuration)

    def record(self, result: Result) -> None:
        """Take a prediction's time into account; waits for no tick."""
        self._slowdown.record(result.configuration, result.times.total_us)

    def tick(self) -> Decision | None:
        """Read the signals, decide, and put the tier in force.

        Returns:
            The decision; None if the reading was refused, which is written down with its code.
        """
        with self._lock:
            decision = self._tick()
        self._announcements.deliver()
        return decision

    def override(self, tier: int | None) -> Current:
        """Hold a tier in force whatever the policy decides, or give it back to the policy (None).

        The policy goes on deciding meanwhile, so that what it would have now comes into force at the end of the
        override. The accuracy floor still clamps; the application's limits do not, since this is the application, too.

        Raises:
            EbbtideError: ``runtime.tier``, ``runtime.closed`` and what loading raises; what was in force then stays, an
                earlier override too. Ending one raises nothing: a failed switch is tried again by the next tick.
        """
        with self._lock:
            self._t_ms = self._clock_ms()
            if tier is None:
                self._override = None
                self._apply()
            else:
                self._session.switch_tier(tier, reason="override")
                self._override = tier
            current = self._session.current
            self._write(partial(OverrideLine, override_tier=self._override))
        return current

    def limit(self, minimum: int, maximum: int | None) -> Decision | None:
        """Set the application's minimum and maximum tier, and tick, so that they hold at once.

        Returns:
            The decision; None if the reading was refused: then the limits hold from the next good one on.

        Raises:
            EbbtideError: ``policy.limits``; the limits in force then stay.
        """
        with self._lock:
            self._policy.limit(minimum, maximum)
            decision = self._tick()
        self._announcements.deliver()
        return decision

    def close(self) -> None:
        """Wait for a tick that is running; nothing is written down afterwards."""
        with self._lock:
            if self._log is not None:
                self._log.close()

    def _tick(self) -> Decision | None:
        """A tick; the caller holds the lock."""
        self._t_ms = self._clock_ms()
        try:
            decision = self._policy.step(self._read(self._t_ms))
        except EbbtideError as error:
            self._problem(error)
            # What a failed switch left undone does not wait for the source.
            if self._decision is not None:
                self._apply()
            return None
        self._said.discard("signals")
        before = self._decision
        if before is None or decision.tier != before.tier:
            self._why = decision.reason
        self._decision = decision
        switched = self._apply()
        self._write_decision(decision, switched=switched)
        if self._on_decision is not None:
            self._announcements.add(partial(self._on_decision, decision))
        if self._on_stop is not None and decision.should_stop and not (before is not None and before.should_stop):
            self._announcements.add(partial(self._on_stop, decision))
        return decision

    def _read(self, t_ms: int) -> Signals:
        try:
            signals = self._source.read(t_ms)
        except EbbtideError:
            raise
        except Exception as error:
            raise EbbtideError(
                "signals.source", f"The source failed: {error!r}.", place=type(self._source).__name__
            ) from error
        if not isinstance(signals, Signals):
            raise EbbtideError(
                "signals.source",
                "The source gave something else than signals.",
                expected="Signals",
                found=type(signals).__name__,
                place=type(self._source).__name__,
            )
        return signals

    def _apply(self) -> bool:
        """Put the wanted tier in force if it is not; whether the configuration changed. The caller holds the lock."""
        tier, reason = (self._policy.tier, self._why) if self._override is None else (self._override, "override")
        before = self._session.current
        if before.tier == tier:
            self._said.discard("switch")
            return False
        try:
            after = self._session.switch_tier(tier, reason=reason)
        except Exception as error:
            self._problem(problem_of(error, "runtime.switch"), about="switch")
            return False
        self._said.discard("switch")
        return after.configuration != before.configuration

    def _problem(self, error: EbbtideError, *, about: str = "signals") -> None:
        """Write a problem down; the program's own log hears of it once, until that goes well again."""
        if about not in self._said:
            self._said.add(about)
            _LOG.warning("%s", error)
        self._write(partial(ProblemLine, code=error.code, message=error.message, place=error.place))

    def _callback_failed(self, error: Exception) -> None:
        _LOG.error("a callback of the application failed", exc_info=error)
        problem = problem_of(error, "runtime.callback")
        with self._lock:
            self._write(partial(ProblemLine, code="runtime.callback", message=problem.message, place=problem.place))

    def _write_decision(self, decision: Decision, *, switched: bool) -> None:
        slowdown = self.slowdown()
        minimum, maximum = decision.limits
        self._write(
            partial(
                DecisionLine,
                tier=decision.tier,
                reason=decision.reason,
                used=decision.used,
                signals=signals_json(decision.signals),
                minimum_tier=minimum,
                maximum_tier=maximum,
                override_tier=self._override,
                switched=switched,
                should_stop=decision.should_stop,
                xi_q10=slowdown.xi_q10,
                profiled_us=slowdown.profiled_us,
                profiled_from=slowdown.profiled_from,
                predictions=slowdown.predictions,
            )
        )

    def _write(self, line: Callable[..., Line]) -> None:
        if self._log is None:
            return
        current = self._session.current
        self._log.write(
            line(
                time=wall_time(),
                t_ms=self._t_ms,
                configuration=current.configuration,
                configuration_tier=current.tier,
                configuration_reason=current.reason,
            )
        )
