from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from ebbtide.nesting import Factor, Infeasible, Limit, Problem, Solution, search, solver


def clique(seed: int, *, groups: int, units: int, limits: bool = False) -> tuple[Problem, NDArray[np.int64]]:
    """Every group shares a table with every other: the cost is the square of a weighted sum of the widths."""
    rng = np.random.default_rng(seed)
    options = np.arange(1, units + 1)
    weights = rng.integers(1, 6, groups)
    values = [np.cumsum(np.sort(rng.gamma(0.7, 1.0, units))[::-1]) for _ in range(groups)]
    costs = [Factor((group,), (weights[group] * options) ** 2) for group in range(groups)]
    pairs = itertools.combinations(range(groups), 2)
    costs += [
        Factor((one, two), 2 * np.multiply.outer(weights[one] * options, weights[two] * options)) for one, two in pairs
    ]
    limit = Limit("input and output of the last layer", Factor((0, 1), np.add.outer(options, options)), units)
    return (
        Problem(
            tuple(f"g{group}" for group in range(groups)),
            tuple(options for _ in range(groups)),
            tuple(values),
            tuple(costs),
            (limit,) if limits else (),
        ),
        weights,
    )


def linear(problem: Problem, weights: NDArray[np.int64]) -> Problem:
    """The same choice with the root of the cost, which a chain's search solves exactly."""
    costs = tuple(Factor((group,), weight * problem.options[group]) for group, weight in enumerate(weights))
    return Problem(problem.names, problem.options, problem.values, costs, problem.limits)


@pytest.mark.parametrize("limits", [False, True], ids=["free", "limited"])
@pytest.mark.parametrize("seed", range(6))
def test_gap_covers_what_is_lost_when_groups_are_too_dense(seed: int, limits: bool) -> None:
    problem, weights = clique(seed, groups=12, units=8, limits=limits)
    full = problem.cost(problem.full)
    root = int(np.sqrt(0.3 * full))
    found = search(problem, [root**2])
    best = search(linear(problem, weights), [root])
    level, optimum = found.levels[0], best.levels[0]
    assert best.exact
    assert isinstance(level, Solution)
    assert isinstance(optimum, Solution)
    assert level.cost <= root**2
    assert level.value <= optimum.value * (1 + 1e-10)
    assert level.value >= optimum.value * 0.99
    assert 1 - level.value / optimum.value <= found.gap + 1e-10
    assert found.exact == (found.gap == 0.0)
    if limits:
        assert level.widths[0] + level.widths[1] <= 8
    if not found.exact:
        assert "densely" in found.note
        assert found.gap < 0.2


def test_some_gap_is_told_when_a_dense_problem_is_not_proven() -> None:
    gaps = []
    for seed in range(3):
        problem, _ = clique(seed, groups=16, units=12)
        found = search(problem, [0.2 * problem.cost(problem.full)])
        gaps.append(found.gap)
        assert found.exact == (found.gap == 0.0)
    assert max(gaps) > 0.0, "every instance was proven: nothing was told of a gap"


@pytest.mark.parametrize("order", ["bottom-up", "top-down", "joint"])
def test_gap_covers_brute_force_when_memory_allows_no_exact_search(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "MOST_ENTRIES", 4)
    monkeypatch.setattr("ebbtide.nesting.joint.MOST_ENTRIES", 4)
    for seed in range(4):
        problem, _ = clique(seed + 50, groups=4, units=4, limits=seed % 2 == 1)
        full = problem.cost(problem.full)
        budgets = [0.2 * full, 0.5 * full]
        found = search(problem, budgets, order=order)  # type: ignore[arg-type]
        small, large = found.levels
        assert isinstance(small, Solution)
        assert isinstance(large, Solution)
        assert all(a <= b for a, b in zip(small.widths, large.widths, strict=True))
        rows = [r for r in itertools.product(range(4), repeat=4) if not problem.broken(r)]
        cost, value = (np.array([of(row) for row in rows]) for of in (problem.cost, problem.value))
        if order == "joint":
            nested = (np.array(rows)[:, None] <= np.array(rows)[None]).all(axis=2)
            below = np.where(nested & (cost <= budgets[0])[:, None], value[:, None], -np.inf).max(axis=0)
            best, got = (value + below)[cost <= budgets[1]].max(), small.value + large.value
        else:
            first, budget = (small, budgets[0]) if order == "bottom-up" else (large, budgets[1])
            best, got = value[cost <= budget].max(), first.value
        assert got <= best * (1 + 1e-10)
        assert 1 - got / best <= found.gap + 1e-10


def test_infeasible_is_told_when_the_floors_of_a_dense_problem_cost_too_much() -> None:
    problem, _ = clique(1, groups=16, units=12)
    cheapest = problem.cost([0] * 16)
    found = search(problem, [cheapest - 1, cheapest])
    small, large = found.levels
    assert isinstance(small, Infeasible)
    assert f"{cheapest:g}" in small.reason
    assert isinstance(large, Solution)
    assert large.widths == (1,) * 16


def test_gap_covers_brute_force_when_too_many_partial_choices_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebbtide.nesting.exact._WIDTHS", (1,))
    told = 0
    for seed in range(12):
        problem, _ = clique(seed, groups=4, units=5)
        budget = 0.4 * problem.cost(problem.full)
        found = search(problem, [budget])
        level = found.levels[0]
        assert isinstance(level, Solution)
        rows = list(itertools.product(range(5), repeat=4))
        best = max(problem.value(row) for row in rows if problem.cost(row) <= budget)
        assert 1 - level.value / best <= found.gap + 1e-10
        assert found.exact == (found.gap == 0.0)
        told += not found.exact
        assert found.exact or "partial choices" in found.note
    assert told > 0, "one partial choice was enough everywhere: nothing was dropped"
