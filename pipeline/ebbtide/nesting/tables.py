"""The tables of a problem as whole numbers, so that sums are exact and ties are ties.

Costs and values become multiples of a power of two below a millionth of a millionth of the total. Tables that hold
whole numbers already are taken as they are. Costs are rounded up and budgets down: what fits here fits there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ebbtide.nesting.knapsack import Problem

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Kept = Sequence[NDArray[np.int64]]

# A total fits into this many bits; a place of a frontier takes the rest of a key of 64 bits.
BITS = 40


@dataclass(frozen=True)
class Tables:
    """A problem in whole numbers, with one or several costs that each have their budget.

    Attributes:
        values: per group the value of each option.
        costs: groups and their table, which has one last axis more: the costs, one for each budget.
        base: what every choice costs, (budgets,).
        allowed: groups and whether a combination of their options is allowed.
    """

    values: tuple[Integers, ...]
    costs: tuple[tuple[tuple[int, ...], Integers], ...]
    base: Integers
    allowed: tuple[tuple[tuple[int, ...], Booleans], ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of options of each group."""
        return tuple(len(values) for values in self.values)

    @property
    def budgets(self) -> int:
        """The number of costs, each with its budget."""
        return len(self.base)

    def restrict(self, kept: Kept) -> Tables:
        """The same problem with some options of each group, named by ascending indices."""
        if all(len(rows) == size for rows, size in zip(kept, self.sizes, strict=True)):
            return self
        return Tables(
            tuple(values[rows] for values, rows in zip(self.values, kept, strict=True)),
            tuple((groups, table[np.ix_(*(kept[group] for group in groups))]) for groups, table in self.costs),
            self.base,
            tuple((groups, table[np.ix_(*(kept[group] for group in groups))]) for groups, table in self.allowed),
        )

    def condition(self, choice: Sequence[int], free: Sequence[int]) -> Tables:
        """The problem of a few groups, all others as in a choice; groups are numbered as in `free`."""
        place = {group: at for at, group in enumerate(free)}
        base = self.base.copy()
        costs: dict[tuple[int, ...], Integers] = {}
        for groups, table in self.costs:
            inner = table[tuple(slice(None) if group in place else choice[group] for group in groups)]
            scope = tuple(place[group] for group in groups if group in place)
            if scope:
                costs[scope] = costs[scope] + inner if scope in costs else inner
            else:
                base += inner
        allowed: dict[tuple[int, ...], Booleans] = {}
        for groups, may in self.allowed:
            inner_may = may[tuple(slice(None) if group in place else choice[group] for group in groups)]
            scope = tuple(place[group] for group in groups if group in place)
            if scope or not inner_may:
                allowed[scope] = allowed[scope] & inner_may if scope in allowed else np.asarray(inner_may)
        return Tables(tuple(self.values[group] for group in free), tuple(costs.items()), base, tuple(allowed.items()))

    def value(self, choice: Sequence[int]) -> int:
        """The total value of a choice of options."""
        return sum(int(values[at]) for values, at in zip(self.values, choice, strict=True))

    def cost(self, choice: Sequence[int]) -> Integers:
        """The total costs of a choice of options, (budgets,)."""
        total = self.base.copy()
        for groups, table in self.costs:
            total += table[tuple(choice[group] for group in groups)]
        return total

    def admits(self, choice: Sequence[int]) -> bool:
        """Whether a choice of options is allowed."""
        return all(bool(table[tuple(choice[group] for group in groups)]) for groups, table in self.allowed)


@dataclass(frozen=True)
class Scale:
    """How the numbers of a problem became whole ones."""

    value_unit: float
    cost_unit: float
    full_cost: float
    full_units: int

    def budget(self, budget: float) -> int:
        """A budget in units of cost, rounded down."""
        if budget >= self.full_cost:
            return self.full_units
        return math.floor(budget / self.cost_unit)


def tables_of(problem: Problem) -> tuple[Tables, Scale]:
    """A problem in whole numbers, and how to scale budgets alike."""
    value_unit = _unit([np.asarray(values) for values in problem.values])
    cost_unit = _unit([np.asarray(factor.table) for factor in problem.costs])
    values = tuple(np.rint(values / value_unit).astype(np.int64) for values in problem.values)
    base = np.zeros(1, np.int64)
    costs: dict[tuple[int, ...], Integers] = {}
    for factor in problem.costs:
        table = np.ceil(np.asarray(factor.table) / cost_unit).astype(np.int64)[..., None]
        if not factor.groups:
            base = base + table
            continue
        axes = tuple(int(axis) for axis in np.argsort(factor.groups))
        groups = tuple(factor.groups[axis] for axis in axes)
        table = table.transpose((*axes, len(axes)))
        costs[groups] = costs[groups] + table if groups in costs else table
    tables = Tables(
        values,
        tuple(costs.items()),
        base,
        tuple((limit.factor.groups, np.asarray(limit.factor.table) <= limit.most) for limit in problem.limits),
    )
    return tables, Scale(value_unit, cost_unit, problem.cost(problem.full), int(tables.cost(problem.full)[0]))


def _unit(tables: Sequence[NDArray[np.float64]]) -> float:
    most = sum(float(table.max(initial=0.0)) for table in tables)
    if most == 0:
        return 1.0
    if most < 2**BITS and all(np.array_equal(table, np.floor(table)) for table in tables):
        return 1.0
    return float(2.0 ** (math.ceil(math.log2(most)) - BITS + 1))
