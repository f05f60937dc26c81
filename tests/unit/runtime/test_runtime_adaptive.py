"""The adaptive session on time that the test moves: what it decides, applies, says, writes down and survives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_bundles import CountingEngine, Folder, all_modules, images, manifest, open_session
from runtime_time import Time

from ebbtide.bundle.manifest import DEFAULT_POLICY, LatencyEntry
from ebbtide.engine import Array, Loaded
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Session
from ebbtide.runtime.adaptive import AdaptiveSession
from ebbtide.runtime.decision_log import DecisionLine, OverrideLine, ProblemLine, read_decisions
from ebbtide.runtime.policy import Decision, Signals
from ebbtide.runtime.signals import ScriptedSource

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


@pytest.fixture
def session() -> Iterator[Session]:
    with open_session() as opened:
        yield opened


def codes(path: Path) -> list[str]:
    return [line.code for line in read_decisions(path) if isinstance(line, ProblemLine)]


def test_predictions_report_the_tier_and_the_reason_of_the_decision_when_it_gets_hot_and_cools(
    session: Session,
) -> None:
    stepped = Stepped(session)
    seen = []
    for heat, after_ms in [(COLD, 0), (WARM, 5_000), (800, 5_000), (500, 5_000), (500, 60_000), (500, 60_000)]:
        decision = stepped.poll(heat, after_ms=after_ms)
        result = stepped.adaptive.predict(IMAGE)
        assert decision is not None
        assert (result.tier, result.configuration) == (decision.tier, session.manifest.tiers[decision.tier])
        seen.append((decision.reason, result.tier, result.reason))
    assert seen == [
        ("keep:none", 0, "start"),
        ("down:headroom", 2, "down:headroom"),
        ("keep:headroom", 2, "down:headroom"),
        ("hold", 2, "down:headroom"),
        ("up", 1, "up"),
        ("up", 0, "up"),
    ]


def test_first_decision_puts_its_tier_in_force_when_the_session_began_elsewhere() -> None:
    with open_session(configuration="extra") as session:
        stepped = Stepped(session)
        stepped.poll(COLD)
        assert session.current.configuration == "full"
        assert session.current.reason == "keep:none"


def test_predictions_equal_those_of_the_plain_session_when_adapting(session: Session) -> None:
    stepped = Stepped(session)
    with open_session() as plain:
        for heat, name in [(COLD, "full"), (760, "sure"), (HOT, "small")]:
            stepped.poll(heat)
            plain.switch(name)
            for image in images(5):
                found, expected = stepped.adaptive.predict(image), plain.predict(image)
                np.testing.assert_array_equal(found.logits, expected.logits)
                assert (found.configuration, found.left_at) == (name, expected.left_at)


def _raise(error: Exception) -> Any:
    raise error


BAD = {
    "raises": (lambda t: _raise(OSError("the sensor is gone")), "signals.source"),
    "raises_own": (lambda t: _raise(EbbtideError("signals.value", "Odd.")), "signals.value"),
    "none": (lambda t: None, "signals.source"),
    "dict": (lambda t: {"t_ms": t}, "signals.source"),
    "out_of_range": (lambda t: Signals(t, 10_001), "policy.signal"),
    "negative": (lambda t: Signals(t, -1), "policy.signal"),
    "float": (lambda t: Signals(t, 900.0), "policy.signal"),
    "bool": (lambda t: Signals(t, android_status=True), "policy.signal"),
    "time_back": (lambda t: Signals(5_999, HOT), "policy.time"),
    "time_missing": (lambda t: Signals(None), "policy.signal"),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_session_goes_on_when_a_reading_is_bad(
    kind: str, session: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, (bad, code) = tmp_path / "log.jsonl", BAD[kind]
    stepped = Stepped(session, log=log)
    before = stepped.poll(WARM)
    for _ in range(3):
        stepped.time.now_ms += 5_000
        stepped.source.next = bad
        assert stepped.adaptive.poll() is None
        assert stepped.adaptive.decision == before
        assert stepped.adaptive.predict(IMAGE).tier == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"], "said once, not at every reading"
    assert f"[{code}]" in caplog.text
    after = stepped.poll(760)
    assert after is not None
    assert (after.tier, after.reason) == (2, "hold"), "the state is that of the last good reading"
    stepped.adaptive.close()
    assert codes(log) == [code] * 3
    lines = list(read_decisions(log))
    assert [line.event for line in lines] == ["decision", "problem", "problem", "problem", "decision"]
    assert {line.configuration for line in lines} == {"small"}


def test_last_good_configuration_stays_and_the_switch_is_tried_again_when_loading_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, log = CountingEngine(all_modules()), tmp_path / "log.jsonl"
    with open_session(engine, residency="active") as session:
        stepped = Stepped(session, log=log)
        engine.broken = {"w50"}
        decision = stepped.poll(HOT)
        assert decision is not None
        assert (decision.tier, decision.reason) == (2, "down:headroom")
        for _ in range(2):
            assert stepped.adaptive.predict(IMAGE).configuration == "full"
            stepped.poll(HOT)
        stepped.source.next = BAD["none"][0]
        engine.broken = set()
        assert stepped.adaptive.poll() is None
        result = stepped.adaptive.predict(IMAGE)
        assert (result.configuration, result.reason) == ("small", "down:headroom"), "even if the reading is bad"
        stepped.adaptive.close()
    assert engine.open == []
    assert codes(log) == ["runtime.switch"] * 3 + ["signals.source"]
    assert "the flash is gone" in caplog.text
    assert len(caplog.records) == 2
    switched = [line.switched for line in read_decisions(log) if isinstance(line, DecisionLine)]
    assert switched == [False, False, False]


def test_override_holds_a_tier_until_it_ends_while_the_policy_goes_on(session: Session, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    stepped = Stepped(session, log=log)
    stepped.poll(COLD)
    assert stepped.adaptive.override(1).configuration == "sure"
    assert (stepped.adaptive.predict(IMAGE).reason, stepped.adaptive.override_tier) == ("override", 1)
    decision = stepped.poll(HOT)
    assert decision is not None
    assert (decision.tier, stepped.adaptive.predict(IMAGE).tier) == (2, 1)
    assert stepped.adaptive.override(None).reason == "down:headroom"
    assert (stepped.adaptive.predict(IMAGE).tier, stepped.adaptive.override_tier) == (2, None)
    stepped.adaptive.close()
    lines = list(read_decisions(log))
    assert [getattr(line, "override_tier", None) for line in lines] == [None, 1, 1, None]
    assert [type(line) for line in lines] == [DecisionLine, OverrideLine, DecisionLine, OverrideLine]
    assert [line.configuration for line in lines] == ["full", "sure", "sure", "small"]


def test_override_is_refused_and_changes_nothing_when_it_cannot_be_put_in_force() -> None:
    engine = CountingEngine(all_modules())
    with open_session(engine, residency="active") as session:
        stepped = Stepped(session)
        stepped.adaptive.override(1)
        engine.broken = {"w50"}
        with pytest.raises(OSError, match="flash"):
            stepped.adaptive.override(2)
        for tier in (-1, 3):
            with pytest.raises(EbbtideError) as caught:
                stepped.adaptive.override(tier)
            assert caught.value.code == "runtime.tier"
        stepped.poll(COLD)
        assert (stepped.adaptive.override_tier, session.current.configuration) == (1, "sure")


def test_override_that_ends_is_tried_again_when_the_switch_back_fails() -> None:
    engine = CountingEngine(all_modules())
    with open_session(engine, residency="active") as session:
        stepped = Stepped(session)
        stepped.adaptive.override(2)
        engine.broken = {"w100"}
        assert stepped.adaptive.override(None).configuration == "small"
        engine.broken = set()
        stepped.poll(COLD)
        assert session.current.configuration == "full"


def test_limits_hold_at_once_both_ways_when_the_application_sets_them(session: Session) -> None:
    stepped = Stepped(session)
    stepped.poll(COLD)
    decision = stepped.adaptive.limit(1, 2)
    assert decision is not None
    assert (decision.reason, stepped.adaptive.predict(IMAGE).reason) == ("down:application", "down:application")
    assert stepped.adaptive.limits == (1, 2)
    stepped.poll(HOT)
    stepped.adaptive.limit(0, 1)
    result = stepped.adaptive.predict(IMAGE)
    assert (result.tier, result.reason) == (1, "up:application")
    with pytest.raises(EbbtideError) as caught:
        stepped.adaptive.limit(2, 1)
    assert (caught.value.code, stepped.adaptive.limits) == ("policy.limits", (0, 1))


def test_limits_hold_from_the_start_when_given_to_the_session(session: Session) -> None:
    stepped = Stepped(session, minimum_tier=1, maximum_tier=1)
    stepped.poll(HOT)
    assert (session.current.tier, session.current.reason) == (1, "keep:headroom")


def test_limits_hold_from_the_next_good_reading_on_when_this_one_is_bad(session: Session) -> None:
    stepped = Stepped(session)
    stepped.source.next = BAD["none"][0]
    assert stepped.adaptive.limit(1) is None
    assert session.current.tier == 0
    stepped.poll(COLD)
    assert session.current.tier == 1


def test_tier_is_clamped_and_says_so_when_it_is_below_the_accuracy_floor() -> None:
    with open_session(minimum_accuracy=0.9) as session:
        stepped = Stepped(session)
        for _ in range(2):
            stepped.poll(HOT)
            result = stepped.adaptive.predict(IMAGE)
            assert result.tier == 1
            assert result.reason == "down:headroom; tier 2 promises 0.88, the application's floor is 0.9"
        session.set_minimum_accuracy(None)
        stepped.poll(HOT)
        assert (session.current.tier, session.current.reason) == (2, "down:headroom")


def test_switch_of_another_one_is_undone_by_the_next_decision(session: Session) -> None:
    stepped = Stepped(session)
    stepped.poll(WARM)
    session.switch("full")
    stepped.poll(WARM)
    assert session.current.configuration == "small"


def test_policy_is_that_of_the_manifest_or_the_one_given(session: Session) -> None:
    eager = DEFAULT_POLICY.model_copy(update={"enter_mh": (100, 200, 300)})
    stepped = Stepped(session, policy=eager)
    stepped.poll(COLD)
    assert session.current.tier == 1
    with pytest.raises(EbbtideError) as caught:
        Stepped(session, policy=DEFAULT_POLICY.model_copy(update={"enter_mh": (300, 200, 100)}))
    assert caught.value.code == "policy.parameters"


def test_callbacks_get_every_decision_and_each_beginning_of_stopping(session: Session) -> None:
    told: list[Decision] = []
    stops: list[Decision] = []
    stepped = Stepped(session, on_decision=told.append, on_stop=stops.append)
    decisions = []
    for status in (None, 4, 5, 6, 5, None, 3, 6):
        stepped.time.now_ms += 5_000
        stepped.source.next = lambda t_ms, status=status: Signals(t_ms, android_status=status)
        decisions.append(stepped.adaptive.poll())
    assert told == decisions
    assert [decision.signals.android_status for decision in stops] == [5, 6]
    assert stepped.adaptive.predict(IMAGE).tier == 2, "nothing refuses to run"


def test_session_goes_on_when_callbacks_raise(
    session: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "log.jsonl"
    stepped = Stepped(
        session,
        on_decision=lambda decision: _raise(ValueError("in the application")),
        on_stop=lambda decision: _raise(KeyError("too")),
        log=log,
    )
    stepped.source.next = lambda t_ms: Signals(t_ms, android_status=6)
    stepped.adaptive.poll()
    stepped.time.now_ms += 5_000
    stepped.adaptive.poll()
    assert session.current.tier == 2
    stepped.adaptive.close()
    assert codes(log) == ["runtime.callback"] * 3
    assert "ValueError: in the application" in caplog.text


def test_callbacks_may_call_the_session_and_are_called_in_order(session: Session) -> None:
    seen: list[tuple[str, int]] = []
    stepped: Stepped

    def told(decision: Decision) -> None:
        seen.append((decision.reason, stepped.adaptive.predict(IMAGE).tier or 0))
        if decision.reason == "keep:none":
            stepped.adaptive.limit(1)
            seen.append(("limited", stepped.adaptive.override(2).tier or 0))
            stepped.adaptive.override(None)

    stepped = Stepped(session, on_decision=told)
    stepped.poll(COLD)
    assert seen == [("keep:none", 0), ("limited", 2), ("down:application", 1)]


def test_callbacks_hold_no_lock_when_another_thread_waits_for_them(session: Session) -> None:
    inside, leave = threading.Event(), threading.Event()

    def told(decision: Decision) -> None:
        inside.set()
        assert leave.wait(20)

    stepped = Stepped(session, on_decision=told)
    poller = threading.Thread(target=stepped.poll, args=(WARM,))
    poller.start()
    assert inside.wait(20)
    assert stepped.adaptive.override(1).tier == 1
    assert stepped.adaptive.limit(0, 2) is not None
    assert stepped.adaptive.predict(IMAGE).tier == 1
    leave.set()
    poller.join(20)
    assert not poller.is_alive()


class Gate:
    """An engine that waits, while it loads one program, until it is let go."""

    name = "eager"

    def __init__(self) -> None:
        self._engine = CountingEngine(all_modules())
        self.loading, self.go = threading.Event(), threading.Event()

    def load(self, path: Path) -> Loaded:
        if path.stem == "w50":
            self.loading.set()
            assert self.go.wait(20)
        return self._engine.load(path)


def test_predictions_go_on_when_a_switch_loads() -> None:
    engine = Gate()
    with Session(Folder(manifest()), engine, residency="active") as session:
        stepped = Stepped(session)
        poller = threading.Thread(target=stepped.poll, args=(HOT,))
        poller.start()
        assert engine.loading.wait(20)
        for _ in range(50):
            assert stepped.adaptive.predict(IMAGE).configuration == "full"
        engine.go.set()
        poller.join(20)
        assert stepped.adaptive.predict(IMAGE).configuration == "small"


def test_log_tells_every_decision_with_its_signals_and_what_is_in_force(session: Session, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    stepped = Stepped(session, log=log, minimum_tier=0, maximum_tier=2)
    reading = Signals(0, WARM, 250, light_mh=900, battery_percent=80, charging=True)
    for after_ms in (0, 5_000):
        stepped.time.now_ms += after_ms
        stepped.source.next = lambda t_ms: replace(reading, t_ms=t_ms)
        stepped.adaptive.poll()
        stepped.adaptive.predict(IMAGE)
    stepped.adaptive.close()
    lines = list(read_decisions(log))
    assert [(line.t_ms, line.reason, line.switched, line.predictions) for line in lines] == [
        (1_000, "down:headroom", True, 0),
        (6_000, "keep:headroom", False, 1),
    ]
    assert lines[0].model_dump(exclude={"time"}) == {
        "format": 1,
        "event": "decision",
        "t_ms": 1_000,
        "tier": 2,
        "reason": "down:headroom",
        "configuration": "small",
        "configuration_tier": 2,
        "configuration_reason": "down:headroom",
        "used": {"headroom_mh": WARM, "headroom_age_ms": 250, "light_mh": 900},
        "signals": {
            "t_ms": 1_000,
            "headroom_mh": WARM,
            "headroom_age_ms": 250,
            "light_mh": 900,
            "battery_percent": 80,
            "charging": True,
        },
        "minimum_tier": 0,
        "maximum_tier": 2,
        "override_tier": None,
        "should_stop": False,
        "switched": True,
        "xi_q10": 1024,
        "profiled_us": None,
        "profiled_from": None,
        "predictions": 0,
    }


def test_slow_down_is_recorded_and_changes_no_tier_when_predictions_take_long(tmp_path: Path) -> None:
    known = manifest()
    first, *others = known.configurations
    quick = first.expected.model_copy(update={"latency_us": LatencyEntry(p50=1, p90=2, measured_on="host")})
    bundle = known.model_copy(update={"configurations": (first.model_copy(update={"expected": quick}), *others)})
    with Session(Folder(bundle), CountingEngine(all_modules())) as session:
        stepped = Stepped(session, log=tmp_path / "log.jsonl")
        for _ in range(30):
            stepped.adaptive.predict(IMAGE)
        decision = stepped.poll(COLD)
        assert decision is not None
        assert (decision.tier, decision.reason, session.current.tier) == (0, "keep:none", 0)
        slowdown = stepped.adaptive.slowdown
        assert slowdown.xi_q10 > 4 * 1024
        assert (slowdown.profiled_us, slowdown.profiled_from, slowdown.predictions) == (1, "expected", 30)
        (line,) = read_decisions(tmp_path / "log.jsonl")
        assert isinstance(line, DecisionLine)
        assert (line.xi_q10, line.profiled_us, line.profiled_from) == (slowdown.xi_q10, 1, "expected")


def test_log_that_cannot_be_opened_is_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(EbbtideError) as caught:
        Stepped(session, log=tmp_path)
    assert caught.value.code == "runtime.log"


def test_decisions_go_on_when_the_disk_of_the_log_is_full(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    stepped = Stepped(session, log=Path("/dev/full"))
    for heat in (WARM, HOT, HOT):
        assert stepped.poll(heat) is not None
    assert session.current.tier == 2
    assert len(caplog.records) == 1


class Threaded:
    """An adaptive session with its thread, on time that the test moves."""

    def __init__(self, session: Session, source: Any = None, **options: Any) -> None:
        self.time, self.source = Time(), source or Readings()
        self.adaptive = AdaptiveSession(
            session, self.source, clock_ms=self.time.clock_ms, wait=self.time.wait, **options
        )


@pytest.fixture
def threaded(session: Session) -> Iterator[Threaded]:
    made = Threaded(session)
    with made.adaptive:
        yield made


def test_signals_are_read_while_predictions_are_made_and_not_when_idle(threaded: Threaded) -> None:
    reads = threaded.source.reads
    assert reads == []
    with threaded.time.settled():
        threaded.adaptive.predict(IMAGE)
    assert reads == [1_000], "at once with the first prediction"
    for _ in range(3):
        threaded.time.advance(5_000)
        threaded.adaptive.predict(IMAGE)
    assert reads == [1_000, 6_000, 11_000, 16_000]
    for _ in range(7):
        threaded.time.advance(5_000)
    assert reads[-1] == 41_000, "the last reading before 30 s without a prediction"
    assert threaded.time.waits[-1] is None
    threaded.time.advance(600_000)
    assert reads[-1] == 41_000
    threaded.source.heat(HOT)
    with threaded.time.settled():
        assert threaded.adaptive.predict(IMAGE).tier == 0, "no prediction waits for a reading"
    assert reads[-1] == threaded.time.now_ms
    result = threaded.adaptive.predict(IMAGE)
    assert (result.tier, result.reason) == (2, "down:headroom")


@pytest.mark.parametrize("how", ["notify", "listener"])
def test_signals_are_read_at_once_when_there_is_an_event(threaded: Threaded, how: str) -> None:
    with threaded.time.settled():
        threaded.adaptive.predict(IMAGE)
    threaded.time.advance(1_000)
    threaded.source.heat(HOT)
    with threaded.time.settled():
        if how == "notify":
            threaded.adaptive.notify()
        else:
            threaded.source.listener()
    assert threaded.source.reads == [1_000, 2_000]
    assert threaded.adaptive.predict(IMAGE).tier == 2
    assert threaded.time.waits[-1] == 5.0, "the next one is an interval later"


def test_event_is_read_once_when_idle(threaded: Threaded) -> None:
    with threaded.time.settled():
        threaded.adaptive.notify()
    assert threaded.source.reads == [1_000]
    assert threaded.time.waits == [None]


def test_failed_switch_is_tried_again_at_the_next_interval() -> None:
    engine = CountingEngine(all_modules())
    with open_session(engine, residency="active") as session:
        threaded = Threaded(session, Readings(HOT))
        engine.broken = {"w50"}
        with threaded.adaptive:
            with threaded.time.settled():
                threaded.adaptive.predict(IMAGE)
            assert threaded.adaptive.predict(IMAGE).tier == 0
            engine.broken = set()
            threaded.time.advance(5_000)
            assert threaded.adaptive.predict(IMAGE).tier == 2


class Held:
    """An engine whose programs wait, while `hold` is set, until they are let go."""

    name = "eager"

    def __init__(self) -> None:
        self._engine = CountingEngine(all_modules())
        self.hold, self.inside, self.go = False, threading.Event(), threading.Event()

    def load(self, path: Path) -> Loaded:
        loaded = self._engine.load(path)
        run = loaded.run

        def held(method: str, value: Array) -> tuple[Array, ...]:
            if self.hold:
                self.inside.set()
                assert self.go.wait(20)
            return run(method, value)

        loaded.run = held
        return loaded


def test_signals_are_read_when_a_long_prediction_begins_and_when_it_ends() -> None:
    engine = Held()
    with Session(Folder(manifest()), engine) as session:
        engine.hold, threaded = True, Threaded(session)
        with threaded.adaptive:
            predictor = threading.Thread(target=threaded.adaptive.predict, args=(IMAGE,))
            with threaded.time.settled():
                predictor.start()
            assert engine.inside.wait(20)
            assert threaded.source.reads == [1_000]
            threaded.time.advance(40_000)
            assert threaded.time.waits[-1] is None
            with threaded.time.settled():
                engine.go.set()
            predictor.join(20)
            assert threaded.source.reads == [1_000, 41_000]


def test_script_decides_through_the_thread_when_readings_are_put(session: Session) -> None:
    source = ScriptedSource()
    threaded = Threaded(session, source)
    with threaded.adaptive:
        with threaded.time.settled():
            source.put(Signals(threaded.time.now_ms, saver=True))
        assert threaded.adaptive.predict(IMAGE).reason == "down:saver"


def test_close_ends_everything_but_what_it_was_given(session: Session, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    threaded = Threaded(session, log=log)
    with threaded.time.settled():
        threaded.adaptive.predict(IMAGE)
    threaded.adaptive.close()
    threaded.adaptive.close()
    assert threaded.source.listener is None
    assert "ebbtide-signals" not in {thread.name for thread in threading.enumerate()}
    written = log.read_bytes()
    for refused in (
        lambda: threaded.adaptive.predict(IMAGE),
        lambda: threaded.adaptive.predict_tensor(np.zeros((1, 1, 8, 8), np.float32)),
        lambda: threaded.adaptive.override(1),
        lambda: threaded.adaptive.limit(1),
    ):
        with pytest.raises(EbbtideError) as caught:
            refused()
        assert caught.value.code == "runtime.closed"
    threaded.adaptive.notify()
    assert threaded.adaptive.poll() is None
    assert log.read_bytes() == written
    assert session.predict(IMAGE).tier == 0, "the session is the caller's"


def test_close_from_a_callback_ends_the_thread(session: Session) -> None:
    closed = threading.Event()

    def told(decision: Decision) -> None:
        threaded.adaptive.close()
        closed.set()

    threaded = Threaded(session, on_decision=told)
    threaded.adaptive.predict(IMAGE)
    assert closed.wait(20)
    for thread in threading.enumerate():
        if thread.name == "ebbtide-signals":
            thread.join(20)
            assert not thread.is_alive()


def test_source_that_cannot_be_listened_to_is_refused_and_nothing_stays_open(session: Session, tmp_path: Path) -> None:
    class Deaf(Readings):
        def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
            raise EbbtideError("signals.source", "There is no bus.")

    with pytest.raises(EbbtideError) as caught:
        Threaded(session, Deaf(), log=tmp_path / "log.jsonl")
    assert caught.value.code == "signals.source"
    assert not any(Path(link).resolve() == tmp_path / "log.jsonl" for link in Path("/proc/self/fd").glob("*"))


def test_failed_prediction_is_the_callers_and_is_not_recorded(session: Session) -> None:
    stepped = Stepped(session)
    with pytest.raises(EbbtideError):
        stepped.adaptive.predict("no image")
    assert stepped.adaptive.slowdown.predictions == 0
