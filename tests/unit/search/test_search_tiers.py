"""Which thresholds are tried, and which configurations become rows and tiers."""

from __future__ import annotations

import numpy as np
import pytest

from ebbtide.errors import EbbtideError
from ebbtide.search import (
    Candidate,
    Score,
    admissible_thresholds,
    choose_tiers,
    every_threshold,
    fewer_thresholds,
    pareto,
    thin,
)


def test_admissible_thresholds_keep_their_distance() -> None:
    values = np.array([0.0, 0.0004, 0.5, 0.5009, 2.0], dtype=np.float32)
    found = admissible_thresholds(values, classes=3)
    assert found.dtype == np.float32
    assert len(found) == 3
    assert found[0] < -np.log(2)
    for threshold in found[1:]:
        assert np.abs(values - threshold).min() >= 5e-4 - 1e-6


def test_every_threshold_tells_apart_all_samples() -> None:
    seen = np.array([0.5, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 2.0], np.float32)
    leavers = [int((seen > t).sum()) for t in every_threshold(seen)]
    assert leavers == [4, 2, 1, 0]


def test_fewer_thresholds_lie_at_even_steps_of_samples() -> None:
    seen = np.random.default_rng(0).normal(0, 1, 4000).astype(np.float32)
    choices = admissible_thresholds(seen, classes=4, gap=1e-5)
    few = fewer_thresholds(choices, seen, 8)
    assert few[0] == choices[0]
    assert set(few) <= set(choices)
    assert [round(8 * float((seen > t).mean())) for t in few] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert fewer_thresholds(choices[:3], seen, 50).tolist() == choices[:3].tolist()
    assert fewer_thresholds(choices[:1], seen, 50).tolist() == choices[:1].tolist()


def candidate(value: float, cost: float) -> Candidate:
    return Candidate(((0, cost),), Score(value, cost, (1.0,), cost), types=("small",))


def test_pareto_keeps_what_nothing_beats() -> None:
    points = [candidate(*p) for p in [(0.9, 100), (0.9, 80), (0.8, 50), (0.85, 60), (0.7, 55), (0.6, 20)]]
    assert [(c.score.value, c.score.mean_cost) for c in pareto(points)] == [(0.9, 80), (0.85, 60), (0.8, 50), (0.6, 20)]


def test_choose_tiers_spreads_over_log_cost_when_count_is_auto() -> None:
    front = [candidate(0.90 - 0.001 * i, 100 * 0.9**i) for i in range(20)]
    chosen = choose_tiers(front)
    assert chosen[0] == 0
    assert chosen[-1] == 19
    assert len(chosen) == 4
    costs = [front[i].score.mean_cost for i in chosen]
    assert costs == sorted(costs, reverse=True)


def test_choose_tiers_stops_at_the_drop_and_at_the_floor() -> None:
    front = [candidate(v, c) for v, c in [(0.9, 100), (0.85, 60), (0.79, 30), (0.5, 10)]]
    assert choose_tiers(front) == [0, 1]
    assert choose_tiers(front, max_drop_points=12) == [0, 1, 2]
    assert choose_tiers(front, max_drop_points=50, floor=0.8) == [0, 1]
    assert choose_tiers(front, count=1) == [0]
    with pytest.raises(EbbtideError) as caught:
        choose_tiers(front, floor=0.95)
    assert caught.value.code == "search.floor"


def test_thin_keeps_the_tiers_when_the_front_is_long() -> None:
    front = [candidate(0.9 - 0.001 * i, 100 - i) for i in range(60)]
    kept = thin(front, keep=[0, 7, 59], rows=16)
    assert len(kept) == 16
    assert all(front[i] in kept for i in (0, 7, 59))
    assert kept == sorted(kept, key=lambda c: -c.score.mean_cost)
