"""The adaptive session on time that the test moves: what it decides, applies and survives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runtime_adapting import COLD, HOT, IMAGE, WARM, Stepped, codes, fail
from runtime_bundles import CountingEngine, all_modules, images, open_session

from ebbtide.bundle.manifest import DEFAULT_POLICY
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Session
from ebbtide.runtime.decision_log import DecisionLine, OverrideLine, read_decisions
from ebbtide.runtime.policy import Signals


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


BAD = {
    "raises": (lambda t: fail(OSError("the sensor is gone")), "signals.source"),
    "raises_own": (lambda t: fail(EbbtideError("signals.value", "Odd.")), "signals.value"),
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
