"""Where groups depend on each other too densely for an exact search: a good choice, and a bound on what it lacks.

The choice is improved by solving a few groups at a time exactly, all others as they are. The bound splits the priced
cost of every table between its groups so that each may be decided alone (the dual of the linear relaxation, by
max-product message passing); options that the bound rules out are removed, and where few remain the exact search
takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from ebbtide.nesting import exact
from ebbtide.nesting.duals import Duals
from ebbtide.nesting.exact import Answer
from ebbtide.nesting.frontier import choose_order
from ebbtide.nesting.sweep import Incumbent
from ebbtide.nesting.tables import Booleans, Integers, Tables

Floats = NDArray[np.float64]

# Entries of the tables of groups solved at a time, how often, and how many failures in a row are enough.
_TOGETHER = 4_000
_MOVES = 300
_FAILURES = 40
_REFINEMENTS = 6
# Steps between prices tried, and rounds of message passing at each price.
_PRICES = 8
_ROUNDS = 20

_Touching = tuple[list[tuple[tuple[int, ...], Integers]], list[tuple[tuple[int, ...], Booleans]]]


def solve_densely(
    tables: Tables, budgets: Integers, start: Sequence[Sequence[int]], *, most_entries: float, prove: bool = True
) -> Answer:
    """A good allowed choice within one budget, with a proven bound.

    Args:
        tables: the problem, with one cost.
        budgets: the budget.
        start: choices known before; where costs or limits do not grow with width, one that fits must be among them.
        most_entries: size of tables that an exact search may have, for the options that remain.
        prove: whether a bound is wanted; without, it is infinite.
    """
    price, climbed = _climb(tables, budgets, start)
    best = _best_of(tables, budgets, [*start, *climbed])
    if best is not None:
        best = _improve(tables, budgets, best)
    if not prove:
        return Answer(None, 0, np.inf) if best is None else Answer(best.choice, best.value, np.inf)
    bound, per_option = _least_bound(tables, budgets, price)
    if best is None:
        return Answer(None, 0, bound)
    for _ in range(_REFINEMENTS):
        floor = best.value - 0.5 - 1e-11 * best.value
        kept = [np.flatnonzero(values >= floor) for values in per_option]
        inner = [int(np.searchsorted(rows, at)) for rows, at in zip(kept, best.choice, strict=True)]
        remaining = tables.restrict(kept)
        order, entries = choose_order(remaining)
        if entries <= most_entries:
            answer = exact.solve(remaining, budgets, order, [inner])
            assert answer.choice is not None
            choice = [int(rows[at]) for rows, at in zip(kept, answer.choice, strict=True)]
            return Answer(choice, answer.value, max(min(answer.bound, bound), float(answer.value)))
        # Fewer options let more groups be solved together.
        better = _improve(remaining, budgets, Incumbent(inner, best.value, best.cost))
        choice = [int(rows[at]) for rows, at in zip(kept, better.choice, strict=True)]
        if better.key() == best.key():
            break
        best = Incumbent(choice, better.value, better.cost)
    return Answer(best.choice, best.value, max(bound, float(best.value)))


def _least_bound(tables: Tables, budgets: Integers, price: float) -> tuple[float, list[Floats]]:
    """The least bound at prices around one, and per group and option the least bound with it."""
    duals = Duals(tables)
    met: dict[float, float] = {}
    per_option: list[Floats] = [np.full(size, np.inf) for size in tables.sizes]

    def bound(at: float) -> float:
        if at not in met:
            met[at], options = duals.bound(float(np.exp(at)), float(budgets[0]), _ROUNDS)
            per_option[:] = [np.minimum(one, other) for one, other in zip(per_option, options, strict=True)]
        return met[at]

    # The least bound at a price is convex in the price, whose logarithm is searched in steps that halve.
    here, step = float(np.log(price)), 0.4
    bound(here)
    for _ in range(_PRICES):
        better = min((here - step, here, here + step), key=bound)
        if better == here:
            step /= 2
        here = better
    bound(here + 1e-9)  # once more with the messages of all rounds before
    return min(met.values()), per_option


def _best_of(
    tables: Tables, budgets: Integers, choices: Sequence[Sequence[int]], best: Incumbent | None = None
) -> Incumbent | None:
    for choice in choices:
        cost = tables.cost(choice)
        if np.all(cost <= budgets) and tables.admits(choice):
            made = Incumbent(list(choice), tables.value(choice), cost)
            if best is None or made.key() > best.key():
                best = made
    return best


def _climb(tables: Tables, budgets: Integers, start: Sequence[Sequence[int]]) -> tuple[float, list[list[int]]]:
    """Choices that no single group improves, at prices on the way to one that spends the budget; that price."""
    full = [size - 1 for size in tables.sizes]
    # From an allowed choice every step is to an allowed one.
    first = next((list(choice) for choice in (full, *start) if tables.admits(choice)), full)
    price = max(tables.value(full), 1) / max(float(tables.cost(full)[0]), 1.0)
    low, high = np.log(price) - 14.0, np.log(price) + 14.0
    touching: list[_Touching] = [
        (
            [(groups, table) for groups, table in tables.costs if group in groups],
            [(groups, may) for groups, may in tables.allowed if group in groups],
        )
        for group in range(len(tables.sizes))
    ]
    met = []
    for _ in range(20):
        middle = (low + high) / 2
        choice = _settle(tables, touching, float(np.exp(middle)), list(first))
        met.append(choice)
        if tables.cost(choice)[0] > budgets[0]:
            low = middle
        else:
            high = middle
    return float(np.exp(high)), met


def _settle(tables: Tables, touching: Sequence[_Touching], price: float, choice: list[int]) -> list[int]:
    """Each group in turn at its best option at a price, given the others, until none changes."""
    for _ in range(20):
        before = list(choice)
        for group, (costs, allowed) in enumerate(touching):
            worth = tables.values[group].astype(np.float64)
            for groups, table in costs:
                worth -= price * table[tuple(slice(None) if at == group else choice[at] for at in groups)][:, 0]
            for groups, may in allowed:
                worth[~may[tuple(slice(None) if at == group else choice[at] for at in groups)]] = -np.inf
            if np.any(np.isfinite(worth)):
                choice[group] = int(worth.argmax())
        if choice == before:
            break
    return choice


def _improve(tables: Tables, budgets: Integers, best: Incumbent) -> Incumbent:
    """Solve a few groups at a time exactly, the others as they are, until that no longer helps."""
    generator = np.random.default_rng(0)
    groups = [group for group, size in enumerate(tables.sizes) if size > 1]
    failures = 0
    for _ in range(_MOVES):
        free: list[int] = []
        for group in generator.permutation(groups):
            if prod(tables.sizes[other] for other in (*free, int(group))) <= _TOGETHER or len(free) < 2:
                free.append(int(group))
        free.sort()
        small = tables.condition(best.choice, free)
        order, _ = choose_order(small)
        answer = exact.solve(small, budgets, order, [[best.choice[group] for group in free]])
        assert answer.choice is not None
        choice = list(best.choice)
        for group, at in zip(free, answer.choice, strict=True):
            choice[group] = at
        made = Incumbent(choice, tables.value(choice), tables.cost(choice))
        if made.key() > best.key():
            best, failures = made, 0
        else:
            failures += 1
        if failures >= _FAILURES or len(free) == len(groups):
            break
    return best
