"""The tier policy: what holds of every run, what its decisions say, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_restated import decide

from ebbtide.bundle import DEFAULT_POLICY
from ebbtide.bundle.manifest import PolicyEntry
from ebbtide.errors import EbbtideError
from ebbtide.runtime.policy import DEMANDING, RANGES, Decision, Policy, Signals
from ebbtide.runtime.policy_signals import check_signals, signals_json, signals_of_json

# Where something happens: the entries, the levels they are left at, one beside each, and the ends of the ranges.
_EDGES = {
    "headroom_mh": (0, 600, 684, 685, 749, 750, 784, 785, 849, 850, 884, 885, 949, 950, 10_000),
    "headroom_age_ms": (0, 15_000, 15_001),
    "light_mh": (0, 700, 779, 780, 900),
    "moderate_mh": (0, 700, 933, 1000),
    "battery_percent": (0, 5, 9, 10, 14, 15, 19, 20, 24, 25, 100),
    "battery_temperature_dc": (-400, 369, 370, 389, 390, 391, 409, 410, 429, 430, 1500),
}


def one_of(name: str) -> st.SearchStrategy[Any]:
    if name in ("charging", "saver"):
        return st.booleans()
    low, high = RANGES[name]
    values = st.sampled_from(_EDGES[name]) if name in _EDGES else st.integers(low, high)
    return values if name == "headroom_age_ms" else st.none() | values


distances = st.sampled_from((0, 1, 5000, 5000, 20_000, 59_999, 60_000, 60_001, 600_000))
readings = st.builds(Signals, t_ms=st.just(0), **{name: one_of(name) for name in RANGES if name != "t_ms"})
bounds = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda pair: (min(pair), max(pair)))


@st.composite
def runs(draw: st.DrawFn, most: int = 25) -> list[Signals]:
    """Readings in the order of time; neighbours are often alike, so that latches and holds have something to do."""
    made: list[Signals] = []
    t_ms = draw(st.integers(0, 10))
    for _ in range(draw(st.integers(1, most))):
        t_ms += draw(distances)
        reading = replace(made[-1] if made and draw(st.booleans()) else draw(readings), t_ms=t_ms)
        made.append(reading)
    return made


@given(runs(), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_tier_stays_in_range_and_rises_by_one_when_limits_stand(run, tiers):
    policy = Policy(DEFAULT_POLICY, tiers)
    before, down_ms = 0, None
    for signals in run:
        decision = policy.step(signals)
        assert 0 <= decision.tier < tiers
        assert decision.tier >= before - 1
        if decision.tier < before:
            assert decision.reason == "up"
            assert down_ms is None or signals.t_ms - down_ms >= DEFAULT_POLICY.up_hold_ms
        if decision.tier > before:
            assert decision.reason.startswith("down:")
            down_ms = signals.t_ms
        before = decision.tier


@given(st.lists(distances, min_size=1, max_size=30), st.integers(1, 4))
def test_tier_stays_0_when_nothing_is_known(steps, tiers):
    policy = Policy(DEFAULT_POLICY, tiers)
    t_ms = 0
    for distance in steps:
        t_ms += distance
        assert (policy.step(Signals(t_ms)).tier, policy.step(Signals(t_ms)).reason) == (0, "keep:none")


@given(runs(), st.integers(1, 4), st.lists(bounds, min_size=25, max_size=25))
@settings(max_examples=60, deadline=None)
def test_decisions_equal_the_rule_restated_when_limits_move(run, tiers, limits):
    policy = Policy(DEFAULT_POLICY, tiers, minimum_tier=limits[0][0], maximum_tier=limits[0][1])
    made = []
    for signals, (low, high) in zip(run, limits, strict=False):
        policy.limit(low, high)
        decision = policy.step(signals)
        assert min(low, tiers - 1) <= decision.tier <= min(high, tiers - 1)
        made.append((decision.tier, decision.reason))
    assert made == decide(DEFAULT_POLICY, tiers, run, limits[: len(run)])


@given(runs(most=15), readings, st.sampled_from(sorted(RANGES)), st.sampled_from((1.0, "1", [1], object())))
@settings(max_examples=100, deadline=None)
def test_state_is_unchanged_when_a_reading_is_refused(run, reading, name, wrong):
    policy = Policy(DEFAULT_POLICY, 4)
    for signals in run:
        policy.step(signals)
    before = policy.state
    low, high = RANGES[name]
    outside = [low - 1, high + 1] if name not in ("charging", "saver") else [0, 1]
    for value in (wrong, *outside, *([] if name in ("charging", "saver") else [True])):
        with pytest.raises(EbbtideError) as caught:
            policy.step(replace(reading, **{"t_ms": run[-1].t_ms, name: value}))
        assert (caught.value.code, caught.value.place) == ("policy.signal", name)
        assert policy.state == before
    if run[-1].t_ms:
        with pytest.raises(EbbtideError) as caught:
            policy.step(replace(reading, t_ms=run[-1].t_ms - 1))
        assert caught.value.code == "policy.time"
        assert policy.state == before


@given(readings)
def test_reading_survives_json_when_written_and_read(reading):
    written = signals_json(reading)
    assert signals_of_json(written) == reading
    assert None not in written.values()


@pytest.mark.parametrize("name", ["t_ms", "headroom_age_ms", "charging", "saver"])
def test_required_field_is_refused_when_none(name):
    with pytest.raises(EbbtideError) as caught:
        check_signals(replace(Signals(0), **{name: None}))
    assert (caught.value.code, caught.value.place) == ("policy.signal", name)


@pytest.mark.parametrize("value", [None, [], "x", 5, {}, {"t_ms": None}, {"t_ms": 0, "headrom_mh": 1}, {"t_ms": 0.0}])
def test_reading_of_json_is_refused_when_it_is_none(value):
    with pytest.raises(EbbtideError) as caught:
        signals_of_json(value)
    assert caught.value.code == "policy.signal"


def test_mistyped_signal_names_the_nearest_when_refused():
    with pytest.raises(EbbtideError) as caught:
        signals_of_json({"t_ms": 0, "headrom_mh": 700})
    assert "headroom_mh" in (caught.value.hint or "")


def decided(signals: Signals, **options: Any) -> Decision:
    return Policy(DEFAULT_POLICY, 4, **options).step(signals)


@pytest.mark.parametrize(
    ("signals", "reason", "used"),
    [
        (
            Signals(0, 800, 5, 780, 933, android_status=1),
            "down:headroom",
            {"headroom_mh": 800, "headroom_age_ms": 5, "light_mh": 780, "moderate_mh": 933},
        ),
        (Signals(0, 800), "down:headroom", {"headroom_mh": 800, "headroom_age_ms": 0}),
        (Signals(0, 600, android_status=2), "down:status", {"android_status": 2}),
        (Signals(0, apple_state=3, saver=True), "down:apple_state", {"apple_state": 3}),
        (Signals(0, battery_percent=10), "down:battery", {"battery_percent": 10, "charging": False}),
        (Signals(0, saver=True, battery_percent=90), "down:saver", {"saver": True}),
        (Signals(0, battery_temperature_dc=400), "down:battery_temperature", {"battery_temperature_dc": 400}),
        (Signals(0, apple_state=0), "keep:none", {"apple_state": 0, "charging": False, "saver": False}),
        (Signals(0), "keep:none", {"charging": False, "saver": False}),
    ],
)
def test_decision_names_what_it_used_when_asked(signals, reason, used):
    decision = decided(signals)
    assert (decision.reason, decision.used, decision.signals) == (reason, used, signals)


def test_decision_names_the_limits_when_the_application_decides():
    assert decided(Signals(0), minimum_tier=1).used == {"minimum_tier": 1, "maximum_tier": 3}
    policy = Policy(DEFAULT_POLICY, 4)
    policy.step(Signals(0, apple_state=3))
    policy.limit(0, 1)
    decision = policy.step(Signals(1, apple_state=3))
    assert (decision.reason, decision.used) == ("up:application", {"minimum_tier": 0, "maximum_tier": 1})


def test_hold_names_the_signal_that_still_demands_when_a_lower_tier_is_due():
    policy = Policy(DEFAULT_POLICY, 4)
    policy.step(Signals(0, apple_state=3))
    decision = policy.step(Signals(5000, apple_state=1, battery_percent=50))
    assert (decision.reason, decision.signal, decision.used) == ("hold", "apple_state", {"apple_state": 1})


@pytest.mark.parametrize(
    ("signals", "stops"),
    [
        (Signals(0, android_status=4, headroom_mh=10_000), False),
        (Signals(0, android_status=5), True),
        (Signals(0, android_status=6), True),
        (Signals(0, apple_state=2), False),
        (Signals(0, apple_state=3), True),
        (Signals(0, battery_percent=0, battery_temperature_dc=1500), False),
    ],
)
def test_application_should_stop_when_the_phone_is_about_to(signals, stops):
    assert decided(signals).should_stop is stops


def test_application_should_stop_when_its_limits_hide_the_heat():
    assert decided(Signals(0, android_status=6), maximum_tier=0).should_stop


@pytest.mark.parametrize(
    ("field", "numbers"),
    [
        ("enter_mh", (850, 750, 950)),
        ("battery_temperature_enter_dc", (390, 430, 410)),
        ("battery_enter_percent", (5, 10, 20)),
        ("status_floor", (0, 1, 2, 3, 3, 3, 2)),
        ("apple_floor", (0, 2, 1, 3)),
    ],
)
def test_policy_refuses_its_parameters_when_out_of_order(field, numbers):
    entry = PolicyEntry.model_validate({**DEFAULT_POLICY.model_dump(), field: numbers})
    with pytest.raises(EbbtideError) as caught:
        Policy(entry, 4)
    assert (caught.value.code, caught.value.place) == ("policy.parameters", field)


@pytest.mark.parametrize("tiers", [0, 5, -1, True, 2.0, "4", None])
def test_policy_refuses_a_number_of_tiers_when_not_1_to_4(tiers):
    with pytest.raises(EbbtideError) as caught:
        Policy(DEFAULT_POLICY, tiers)
    assert (caught.value.code, caught.value.place) == ("policy.parameters", "tiers")


@pytest.mark.parametrize("limits", [(2, 1), (-1, 2), (0, 4), (True, 2), (0, 2.0), ("0", 3), (None, 3), (4, None)])
def test_limits_stay_when_new_ones_are_refused(limits):
    policy = Policy(DEFAULT_POLICY, 4, minimum_tier=1, maximum_tier=2)
    with pytest.raises(EbbtideError) as caught:
        policy.limit(*limits)
    assert caught.value.code == "policy.limits"
    assert policy.limits == (1, 2)
    assert policy.tier == 1
    with pytest.raises(EbbtideError):
        Policy(DEFAULT_POLICY, 4, minimum_tier=limits[0], maximum_tier=limits[1])


def test_limits_end_with_the_bundle_when_it_has_fewer_tiers():
    policy = Policy(DEFAULT_POLICY, 2, minimum_tier=2)
    assert (policy.limits, policy.tier, policy.tiers) == ((1, 1), 1, 2)
    policy.limit()
    assert policy.limits == (0, 1)


def test_every_signal_stands_once_when_demands_are_listed():
    listed = [field for fields in DEMANDING.values() for field in fields]
    assert sorted([*listed, "t_ms"]) == sorted(RANGES)


def test_nothing_can_be_changed_when_decided():
    decision = decided(Signals(0))
    with pytest.raises(AttributeError):
        decision.tier = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        decision.signals.t_ms = 2  # type: ignore[misc]
