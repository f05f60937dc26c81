from __future__ import annotations

import gc
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.errors import EbbtideError
from ebbtide.profiling import Plan, compare, compare_timings, summarise, time_interleaved
from ebbtide.profiling.timing import turn_order


def busy(microseconds: float) -> None:
    end = time.perf_counter_ns() + microseconds * 1000
    while time.perf_counter_ns() < end:
        pass


def test_summarise_gives_known_values_when_rounds_are_known() -> None:
    timing = summarise([[1, 2, 3], [2, 3, 4], [10, 11, 12]])
    assert timing.calls == 9
    assert timing.p50_us == 3
    assert timing.minimum_us == 1
    assert timing.mean_us == pytest.approx(48 / 9, abs=1e-3)
    assert timing.p90_us == pytest.approx(11.2)
    assert timing.round_p50_us == (2, 3, 11)
    assert timing.mad_us == 1
    assert timing.iqr_us == pytest.approx(4.5)


@given(st.lists(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=8), min_size=1, max_size=8))
def test_summarise_keeps_order_statistics_ordered_when_times_are_any(rounds: list[list[float]]) -> None:
    timing = summarise(rounds)
    assert timing.minimum_us <= timing.p50_us <= timing.p90_us
    assert timing.calls == sum(map(len, rounds))


def test_summarise_spread_is_unmoved_when_one_round_was_disturbed() -> None:
    calm = [[100.0, 101.0, 102.0]] * 9
    assert summarise([*calm, [5000.0] * 3]).mad_us == summarise([*calm, calm[0]]).mad_us == 0


@pytest.mark.parametrize("rounds", [[], [[]], [[1.0], []]])
def test_summarise_refuses_when_there_are_no_times(rounds: list[list[float]]) -> None:
    with pytest.raises(EbbtideError) as caught:
        summarise(rounds)
    assert caught.value.code == "profiling.plan"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_turn_order_puts_each_case_at_each_place_equally_often_when_run_over_a_whole_period(count: int) -> None:
    names = tuple("abcde"[:count])
    places = {name: np.zeros(count, dtype=int) for name in names}
    for turn in range(2 * count):
        order = turn_order(names, turn)
        assert sorted(order) == sorted(names)
        for place, name in enumerate(order):
            places[name][place] += 1
    assert all((counts == 2).all() for counts in places.values())


def test_time_interleaved_calls_each_case_as_planned_when_there_are_two() -> None:
    seen: list[str] = []
    plan = Plan(warm_up=2, rounds=4, repeats=3, settle=1)
    timings = time_interleaved({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, plan)
    assert seen.count("a") == seen.count("b") == plan.calls == 2 + 4 * 4
    assert timings["a"].calls == 12
    assert seen[4:12] == ["a"] * 4 + ["b"] * 4
    assert seen[12:20] == ["b"] * 4 + ["a"] * 4


def test_time_interleaved_restores_the_collector_when_a_case_fails() -> None:
    def fail() -> None:
        raise KeyError("mine")

    assert gc.isenabled()
    with pytest.raises(KeyError):
        time_interleaved({"a": fail}, Plan(warm_up=0, rounds=1, repeats=1))
    assert gc.isenabled()


def test_compare_finds_the_ratio_when_one_call_takes_twice_as_long() -> None:
    found = compare(lambda: busy(400), lambda: busy(200), plan=Plan(warm_up=1, rounds=8, repeats=5))
    assert found.ratio == pytest.approx(2.0, rel=0.2)
    assert len(found.round_ratios) == 8
    assert found.a.p50_us == pytest.approx(400, rel=0.25)


def test_compare_ratio_stays_when_the_machine_slows_down_during_the_run() -> None:
    calls = 0

    def drifting(microseconds: float) -> None:
        nonlocal calls
        calls += 1
        busy(microseconds * (1 + calls / 100))

    found = compare(lambda: drifting(200), lambda: drifting(200), plan=Plan(warm_up=0, rounds=12, repeats=4))
    assert found.a.p50_us > 250
    assert found.ratio == pytest.approx(1.0, rel=0.12)


def test_compare_timings_refuses_when_timings_are_of_different_runs() -> None:
    with pytest.raises(EbbtideError) as caught:
        compare_timings(summarise([[1.0]]), summarise([[1.0], [2.0]]))
    assert caught.value.code == "profiling.plan"


def test_compare_timings_refuses_when_a_case_took_no_time() -> None:
    with pytest.raises(EbbtideError) as caught:
        compare_timings(summarise([[1.0]]), summarise([[0.0]]))
    assert caught.value.code == "profiling.plan"


@pytest.mark.parametrize("change", [{"warm_up": -1}, {"rounds": 0}, {"repeats": 0}, {"settle": -1}])
def test_plan_refuses_when_a_number_is_out_of_range(change: dict[str, int]) -> None:
    with pytest.raises(EbbtideError) as caught:
        Plan(**change)
    assert caught.value.code == "profiling.plan"
    assert caught.value.place == next(iter(change))
