"""A session that chooses its configuration itself, by heat, battery and power saver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from ebbtide.bundle.manifest import Manifest, PolicyEntry
from ebbtide.engine import Array
from ebbtide.errors import EbbtideError
from ebbtide.runtime.adaptive_core import AdaptiveCore, OnDecision
from ebbtide.runtime.configuration import Watch
from ebbtide.runtime.decision_log import DecisionLog
from ebbtide.runtime.policy import Decision, Policy
from ebbtide.runtime.polling import Clock, Poller, Schedule, Wait, monotonic_ms
from ebbtide.runtime.result import Result
from ebbtide.runtime.session import Current, Session
from ebbtide.runtime.signals import SignalSource
from ebbtide.runtime.slowdown import SlowdownReading


class AdaptiveSession:
    """Predicts as a `Session` does, and switches it to the tier that the policy decides.

    While predictions are made, the signals are read every `poll_ms`, at once when the source tells of an event or
    `notify` is called, and at once with the first prediction after a pause. From `idle_ms` after the last prediction on
    nothing is read and no thread wakes, but for events. Reading, deciding and switching happen in one thread of their
    own, so no prediction waits for them; each uses the configuration in force when it began, and reports why it is.

    A reading that is refused and a switch that fails are written down with their codes and change nothing; the session
    goes on with the last good configuration, and the switch is tried again with the next reading.

    All methods may be called from any thread, from callbacks too.

    Args:
        session: used by this object alone as far as switching goes; the caller closes it.
        source: of the signals; the caller closes it.
        policy: its parameters; None for those of the manifest.
        poll_ms: >= 1; None reads and decides only when `poll` or `limit` is called, in the thread that calls them, and
            does not listen to the source.
        idle_ms: >= 1.
        minimum_tier, maximum_tier: the application's limits to begin with, see `limit`.
        clock_ms: monotonic milliseconds, handed to the source.
        wait: how the thread waits; tests bring their own time with it.
        on_decision: called with every decision.
        on_stop: called with the decision when the phone comes to a state in which the application should stop (see
            `Decision.should_stop`), once each time. Nothing here refuses to run.
        log: a file that gets a JSON line for every decision, see `ebbtide.runtime.decision_log`; it is appended to.

    Callbacks are called in the order of the decisions, without any lock held; what they raise is logged.

    Raises:
        EbbtideError: ``policy.parameters``, ``policy.limits``, ``runtime.interval``, ``runtime.log``.
    """

    def __init__(
        self,
        session: Session,
        source: SignalSource,
        *,
        policy: PolicyEntry | None = None,
        poll_ms: int | None = 5_000,
        idle_ms: int = 30_000,
        minimum_tier: int = 0,
        maximum_tier: int | None = None,
        clock_ms: Clock = monotonic_ms,
        wait: Wait = threading.Condition.wait,
        on_decision: OnDecision | None = None,
        on_stop: OnDecision | None = None,
        log: Path | None = None,
    ) -> None:
        manifest = session.manifest
        rule = Policy(
            manifest.policy if policy is None else policy,
            len(manifest.tiers),
            minimum_tier=minimum_tier,
            maximum_tier=maximum_tier,
        )
        schedule = None if poll_ms is None else Schedule(poll_ms, idle_ms)
        self._session = session
        self._closed = False
        self._core = AdaptiveCore(
            session,
            source,
            rule,
            clock_ms,
            on_decision=on_decision,
            on_stop=on_stop,
            log=None if log is None else DecisionLog(log),
        )
        self._poller = None if schedule is None else Poller(self.poll, schedule, clock_ms=clock_ms, wait=wait)
        self._stop_listening: Callable[[], None] | None = None
        if self._poller is not None:
            try:
                self._stop_listening = source.listen(self._poller.ask)
            except BaseException:
                self.close()
                raise

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self._session.manifest

    @property
    def session(self) -> Session:
        """The session that is switched."""
        return self._session

    @property
    def current(self) -> Current:
        """The configuration that the next prediction will use."""
        return self._session.current

    @property
    def decision(self) -> Decision | None:
        """The last decision, None before the first."""
        return self._core.decision

    @property
    def override_tier(self) -> int | None:
        """The tier that `override` holds in force, None if the policy decides."""
        return self._core.override_tier

    @property
    def limits(self) -> tuple[int, int]:
        """The application's minimum and maximum tier, as far as the bundle has them."""
        return self._core.limits

    @property
    def slowdown(self) -> SlowdownReading:
        """How much slower predictions are than expected; recorded, and not acted on."""
        return self._core.slowdown()

    def predict(self, image: Any, *, watch: Watch | None = None) -> Result:
        """Classify one image or signal, as `Session.predict` does."""
        return self._tracked(self._session.predict, image, watch)

    def predict_tensor(self, tensor: Array, *, watch: Watch | None = None) -> Result:
        """Classify one input that is preprocessed already, as `Session.predict_tensor` does."""
        return self._tracked(self._session.predict_tensor, tensor, watch)

    def poll(self) -> Decision | None:
        """Read and decide now, in the thread that calls this; see `AdaptiveCore.tick`."""
        return None if self._closed else self._core.tick()

    def notify(self) -> None:
        """Something about the phone has changed: read and decide at once, in the session's own thread."""
        if self._poller is None:
            self.poll()
        else:
            self._poller.ask()

    def override(self, tier: int | None) -> Current:
        """Hold a tier in force whatever the policy decides, or give it back to the policy (None).

        Returns once the next prediction will use it. The accuracy floor still clamps, the application's limits do not.

        Raises:
            EbbtideError: ``runtime.tier``, ``runtime.closed`` and what loading raises; what was in force then stays.
        """
        self._refuse_closed()
        return self._core.override(tier)

    def limit(self, minimum: int = 0, maximum: int | None = None) -> Decision | None:
        """Set the best and the cheapest tier that the application wants, 0 to 3; they hold at once, both ways.

        Reads and decides in the thread that calls this.

        Returns:
            The decision; None if the reading was refused: then the limits hold from the next good one on.

        Raises:
            EbbtideError: ``policy.limits``, ``runtime.closed``.
        """
        self._refuse_closed()
        return self._core.limit(minimum, maximum)

    def close(self) -> None:
        """Stop listening and reading, and close the log; the session and the source stay open. A second close does
        nothing.
        """
        self._closed = True
        stop_listening, self._stop_listening = self._stop_listening, None
        if stop_listening is not None:
            stop_listening()
        if self._poller is not None:
            self._poller.close()
        self._core.close()

    def __enter__(self) -> AdaptiveSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tracked(self, predict: Callable[..., Result], value: Any, watch: Watch | None) -> Result:
        self._refuse_closed()
        poller = self._poller
        if poller is None:
            result = predict(value, watch=watch)
        else:
            poller.use()
            try:
                result = predict(value, watch=watch)
            finally:
                poller.use()
        # A frame that was stopped, or a server that was asked, says nothing of how fast this device is.
        if watch is None and result.served is None:
            self._core.record(result)
        return result

    def _refuse_closed(self) -> None:
        if self._closed:
            raise EbbtideError("runtime.closed", "The adaptive session is closed.", hint="open a new one")
