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
from ebbtide.nesting.exact import Answer
from ebbtide.nesting.frontier import choose_order
from ebbtide.nesting.sweep import Incumbent
from ebbtide.nesting.tables import Integers, Tables

Floats = NDArray[np.float64]

# Entries of the tables of groups solved at a time, how often, and how many failures in a row are enough.
_TOGETHER = 4_000
_MOVES = 400
_FAILURES = 60
# Prices tried, and rounds of message passing at each.
_PRICES = 12
_ROUNDS = 30


def solve_densely(tables: Tables, budgets: Integers, start: Sequence[Sequence[int]], *, most_entries: float) -> Answer:
    """A good allowed choice within one budget, with a proven bound.

    Args:
        tables: the problem, with one cost.
        budgets: the budget.
        start: choices known before; where costs or limits do not grow with width, one that fits must be among them.
        most_entries: size of tables that an exact search may have, for the options that remain.
    """
    best = _best_of(tables, budgets, start)
    price, climbed = _climb(tables, budgets)
    best = _best_of(tables, budgets, climbed, best)
    if best is None:
        return Answer(None, 0, _bound(tables, budgets, price)[0])
    best = _improve(tables, budgets, best)
    bound, hopeful = np.inf, [np.ones(size, np.bool_) for size in tables.sizes]
    duals = _Duals(tables)
    low, high = np.log(price / 8), np.log(price * 8)
    for _ in range(_PRICES):
        # The bound is convex in the price: narrow the interval to a third on the side of the lesser bound.
        pair = [low + (high - low) / 3, high - (high - low) / 3]
        bounds = []
        for at in pair:
            here, per_option = duals.bound(float(np.exp(at)), budgets, _ROUNDS)
            bounds.append(here)
            bound = min(bound, here)
            for group, values in enumerate(per_option):
                hopeful[group] &= values >= best.value - 0.5 - 1e-11 * abs(best.value)
        low, high = (low, pair[1]) if bounds[0] <= bounds[1] else (pair[0], high)
    kept = [np.flatnonzero(rows) for rows in hopeful]
    remaining = tables.restrict(kept)
    order, entries = choose_order(remaining)
    if entries <= most_entries:
        inner = [int(np.searchsorted(rows, at)) for rows, at in zip(kept, best.choice, strict=True)]
        answer = exact.solve(remaining, budgets, order, [inner])
        assert answer.choice is not None
        choice = [int(rows[at]) for rows, at in zip(kept, answer.choice, strict=True)]
        return Answer(choice, answer.value, max(min(answer.bound, bound), float(answer.value)))
    return Answer(best.choice, best.value, max(bound, float(best.value)))


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


def _climb(tables: Tables, budgets: Integers) -> tuple[float, list[list[int]]]:
    """Choices that no single group improves, at prices on the way to one that spends the budget; that price."""
    full = [size - 1 for size in tables.sizes]
    price = max(tables.value(full), 1) / max(float(tables.cost(full)[0]), 1.0)
    low, high = np.log(price) - 14.0, np.log(price) + 14.0
    met = []
    for _ in range(24):
        middle = (low + high) / 2
        choice = _settle(tables, float(np.exp(middle)), list(full))
        met.append(choice)
        if tables.cost(choice)[0] > budgets[0] or not tables.admits(choice):
            low = middle
        else:
            high = middle
    return float(np.exp(high)), met


def _settle(tables: Tables, price: float, choice: list[int]) -> list[int]:
    """Each group in turn at its best option at a price, given the others, until none changes."""
    for _ in range(20):
        before = list(choice)
        for group in range(len(choice)):
            alone = tables.condition(choice, [group])
            worth = alone.values[0].astype(np.float64)
            for _, table in alone.costs:
                worth = worth - price * table[:, 0]
            for scope, may in alone.allowed:
                if scope:
                    worth = np.where(may, worth, -np.inf)
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
        if failures >= _FAILURES:
            break
    return best


def _bound(tables: Tables, budgets: Integers, price: float) -> tuple[float, list[Floats]]:
    return _Duals(tables).bound(price, budgets, _ROUNDS)


class _Duals:
    """Messages from tables to their groups, kept from one price to the next."""

    def __init__(self, tables: Tables) -> None:
        self.values = [values.astype(np.float64) for values in tables.values]
        self.base = float(tables.base[0])
        self.worst = -4.0 * max(float(sum(values[-1] for values in tables.values)), 1.0)
        self.unary: list[Floats] = [np.zeros(size) for size in tables.sizes]
        self.barred: list[Floats] = [np.zeros(size) for size in tables.sizes]
        self.scopes: list[tuple[int, ...]] = []
        self.costs: list[Floats] = []
        self.penalties: list[Floats] = []
        merged: dict[tuple[int, ...], tuple[Floats, Floats]] = {}
        for groups, table in tables.costs:
            if len(groups) == 1:
                self.unary[groups[0]] += table[:, 0]
            elif groups:
                cost = table[..., 0].astype(np.float64)
                merged[groups] = (cost, np.zeros(cost.shape))
        for groups, may in tables.allowed:
            penalty = np.where(may, 0.0, self.worst)
            if len(groups) == 1:
                self.barred[groups[0]] += penalty
            elif groups:
                cost, before = merged.get(groups, (np.zeros(may.shape), np.zeros(may.shape)))
                merged[groups] = (cost, before + penalty)
        for groups, (cost, penalty) in merged.items():
            self.scopes.append(groups)
            self.costs.append(cost)
            self.penalties.append(penalty)
        self.messages = [[np.zeros(tables.sizes[group]) for group in groups] for groups in self.scopes]

    def bound(self, price: float, budgets: Integers, rounds: int) -> tuple[float, list[Floats]]:
        """A bound at a price, and per group and option the bound with that option."""
        beliefs = [
            values - price * unary + barred
            for values, unary, barred in zip(self.values, self.unary, self.barred, strict=True)
        ]
        worths = [penalty - price * cost for cost, penalty in zip(self.costs, self.penalties, strict=True)]
        for groups, messages in zip(self.scopes, self.messages, strict=True):
            for group, message in zip(groups, messages, strict=True):
                beliefs[group] = beliefs[group] + message
        for _ in range(rounds):
            for groups, worth, messages in zip(self.scopes, worths, self.messages, strict=True):
                count = len(groups)
                alone = [beliefs[group] - message for group, message in zip(groups, messages, strict=True)]
                joint = worth
                for axis, row in enumerate(alone):
                    joint = joint + row.reshape([-1 if other == axis else 1 for other in range(count)])
                for axis, group in enumerate(groups):
                    best = joint.max(axis=tuple(other for other in range(count) if other != axis)) / count
                    messages[axis] = best - alone[axis]
                    beliefs[group] = best
        rest = 0.0
        for groups, worth, messages in zip(self.scopes, worths, self.messages, strict=True):
            left = worth
            for axis, message in enumerate(messages):
                left = left - message.reshape([-1 if other == axis else 1 for other in range(len(groups))])
            rest += float(left.max())
        most = [float(belief.max()) for belief in beliefs]
        bound = sum(most) + rest + price * (float(budgets[0]) - self.base)
        return bound, [bound - top + belief for top, belief in zip(most, beliefs, strict=True)]
