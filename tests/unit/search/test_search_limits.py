"""Limits on loss and latency: rows that keep them, or the reason why none does."""

from __future__ import annotations

import pytest
from search_samples import CLASSES, costs_of, random_records

from ebbtide.errors import EbbtideError
from ebbtide.search import (
    Costs,
    Limits,
    SearchSettings,
    Timed,
    admissible_thresholds,
    pareto,
    search_thresholds,
    within,
)

RECORDS = random_records(300, (0, 1, 3), seed=1, types=("small", "large"))
FOUND = search_thresholds(
    RECORDS,
    costs_of(RECORDS),
    choices=[admissible_thresholds(row, classes=CLASSES) for row in RECORDS.confidences[:-1]],
    metric="accuracy",
    classes=CLASSES,
    settings=SearchSettings(trade_offs=(0.5, 0.7, 0.8, 0.9, 0.95, 0.98)),
)
DENSE = next(one for one in FOUND if not one.thresholds).score.value
TIMES = {"w100": Timed(RECORDS, Costs((50.0, 40.0, 30.0, 20.0), dict.fromkeys(range(4), 8.0), 10.0))}
"""Unlike MACs: here the first stages are the slow ones."""


def test_rows_are_the_table_itself_when_nothing_is_asked() -> None:
    assert within(FOUND, Limits(), reference=DENSE).rows == tuple(pareto(FOUND))


def test_rows_keep_the_limit_of_loss_and_nothing_that_keeps_it_is_better() -> None:
    rows = within(FOUND, Limits(max_drop_points=5.0), reference=DENSE).rows
    kept = [one for one in FOUND if one.score.value >= DENSE - 0.05]
    assert 0 < len(kept) < len(FOUND)
    assert rows == tuple(pareto(kept))
    assert rows[-1].score.mean_cost == min(one.score.mean_cost for one in kept)


def test_rows_keep_limits_of_mean_and_worst_latency() -> None:
    timed = {one: TIMES["w100"].score(one) for one in FOUND}
    plain = next(score for one, score in timed.items() if not one.thresholds)
    assert plain.mean_cost == plain.worst_cost == 150.0
    mean = sorted(score.mean_cost for score in timed.values())[len(timed) // 2]
    rows = within(FOUND, Limits(max_latency_us=mean), reference=DENSE, times=TIMES).rows
    assert rows
    assert all(timed[row].mean_cost <= mean + 1e-9 for row in rows)
    rows = within(FOUND, Limits(max_worst_latency_us=150.0), reference=DENSE, times=TIMES).rows
    assert [row.thresholds for row in rows] == [()]


def test_table_is_empty_with_its_reason_when_one_limit_cannot_be_kept() -> None:
    found = within(FOUND, Limits(max_drop_points=5.0, max_latency_us=1.0), reference=DENSE, times=TIMES)
    fastest = min(TIMES["w100"].score(one).mean_cost for one in FOUND)
    assert found.rows == ()
    assert found.binding == ("max_latency_us",)
    assert found.reason == f"No configuration keeps max_latency_us = 1: the nearest takes {fastest:.4g}."


def test_table_is_empty_with_its_reason_when_limits_exclude_each_other() -> None:
    timed = {one: TIMES["w100"].score(one).mean_cost for one in FOUND}
    fastest = min(timed.values())
    found = within(FOUND, Limits(max_drop_points=0.0, max_latency_us=fastest), reference=DENSE, times=TIMES)
    assert found.rows == ()
    assert found.binding == ("max_drop_points", "max_latency_us")
    quickest_good = min(time for one, time in timed.items() if one.score.value >= DENSE)
    assert f"the nearest takes {quickest_good:.4g}" in found.reason


def test_rows_only_grow_fewer_when_a_limit_tightens() -> None:
    counts = []
    for limit in (20.0, 10.0, 5.0, 1.0, 0.0):
        rows = within(FOUND, Limits(max_drop_points=limit), reference=DENSE).rows
        counts.append(len(rows))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] > 0


def test_nothing_to_choose_from_is_said() -> None:
    found = within([], Limits(max_drop_points=1.0), reference=0.9)
    assert (found.rows, found.reason) == ((), "There are no configurations to choose from.")


@pytest.mark.parametrize(
    "wrong", [{"max_drop_points": -1.0}, {"max_latency_us": 0.0}, {"max_worst_latency_us": float("nan")}]
)
def test_limits_are_refused_when_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(EbbtideError) as caught:
        Limits(**wrong)
    assert caught.value.code == "search.limits"


def test_latency_cannot_be_limited_without_times() -> None:
    with pytest.raises(EbbtideError, match="no times of w100") as caught:
        within(FOUND, Limits(max_latency_us=100.0), reference=DENSE)
    assert caught.value.code == "search.limits"
