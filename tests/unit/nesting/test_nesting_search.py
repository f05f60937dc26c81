from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.nesting import Factor, Found, Infeasible, Limit, Order, Problem, Solution, search, uniform

ORDERS: tuple[Order, ...] = ("bottom-up", "top-down", "joint")


def make(
    options: Sequence[NDArray[np.int64]],
    values: Sequence[NDArray[np.float64]],
    costs: Sequence[Factor],
    limits: Sequence[Limit] = (),
) -> Problem:
    return Problem(
        tuple(f"g{group}" for group in range(len(options))), tuple(options), tuple(values), tuple(costs), tuple(limits)
    )


def random_problem(
    seed: int, *, groups: int = 3, units: int = 8, shape: str = "chain", multiple: int = 1, limited: bool = False
) -> Problem:
    """Few groups of few units: linear costs, a chain, or two groups tied to a third; whole, real and flat scores."""
    rng = np.random.default_rng(seed)
    floor = int(rng.integers(1, 3)) if multiple == 1 else multiple
    options = [np.arange(floor, units + 1, multiple) for _ in range(groups)]
    values = []
    for group in range(groups):
        scores = [rng.gamma(0.5, 1.0, units), rng.integers(0, 3, units).astype(float), np.ones(units)][seed % 3]
        scores = np.sort(scores)[::-1] * (1.0 if seed % 3 else 2.0**-group)
        values.append(np.concatenate([[0.0], np.cumsum(scores)])[options[group]])
    whole = seed % 4 != 3

    def coefficient() -> float | int:
        return int(rng.integers(1, 20)) if whole else float(rng.uniform(0.1, 2.0))

    costs = [Factor((group,), options[group] * coefficient()) for group in range(groups)]
    pairs = {
        "linear": [],
        "chain": [(group + 1, group) for group in range(groups - 1)],
        "tied": [(0, group) for group in range(1, groups)] + [(1, 2)],
    }[shape]
    costs += [Factor(pair, np.multiply.outer(*(options[at] for at in pair)) * coefficient()) for pair in pairs]
    costs.append(Factor((), np.asarray(coefficient())))
    limits = []
    if limited:
        for pair in pairs:
            table = np.add.outer(*(options[at] * int(rng.integers(1, 4)) for at in pair))
            limits.append(Limit(f"memory of {pair}", Factor(pair, table), float(np.quantile(table, 0.7))))
    return make(options, values, costs, limits)


def budgets_of(problem: Problem, shares: Sequence[float]) -> list[float]:
    """Shares of what lies between the cheapest and the full cost."""
    low, high = problem.cost([0] * len(problem.names)), problem.cost(problem.full)
    return [low + (high - low) * share for share in shares]


def admissible(problem: Problem) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """All choices that keep the limits, with cost and value."""
    rows = [
        choice
        for choice in itertools.product(*(range(len(options)) for options in problem.options))
        if not problem.broken(choice)
    ]
    return (
        np.array(rows).reshape(-1, len(problem.names)),
        np.array([problem.cost(row) for row in rows]),
        np.array([problem.value(row) for row in rows]),
    )


def best_of_all(
    problem: Problem,
    choices: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]],
    budget: float,
    *,
    lower: Sequence[int] | None = None,
    upper: Sequence[int] | None = None,
) -> tuple[float, float] | None:
    """The largest value and then the least cost there is, between two width vectors."""
    rows, cost, value = choices
    widths = np.stack([options[rows[:, group]] for group, options in enumerate(problem.options)], axis=1)
    fits = cost <= budget
    if lower is not None:
        fits &= (widths >= np.array(lower)).all(axis=1)
    if upper is not None:
        fits &= (widths <= np.array(upper)).all(axis=1)
    if not fits.any():
        return None
    most = value[fits].max()
    return float(most), float(cost[fits & np.isclose(value, most, rtol=1e-10, atol=0.0)].min())


def check(problem: Problem, found: Found) -> None:
    """Whatever was asked: within budget and limits, an allowed width, nested, value and cost as the tables say."""
    before: Solution | None = None
    for level in found.levels:
        if isinstance(level, Infeasible):
            assert level.reason
            continue
        choice = [int(np.flatnonzero(o == w)[0]) for o, w in zip(problem.options, level.widths, strict=True)]
        assert level.cost == problem.cost(choice) <= level.budget
        assert level.value == problem.value(choice)
        assert problem.broken(choice) == ()
        if before is not None:
            assert all(small <= large for small, large in zip(before.widths, level.widths, strict=True))
        before = level


@pytest.mark.parametrize("limited", [False, True], ids=["free", "limited"])
@pytest.mark.parametrize("multiple", [1, 4])
@pytest.mark.parametrize("shape", ["linear", "chain", "tied"])
def test_levels_equal_brute_force_when_searched_one_by_one(shape: str, multiple: int, limited: bool) -> None:
    solved = 0
    for seed in range(12):
        problem = random_problem(seed, shape=shape, multiple=multiple, limited=limited)
        budgets = budgets_of(problem, [0.05, 0.3, 0.6, 1.0])
        choices = admissible(problem)
        for order in ("bottom-up", "top-down"):
            found = search(problem, budgets, order=order)
            check(problem, found)
            assert found.exact
            assert found.gap == 0.0
            neighbour: Solution | None = None
            for level in found.levels if order == "bottom-up" else reversed(found.levels):
                between = {"lower" if order == "bottom-up" else "upper": neighbour.widths if neighbour else None}
                best = best_of_all(problem, choices, level.budget, **between)
                if isinstance(level, Infeasible):
                    assert best is None
                    continue
                assert best is not None, (seed, order)
                assert level.value == pytest.approx(best[0], rel=1e-10), (seed, order)
                assert level.cost == pytest.approx(best[1], rel=1e-10), (seed, order)
                neighbour = level
                solved += 1
    assert solved > 60


def best_sum(problem: Problem, budgets: Sequence[float]) -> float:
    """The largest sum of values of nested choices, by dynamic programming over all choices of each level."""
    rows, cost, value = admissible(problem)
    nested = (rows[:, None, :] <= rows[None, :, :]).all(axis=2)
    total = np.where(cost <= budgets[0], value, -np.inf)
    for budget in budgets[1:]:
        below = np.where(nested, total[:, None], -np.inf).max(axis=0)
        total = np.where(cost <= budget, value + below, -np.inf)
    return float(total.max())


@pytest.mark.parametrize("limited", [False, True], ids=["free", "limited"])
@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("shape", ["linear", "chain", "tied"])
def test_sum_equals_brute_force_when_levels_are_searched_together(shape: str, levels: int, limited: bool) -> None:
    for seed in range(12):
        problem = random_problem(seed + 100, units=6, shape=shape, limited=limited)
        budgets = budgets_of(problem, [0.1, 0.35, 0.7][:levels])
        best = best_sum(problem, budgets)
        found = search(problem, budgets, order="joint")
        check(problem, found)
        assert found.exact
        if best == -np.inf:
            assert any(isinstance(level, Infeasible) for level in found.levels)
            continue
        total = sum(level.value for level in found.levels if isinstance(level, Solution))
        assert total == pytest.approx(best, rel=1e-10), seed
        for order in ("bottom-up", "top-down"):
            alone = search(problem, budgets, order=order)
            one_by_one = sum(level.value for level in alone.levels if isinstance(level, Solution))
            assert one_by_one <= total * (1 + 1e-12)


@pytest.mark.parametrize("levels", [2, 3])
def test_sum_equals_brute_force_when_the_orders_differ(levels: int) -> None:
    differ = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        weights = rng.integers(5, 30, 7).astype(float)
        problem = items(weights.tolist(), (weights * rng.uniform(0.9, 1.1, 7)).tolist())
        budgets = [30.0, 45.0, 60.0][:levels]
        found = search(problem, budgets, order="joint")
        check(problem, found)
        assert found.exact
        total = sum(level.value for level in found.levels if isinstance(level, Solution))
        assert total == pytest.approx(best_sum(problem, budgets), rel=1e-10), seed
        chains = [search(problem, budgets, order=order).levels for order in ("bottom-up", "top-down")]
        differ += all(sum(getattr(level, "value", 0.0) for level in chain) < total * (1 - 1e-9) for chain in chains)
    assert differ > 0, "an order of its own finds the same on every instance: the test compares nothing"


def test_widths_are_nested_when_many_levels_are_asked_for() -> None:
    problem = random_problem(5, groups=4, units=24)
    budgets = budgets_of(problem, np.linspace(0.02, 1.0, 10).tolist())
    for order in ORDERS:
        found = search(problem, budgets, order=order)
        check(problem, found)
        assert len([level for level in found.levels if isinstance(level, Solution)]) == 10


def items(weights: Sequence[float], profits: Sequence[float]) -> Problem:
    """The classical knapsack: each item a group that is in or out."""
    return make(
        [np.array([0, 1]) for _ in weights],
        [np.array([0.0, profit]) for profit in profits],
        [Factor((at,), np.array([0.0, weight])) for at, weight in enumerate(weights)],
    )


def alone(problem: Problem, budget: float) -> float:
    level = search(problem, [budget]).levels[0]
    assert isinstance(level, Solution)
    return level.value


def test_orders_keep_their_guarantees_when_no_item_weighs_more_than_the_small_budget() -> None:
    worst = {"bottom-up": 1.0, "top-down": 1.0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(4, 10))
        capacity = 60
        weights = rng.integers(1, capacity // 2 + 1, count).astype(float)
        profits = weights * rng.uniform(0.8, 1.2, count) if seed % 2 else rng.uniform(0.1, 1.0, count)
        if weights.sum() <= capacity:
            continue
        problem = items(weights.tolist(), profits.tolist())
        for order, level, ratio in (("bottom-up", 1, 2 / 3), ("top-down", 0, 1 / 2)):
            found = search(problem, [capacity / 2, capacity], order=order)
            check(problem, found)
            got = found.levels[level]
            assert isinstance(got, Solution)
            share = got.value / alone(problem, got.budget)
            assert share >= ratio - 1e-12, (seed, order)
            worst[order] = min(worst[order], share)
    assert worst["bottom-up"] < 0.97
    assert worst["top-down"] < 0.97


def test_bottom_up_keeps_two_thirds_when_the_instance_is_the_tight_one() -> None:
    capacity, small = 3.0, 1e-6
    problem = items([capacity / 3 + small, *[capacity / 3] * 3], [1 + small, 1.0, 1.0, 1.0])
    found = search(problem, [capacity / 2, capacity], order="bottom-up")
    assert isinstance(found.levels[1], Solution)
    assert found.levels[1].value / alone(problem, capacity) == pytest.approx(2 / 3, abs=1e-5)


def test_top_down_keeps_a_half_when_the_instance_is_the_tight_one() -> None:
    capacity, small = 3.0, 1e-6
    problem = items([*[capacity / 3] * 3, capacity / 2], [*[1 + small] * 3, 2.0])
    found = search(problem, [capacity / 2, capacity], order="top-down")
    assert isinstance(found.levels[0], Solution)
    assert found.levels[0].value / alone(problem, capacity / 2) == pytest.approx(1 / 2, abs=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_reason_names_the_limit_when_no_widths_keep_it(order: Order) -> None:
    base = random_problem(0)
    limit = Limit(
        "input and output of conv2", Factor((0, 1), np.full((len(base.options[0]), len(base.options[1])), 9)), 8
    )
    problem = make(base.options, base.values, base.costs, [limit])
    found = search(problem, budgets_of(problem, [0.2, 0.9]), order=order)
    assert found.exact
    for level in found.levels:
        assert isinstance(level, Infeasible)
        assert "input and output of conv2" in level.reason
        assert "9" in level.reason


@pytest.mark.parametrize("order", ORDERS)
def test_reason_names_the_limits_when_they_exclude_each_other(order: Order) -> None:
    base = random_problem(0)
    count = len(base.options[1])
    limits = [
        Limit("width of the stem", Factor((1,), np.arange(count)), 2),
        Limit("reach of the head", Factor((1,), -np.arange(count)), -3),
    ]
    problem = make(base.options, base.values, base.costs, limits)
    for level in search(problem, budgets_of(problem, [0.2, 0.9]), order=order).levels:
        assert isinstance(level, Infeasible)
        assert "reach of the head" in level.reason
        assert "width of the stem" in level.reason


@pytest.mark.parametrize("order", ORDERS)
def test_reason_names_cost_and_floors_when_a_budget_is_below_the_cheapest(order: Order) -> None:
    options = [np.array([8, 16]), np.array([2, 4])]
    values = [np.array([1.0, 2.0])] * 2
    problem = make(options, values, [Factor((0,), np.array([800, 1600])), Factor((1,), np.array([20, 40]))])
    found = search(problem, [819, 900], order=order)
    small, large = found.levels
    assert isinstance(small, Infeasible)
    assert isinstance(large, Solution)
    assert large.widths == (8, 4)
    for fact in ("820", "819", "g0 at 8 (800)"):
        assert fact in small.reason


def test_reason_names_the_limit_when_it_raises_the_least_cost() -> None:
    # More of the second group is cheaper here, as a measured latency may be, but the limit forbids it.
    problem = make(
        [np.array([1, 2]), np.array([1, 2])],
        [np.array([1.0, 2.0])] * 2,
        [Factor((0, 1), np.array([[9.0, 4.0], [9.5, 10.0]]))],
        [Limit("activations of block 1", Factor((1,), np.array([1, 2])), 1)],
    )
    level = search(problem, [5.0]).levels[0]
    assert isinstance(level, Infeasible)
    assert "activations of block 1" in level.reason


@pytest.mark.parametrize("order", ORDERS)
def test_cheaper_widths_win_when_values_are_equal(order: Order) -> None:
    options = [np.arange(1, 5), np.arange(1, 5)]
    problem = make(options, [np.zeros(4), np.full(4, 3.0)], [Factor((0, 1), np.multiply.outer(*options))])
    found = search(problem, [7, 16], order=order)
    for level in found.levels:
        assert isinstance(level, Solution)
        assert level.widths == (1, 1)


@pytest.mark.parametrize("order", ORDERS)
def test_result_is_the_same_when_searched_twice(order: Order) -> None:
    problem = random_problem(1, groups=4)
    budgets = budgets_of(problem, [0.2, 0.5, 0.8])
    assert search(problem, budgets, order=order) == search(problem, budgets, order=order)


@pytest.mark.parametrize("order", ORDERS)
def test_widest_that_fits_is_taken_when_there_is_one_group_and_one_level(order: Order) -> None:
    problem = make([np.array([8, 16, 24])], [np.array([1.0, 2.0, 3.0])], [Factor((0,), np.array([10, 20, 30]))])
    found = search(problem, [29], order=order)
    assert found.levels == (Solution((16,), 20.0, 2.0, 29),)


@pytest.mark.parametrize("order", ORDERS)
def test_all_units_stay_when_the_budget_is_the_full_cost(order: Order) -> None:
    for seed in range(4):
        problem = random_problem(seed * 4 + 3)  # real costs
        found = search(problem, [problem.cost(problem.full)], order=order)
        level = found.levels[0]
        assert isinstance(level, Solution)
        assert level.value == problem.value(problem.full)


@pytest.mark.parametrize(
    "budgets", [[], [0], [-1.0, 5], [7, 5], [5, 5], [5, 10_000], [float("nan")], [5, float("inf")]], ids=str
)
def test_budgets_are_refused_when_they_are_not_ascending_shares_of_the_cost(budgets: list[float]) -> None:
    problem = random_problem(0)
    for attempt in (search, uniform):
        with pytest.raises(EbbtideError) as caught:
            attempt(problem, budgets)
        assert caught.value.code == "nesting.budgets"


def test_problem_is_refused_when_a_table_does_not_fit_its_groups() -> None:
    with pytest.raises(ValueError):
        make([np.array([1, 2])], [np.array([1.0, 2.0])], [Factor((0,), np.array([1, 2, 3]))])
    with pytest.raises(ValueError):
        make([np.array([1, 2])], [np.array([2.0, 1.0])], [])


def test_uniform_takes_the_largest_common_share_when_it_fits() -> None:
    options = [np.arange(8, 65, 8), np.arange(4, 33, 4), np.arange(1, 17)]
    problem = make(
        options,
        [np.arange(1, len(o) + 1).astype(float) for o in options],
        [Factor((0, 1), np.multiply.outer(options[0], options[1])), Factor((2,), options[2] * 50)],
    )
    full = problem.cost(problem.full)
    found = uniform(problem, [0.25 * full, 0.5 * full, full])
    check(problem, found)
    quarter, half, whole = found.levels
    assert isinstance(quarter, Solution)
    assert isinstance(half, Solution)
    assert isinstance(whole, Solution)
    assert whole.widths == (64, 32, 16)
    for level in (quarter, half):
        shares = np.array(level.widths) / np.array([64, 32, 16])
        assert shares.max() - shares.min() <= 1 / 8
    # One step more of every group would not fit.
    assert (
        problem.cost([int(np.flatnonzero(o == w)[0]) + 1 for o, w in zip(options, half.widths, strict=True)])
        > half.budget
    )


def test_uniform_names_the_cost_when_the_smallest_share_does_not_fit() -> None:
    problem = make([np.array([8, 16])], [np.array([1.0, 2.0])], [Factor((0,), np.array([800, 1600]))])
    small, large = uniform(problem, [700, 900]).levels
    assert isinstance(small, Infeasible)
    assert "800" in small.reason
    assert isinstance(large, Solution)
