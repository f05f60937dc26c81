"""The one evaluator, and what it counts as cost."""

from __future__ import annotations

import numpy as np
import pytest
from search_samples import CLASSES, HEAD, STAGES, costs_of, naive_score, problem_of, random_records, random_thresholds

from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey, Records
from ebbtide.search import OFF, Costs, admissible_thresholds, every_threshold, leaving, score


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("seed", range(4))
def test_score_equals_a_loop_over_samples(seed: int, decimals: int | None) -> None:
    records = random_records(150, (0, 1, 3), seed=seed, types=("small", "large"), decimals=decimals)
    problem, generator = problem_of(records), np.random.default_rng(seed)
    for _ in range(5):
        thresholds = random_thresholds(problem, generator)
        found = score(records, costs_of(records), thresholds, metric="accuracy", classes=CLASSES)
        assert (found.value, found.mean_cost) == pytest.approx(naive_score(records, thresholds), abs=1e-9)
        assert problem.measure(thresholds) == pytest.approx((found.value, found.mean_cost), abs=1e-9)
        assert sum(found.shares) == pytest.approx(1.0)
        on = [key for key, value in zip(records.keys, thresholds, strict=True) if value < OFF]
        assert found.worst_cost == pytest.approx(sum(STAGES) + HEAD + sum(costs_of(records).exits[k] for k in on))


def test_score_is_the_model_itself_when_all_exits_are_off() -> None:
    records = random_records(300, (0, 1), seed=1, types=("small", "large"))
    found = score(records, costs_of(records), problem_of(records).all_off(), metric="accuracy", classes=CLASSES)
    assert found.value == (records.predictions[-1] == records.labels).mean()
    assert found.mean_cost / costs_of(records).total == 1.0
    assert found.shares == (0.0, 0.0, 0.0, 0.0, 1.0)


def test_score_is_the_exit_alone_when_everybody_leaves_first() -> None:
    records = random_records(300, (0, 1), seed=2)
    lowest = admissible_thresholds(records.confidences[0], classes=CLASSES)[0]
    found = score(records, costs_of(records), np.array([lowest, OFF]), metric="accuracy", classes=CLASSES)
    assert found.value == (records.predictions[0] == records.labels).mean()
    assert found.mean_cost == STAGES[0] + costs_of(records).exits[ExitKey(0, "small")]


def test_leaving_is_strict_when_confidence_equals_threshold() -> None:
    records = random_records(2, (0,), seed=0)
    records.confidences[0] = [1.0, 1.5]
    assert leaving(records, np.array([1.0], np.float32)).tolist() == [1, 0]


def test_cost_never_falls_when_the_threshold_of_the_only_exit_rises() -> None:
    records = random_records(200, (1,), seed=3, decimals=1)
    costs = [
        score(records, costs_of(records), np.array([t]), metric="accuracy", classes=CLASSES).mean_cost
        for t in every_threshold(records.confidences[0])
    ]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_same_records_cost_the_same_when_they_are_read_twice(tmp_path) -> None:
    records = random_records(100, (0, 2), seed=4, types=("small", "large"))
    records.save(tmp_path / "records.npz")
    costs, thresholds = costs_of(records), random_thresholds(problem_of(records), np.random.default_rng(4))
    found = [
        score(
            Records.load(tmp_path / "records.npz", level="w100", precision="float32"),
            costs,
            thresholds,
            metric="accuracy",
            classes=CLASSES,
        )
        for _ in range(2)
    ]
    assert found[0] == found[1] == score(records, costs, thresholds, metric="accuracy", classes=CLASSES)


def test_two_exits_of_one_position_are_refused() -> None:
    records = random_records(50, (0,), seed=5, types=("small", "large"))
    with pytest.raises(EbbtideError) as caught:
        score(records, costs_of(records), np.zeros(2, np.float32), metric="accuracy", classes=CLASSES)
    assert caught.value.code == "search.types"


def test_costs_of_methods_are_those_of_their_names() -> None:
    measured = {"stage0": 10.0, "exit0": 2.0, "stage1": 20.0, "exit1": 3.0, "head": 5.0}
    costs = Costs.of_methods(measured)
    assert costs == Costs((10.0, 20.0), {0: 2.0, 1: 3.0}, 5.0)
    keys = (ExitKey(0, "small"), ExitKey(1, "large"))
    assert costs.of_exits(keys).tolist() == [2.0, 3.0]
    assert costs.with_boundaries(0.5).of_exits(keys).tolist() == [2.5, 3.5]
    assert costs.with_boundaries(0.5).total == costs.total


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_costs_are_refused_when_one_is_no_cost(wrong: float) -> None:
    with pytest.raises(EbbtideError) as caught:
        Costs((1.0,), {0: wrong}, 1.0)
    assert caught.value.code == "search.costs"


def test_costs_are_refused_when_a_method_or_an_exit_has_none() -> None:
    with pytest.raises(EbbtideError, match="no head") as caught:
        Costs.of_methods({"stage0": 1.0})
    assert caught.value.code == "search.costs"
    with pytest.raises(EbbtideError, match="2:small") as caught:
        Costs((1.0,), {0: 1.0}, 1.0).of_exits((ExitKey(2, "small"),))
    assert caught.value.code == "search.costs"
