from __future__ import annotations

import itertools

import numpy as np
import pytest

from ebbtide.errors import EbbtideError
from ebbtide.exits import Records
from ebbtide.search import (
    OFF,
    Candidate,
    Costs,
    Score,
    admissible_thresholds,
    choose_tiers,
    leaving,
    pareto,
    score,
    search_thresholds,
    thin,
)
from ebbtide.search.sweep import TRADE_OFFS, _Problem, _weights

CLASSES = 4


def random_records(count: int, positions: tuple[int, ...], *, seed: int, decimals: int | None = None) -> Records:
    """Exits that grow better with depth and whose confidence tells something."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, count)
    predictions, confidences = [], []
    for row in range(len(positions) + 1):
        skill = 0.4 + 0.5 * row / max(len(positions), 1)
        right = generator.random(count) < skill
        predictions.append(np.where(right, labels, (labels + generator.integers(1, CLASSES, count)) % CLASSES))
        values = generator.normal(right * 1.5, 1.0)
        confidences.append(values if decimals is None else values.round(decimals))
    return Records(positions, labels, np.array(predictions), np.array(confidences, dtype=np.float32))


COSTS = Costs(stages=(10.0, 20.0, 30.0), exits={0: 1.0, 1: 2.0, 2: 3.0}, head=15.0)


def naive_score(records: Records, thresholds: np.ndarray) -> tuple[float, float]:
    right = paid = 0.0
    for sample in range(len(records)):
        cost = 0.0
        for stage in range(4):
            cost += (*COSTS.stages, COSTS.head)[stage]
            if stage == 3:
                row = len(records.positions)
                break
            if stage in records.positions and np.isfinite(thresholds[records.positions.index(stage)]):
                row = records.positions.index(stage)
                cost += COSTS.exits[stage]
                if records.confidences[row, sample] > thresholds[row]:
                    break
        right += records.predictions[row, sample] == records.labels[sample]
        paid += cost
    return right / len(records), paid / len(records)


@pytest.mark.parametrize("seed", range(5))
def test_score_equals_a_loop_over_samples(seed: int) -> None:
    records = random_records(200, (0, 1, 2), seed=seed)
    thresholds = np.array([0.5, OFF if seed % 2 else 1.0, -0.5], dtype=np.float32)
    found = score(records, COSTS, thresholds, metric="accuracy", classes=CLASSES)
    assert (found.value, found.mean_cost) == pytest.approx(naive_score(records, thresholds), abs=1e-9)
    assert sum(found.shares) == pytest.approx(1.0)


def test_score_is_the_model_itself_when_all_exits_are_off() -> None:
    records = random_records(300, (0, 1), seed=1)
    found = score(records, COSTS, np.array([OFF, OFF]), metric="accuracy", classes=CLASSES)
    assert found.value == (records.predictions[-1] == records.labels).mean()
    assert found.mean_cost == COSTS.total
    assert found.shares == (0.0, 0.0, 1.0)


def test_score_is_the_exit_alone_when_everybody_leaves_first() -> None:
    records = random_records(300, (0, 1), seed=2)
    lowest = admissible_thresholds(records.confidences[0], classes=CLASSES)[0]
    records.confidences[0] = np.maximum(records.confidences[0], -np.log(CLASSES - 1))  # the bound a real exit keeps
    found = score(records, COSTS, np.array([lowest, OFF]), metric="accuracy", classes=CLASSES)
    assert found.value == (records.predictions[0] == records.labels).mean()
    assert found.mean_cost == COSTS.stages[0] + COSTS.exits[0]


def test_leaving_is_strict_when_confidence_equals_threshold() -> None:
    records = Records((0,), np.array([0, 0]), np.zeros((2, 2), int), np.array([[1.0, 1.5], [0, 0]], np.float32))
    assert leaving(records, np.array([1.0], np.float32)).tolist() == [1, 0]


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
def test_best_step_equals_brute_force(seed: int, decimals: int | None, metric: str) -> None:
    records = random_records(120, (0, 1, 2), seed=seed, decimals=decimals)
    choices = [admissible_thresholds(row, classes=CLASSES, gap=1e-6) for row in records.confidences[:-1]]
    problem = _Problem(records, COSTS, _weights(records.labels, metric), choices)
    generator = np.random.default_rng(seed)
    for trade_off in (0.2, 0.5, 0.8, 0.97):
        state = np.array([generator.choice([*c, OFF]) for c in choices], dtype=np.float32)
        for row in range(3):
            off = state.copy()
            off[row] = OFF
            threshold, gain = problem.best_step(state, row, trade_off)
            values = []
            for choice in [*choices[row], OFF]:
                tried = off.copy()
                tried[row] = choice
                values.append(problem.objective(tried, trade_off))
            best = off.copy()
            best[row] = threshold
            assert problem.objective(best, trade_off) == pytest.approx(min(values), abs=1e-12)
            assert problem.objective(off, trade_off) - problem.objective(best, trade_off) == pytest.approx(
                gain, abs=1e-12
            )


def test_descend_never_raises_the_objective_along_sweeps() -> None:
    records = random_records(400, (0, 1, 2), seed=7)
    choices = [admissible_thresholds(row, classes=CLASSES) for row in records.confidences[:-1]]
    problem = _Problem(records, COSTS, _weights(records.labels, "accuracy"), choices)
    for trade_off in TRADE_OFFS[::8]:
        state = np.full(3, OFF, dtype=np.float32)
        last = problem.objective(state, trade_off)
        for _ in range(4):
            for row in range(3):
                state[row], _ = problem.best_step(state, row, trade_off)
                now = problem.objective(state, trade_off)
                assert now <= last + 1e-12
                last = now


def test_search_finds_the_best_pair_when_two_exits_can_be_enumerated() -> None:
    records = random_records(60, (0, 1), seed=3)
    choices = [admissible_thresholds(row, classes=CLASSES, gap=0.05) for row in records.confidences[:-1]]
    problem = _Problem(records, COSTS, _weights(records.labels, "accuracy"), choices)
    found = {
        c.thresholds for c in search_thresholds(records, COSTS, choices=choices, metric="accuracy", classes=CLASSES)
    }
    assert () in found
    gaps = []
    for trade_off in TRADE_OFFS[::6]:
        pairs = itertools.product([*choices[0], OFF], [*choices[1], OFF])
        best = min(problem.objective(np.array(pair, dtype=np.float32), trade_off) for pair in pairs)
        gaps.append(problem.objective(problem.descend(trade_off), trade_off) - best)
    # Coordinate sweeps may stop in a local optimum, but not far from the best pair.
    assert sum(gap <= 1e-12 for gap in gaps) >= 0.8 * len(gaps)
    assert max(gaps) < 0.05


def test_admissible_thresholds_keep_their_distance() -> None:
    values = np.array([0.0, 0.0004, 0.5, 0.5009, 2.0], dtype=np.float32)
    found = admissible_thresholds(values, classes=3)
    assert found.dtype == np.float32
    assert len(found) == 3
    assert found[0] < -np.log(2)
    for threshold in found[1:]:
        assert np.abs(values - threshold).min() >= 5e-4 - 1e-6


def candidate(value: float, cost: float) -> Candidate:
    return Candidate(((0, cost),), Score(value, cost, (1.0,)))


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
