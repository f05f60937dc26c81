"""The exact step against brute force, and the searches that are made of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta
from search_samples import CLASSES, costs_of, problem_of, random_records, random_thresholds

from ebbtide.errors import EbbtideError
from ebbtide.search import (
    OFF,
    CautiousProblem,
    Problem,
    brent_single_pass,
    brent_step,
    descend,
    every_threshold,
    expected_right,
    iterative,
    lower_accuracy,
    metric_weights,
    refine,
    same_threshold,
    score,
    single_pass,
    sweep_down,
    sweep_up,
)
from ebbtide.search.sweep import laters

LAMBDAS = (0.0, 0.3, 0.6, 0.85, 0.97, 1.0)


def arriving_and_later(problem: Problem, thresholds: np.ndarray, group: int):
    alive = problem.all_samples()
    for earlier in range(group):
        alive = problem.staying(alive, thresholds, earlier)
    return alive, laters(problem, thresholds)[group]


def check_steps_against_brute_force(problem: Problem, state: np.ndarray, trade_off: float) -> None:
    for group, rows in enumerate(problem.groups):
        row, threshold, gain = problem.best_step(group, *arriving_and_later(problem, state, group), trade_off)
        off, best = state.copy(), state.copy()
        problem.set_group(off, group, None, OFF)
        problem.set_group(best, group, row, threshold)
        values = [problem.objective(off, trade_off)]
        for tried_row in rows:
            for choice in problem.choices[tried_row]:
                tried = state.copy()
                problem.set_group(tried, group, tried_row, choice)
                values.append(problem.objective(tried, trade_off))
        assert problem.objective(best, trade_off) == pytest.approx(min(values), abs=1e-11)
        assert values[0] - problem.objective(best, trade_off) == pytest.approx(gain, abs=1e-11)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
@pytest.mark.parametrize("normalised", [False, True])
def test_best_step_equals_brute_force_over_types_and_thresholds(
    decimals: int | None, metric: str, normalised: bool
) -> None:
    for seed in range(2):
        records = random_records(70, (0, 1, 3), seed=seed, types=("small", "large"), decimals=decimals)
        problem = problem_of(records, normalised=normalised, metric=metric)
        generator = np.random.default_rng(seed)
        for trade_off in LAMBDAS:
            check_steps_against_brute_force(problem, random_thresholds(problem, generator), trade_off)


def test_cautious_step_equals_brute_force() -> None:
    records = random_records(70, (0, 1, 3), seed=5, types=("small", "large"), decimals=1)
    problem = CautiousProblem(
        records,
        costs_of(records),
        choices=[every_threshold(row) for row in records.confidences[:-1]],
        weights=metric_weights(records.labels, "accuracy"),
        quantile=0.1,
        right=expected_right(records, 0.5),
    )
    generator = np.random.default_rng(5)
    for trade_off in LAMBDAS:
        check_steps_against_brute_force(problem, random_thresholds(problem, generator), trade_off)


def test_off_wins_when_an_exit_gains_nothing() -> None:
    records = random_records(60, (0,), seed=0)
    records.predictions[0] = (records.labels + 1) % CLASSES
    problem = problem_of(records)
    assert single_pass(problem, 1.0).tolist() == [OFF]
    assert np.isfinite(single_pass(problem, 0.0)).all()


def test_exact_step_is_never_worse_than_brent_from_the_same_state() -> None:
    better = 0
    for seed in range(3):
        records = random_records(200, (0, 1, 3), seed=seed, types=("small", "large"))
        problem, generator = problem_of(records), np.random.default_rng(seed)
        for trade_off in LAMBDAS:
            state = random_thresholds(problem, generator)
            for group in range(len(problem.groups)):
                ends = []
                for step in (Problem.best_step, brent_step):
                    end = state.copy()
                    row, threshold, gain = step(problem, group, *arriving_and_later(problem, state, group), trade_off)
                    problem.set_group(end, group, row, threshold)
                    off = state.copy()
                    problem.set_group(off, group, None, OFF)
                    ends.append(problem.objective(end, trade_off))
                    assert problem.objective(off, trade_off) - ends[-1] == pytest.approx(gain, abs=1e-11)
                assert ends[0] <= ends[1] + 1e-11
                better += ends[0] < ends[1] - 1e-6
    assert better > 5


def test_objective_never_rises_along_sweeps_and_is_never_above_all_off() -> None:
    records = random_records(300, (0, 1, 3), seed=7, types=("small", "large"))
    problem = problem_of(records, normalised=True)
    for trade_off in LAMBDAS:
        off = problem.objective(problem.all_off(), trade_off)
        assert off == pytest.approx(1 - trade_off, abs=1e-12)
        state = single_pass(problem, trade_off)
        last = problem.objective(state, trade_off)
        assert last <= off + 1e-12
        for sweep in (sweep_up, sweep_down, sweep_up, sweep_down):
            state = sweep(problem, state, trade_off)
            now = problem.objective(state, trade_off)
            assert now <= last + 1e-12
            last = now
        assert problem.objective(descend(problem, trade_off), trade_off) <= (
            problem.objective(refine(problem, problem.all_off(), trade_off), trade_off) + 1e-12
        )


def test_iterative_search_falls_with_every_change_to_where_no_single_change_helps() -> None:
    records = random_records(120, (0, 1, 3), seed=8, types=("small", "large"), decimals=1)
    problem = problem_of(records)
    for trade_off in LAMBDAS:
        values = [problem.objective(iterative(problem, trade_off, rounds=r), trade_off) for r in range(6)]
        assert values == sorted(values, reverse=True)
        end = iterative(problem, trade_off)
        for group in range(len(problem.groups)):
            changed = end.copy()
            row, threshold, _ = problem.best_step(group, *arriving_and_later(problem, end, group), trade_off)
            problem.set_group(changed, group, row, threshold)
            assert problem.objective(changed, trade_off) >= problem.objective(end, trade_off) - 1e-11


def test_same_threshold_equals_trying_all_of_them() -> None:
    records = random_records(50, (0, 1, 3), seed=9, types=("small", "large"), decimals=1)
    problem = problem_of(records)
    used = 0
    for trade_off in LAMBDAS:
        rows = [row for row, key in enumerate(records.keys) if key.type == "large"]
        values = [problem.objective(problem.all_off(), trade_off)]
        for value in every_threshold(records.confidences[rows].ravel()):
            tried = problem.all_off()
            tried[rows] = value
            values.append(problem.objective(tried, trade_off))
        found = same_threshold(problem, "large", trade_off)
        used += int(np.isfinite(found).any())
        assert problem.objective(found, trade_off) == pytest.approx(min(values), abs=1e-11)
        assert len(set(found[rows])) == 1
    assert used > 0
    assert same_threshold(problem, "none", 0.5).tolist() == problem.all_off().tolist()


def test_first_exit_alone_costs_about_lambda_in_the_normalised_form() -> None:
    records = random_records(400, (0, 1), seed=10)
    problem = problem_of(records, normalised=True)
    first = problem.all_off()
    first[0] = problem.choices[0][0]
    extra = costs_of(records).of_exits(records.keys)[0] / (costs_of(records).total - 10.0)
    for trade_off in LAMBDAS:
        assert problem.objective(first, trade_off) == pytest.approx(trade_off + (1 - trade_off) * extra)


def test_exits_are_off_when_too_few_would_leave() -> None:
    records = random_records(200, (0, 1, 3), seed=11)
    choices = [every_threshold(row) for row in records.confidences[:-1]]
    weights = metric_weights(records.labels, "accuracy")
    plain = Problem(records, costs_of(records), choices=choices, weights=weights)
    many = Problem(records, costs_of(records), choices=choices, weights=weights, least_leaving=40)
    fewest = []
    for problem in (plain, many):
        found = refine(problem, problem.all_off(), 0.9)
        shares = score(records, costs_of(records), found, metric="accuracy", classes=CLASSES).shares[:-1]
        fewest.append(min(round(200 * share) for share, t in zip(shares, found, strict=True) if t < OFF))
    assert fewest[0] < 40 <= fewest[1]


@pytest.mark.parametrize("right", [0.0, 0.5, 0.9, 1.0])
def test_lower_accuracy_is_near_the_quantile(right: float) -> None:
    for count, most in ((10, 0.015), (200, 0.001)):
        exact = beta.ppf(0.1, 1 + right * count, 1 + (1 - right) * count)
        found = lower_accuracy(np.array(right * count), np.array((1 - right) * count), 1.2815515655446004)
        assert float(found) == pytest.approx(exact, abs=most)


def test_expected_right_keeps_totals_where_exit_and_head_differ() -> None:
    records = random_records(3000, (0, 1), seed=12)
    records.confidences[-1] += 1.0
    right = records.predictions == records.labels
    found = expected_right(records, 1.0)
    assert np.array_equal(expected_right(records, 0.0), right)
    for row in range(2):
        differ = records.predictions[row] != records.predictions[-1]
        assert found[row, differ].sum() == pytest.approx(right[row, differ].sum(), rel=0.02)
        assert np.array_equal(found[row, ~differ], found[-1, ~differ])


@pytest.mark.parametrize("wrong", [-0.01, 1.01, float("nan")])
@pytest.mark.parametrize("search", [single_pass, iterative, descend, brent_single_pass])
def test_search_is_refused_when_lambda_is_out_of_range(search, wrong: float) -> None:
    with pytest.raises(EbbtideError) as caught:
        search(problem_of(random_records(20, (0,), seed=0)), wrong)
    assert caught.value.code == "search.trade_off"
