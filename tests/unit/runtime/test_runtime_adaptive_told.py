"""What the adaptive session tells: callbacks and the log of its decisions."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from runtime_adapting import COLD, HOT, IMAGE, WARM, Stepped, codes, fail
from runtime_bundles import CountingEngine, Folder, all_modules, manifest

from ebbtide.bundle.manifest import LatencyEntry
from ebbtide.engine import Loaded
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Session
from ebbtide.runtime.decision_log import DecisionLine, read_decisions
from ebbtide.runtime.policy import Decision, Signals


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


def test_session_goes_on_when_callbacksfail(session: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "log.jsonl"
    stepped = Stepped(
        session,
        on_decision=lambda decision: fail(ValueError("in the application")),
        on_stop=lambda decision: fail(KeyError("too")),
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
