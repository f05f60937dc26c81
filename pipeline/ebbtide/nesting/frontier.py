"""The order in which groups are decided, and what of the past the next decision depends on.

Groups are decided one after another. Those that a later group still shares a table with stay on the frontier: in a
chain the last group only, in a residual net also the width that the additions tie. Everything that an exact search
stores is per combination of widths on the frontier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, prod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ebbtide.nesting.tables import Booleans, Integers, Tables

Floats = NDArray[np.float64]
_Number = TypeVar("_Number", bound=np.generic)

# Orders are tried from this many first groups, and given up where a table would have more entries.
_STARTS = 8
_HOPELESS = 1e10


@dataclass(frozen=True)
class Step:
    """The decision of one group.

    Attributes:
        group: the group.
        before: the groups on the frontier when it is decided; they are the first axes of the tables below.
        dropped: axes of (before, group) that no later step needs.
        values: value of each option, (options,).
        cost: what each option adds, (before, options, budgets).
        allowed: whether an option is allowed, (before, options); None if all are.
        following: index of the combination on the next frontier, (before, options), flat.
    """

    group: int
    before: tuple[int, ...]
    dropped: tuple[int, ...]
    values: Floats
    cost: Integers
    allowed: Booleans | None
    following: NDArray[np.int32]

    def lift(self, following: Floats) -> Floats:
        """Numbers over the next frontier as an array that broadcasts over (before, options)."""
        return np.expand_dims(following, self.dropped) if self.dropped else following


def interactions(tables: Tables) -> list[set[int]]:
    """Per group the groups that it shares a table with, without those that have a single option."""
    free = [size > 1 for size in tables.sizes]
    neighbours: list[set[int]] = [set() for _ in free]
    for groups, _ in (*tables.costs, *tables.allowed):
        for group in groups:
            neighbours[group].update(other for other in groups if other != group and free[group] and free[other])
    return neighbours


def choose_order(tables: Tables) -> tuple[tuple[int, ...], float]:
    """An order with small tables, and the number of entries of all of them together."""
    neighbours = interactions(tables)
    sizes = tables.sizes
    groups = range(len(sizes))
    natural = tuple(groups)
    if not natural:
        return (), 0.0
    best, best_key = natural, _table_sizes(natural, neighbours, sizes)
    for start in sorted(groups, key=lambda group: (len(neighbours[group]), group))[:_STARTS]:
        order = _greedy(start, neighbours, sizes)
        if len(order) < len(sizes):
            continue
        key = _table_sizes(order, neighbours, sizes)
        if key < best_key:
            best, best_key = order, key
    return best, 2.0 ** best_key[1]


def _greedy(start: int, neighbours: list[set[int]], sizes: Sequence[int]) -> tuple[int, ...]:
    """Always the neighbour of the frontier with the smallest table; cut short where all are too large."""
    order = [start]
    left = set(range(len(sizes))) - {start}
    frontier = {start} if neighbours[start] & left else set()
    while left:
        near = set().union(*(neighbours[group] for group in frontier)) & left if frontier else left
        best_key: tuple[float, float, int] | None = None
        best_frontier: set[int] = set()
        for group in near:
            after = {other for other in (*frontier, group) if neighbours[other] & (left - {group})}
            table = prod(float(sizes[other]) for other in frontier) * sizes[group]
            key = (table, prod(float(sizes[other]) for other in after), group)
            if best_key is None or key < best_key:
                best_key, best_frontier = key, after
        assert best_key is not None
        if best_key[0] > _HOPELESS:
            break
        order.append(best_key[2])
        left.discard(best_key[2])
        frontier = best_frontier
    return tuple(order)


def _table_sizes(order: Sequence[int], neighbours: list[set[int]], sizes: Sequence[int]) -> tuple[float, float]:
    """Log2 of the largest table of an order, and of the sum of all (of the largest, where they are huge)."""
    largest, total = 0.0, 0.0
    for before, group, _ in _walk(order, neighbours):
        bits = sum(log2(sizes[other]) for other in (*before, group))
        largest = max(largest, bits)
        total += 2.0 ** min(bits, 900.0)
    return largest, log2(max(total, 1.0))


def _walk(order: Sequence[int], neighbours: list[set[int]]) -> list[tuple[tuple[int, ...], int, tuple[int, ...]]]:
    """For each group of an order: the frontier before it, the group, the axes that leave after it."""
    walked = []
    frontier: tuple[int, ...] = ()
    left = set(order)
    for group in order:
        left.discard(group)
        scope = (*frontier, group)
        dropped = tuple(axis for axis, other in enumerate(scope) if not neighbours[other] & left)
        walked.append((frontier, group, dropped))
        frontier = tuple(other for axis, other in enumerate(scope) if axis not in dropped)
    return walked


def steps_of(tables: Tables, order: Sequence[int]) -> list[Step]:
    """The decisions in an order, with all tables.

    The first step's cost holds what every choice costs.
    """
    position = {group: at for at, group in enumerate(order)}
    sizes = tables.sizes
    costs: list[list[tuple[tuple[int, ...], Integers]]] = [[] for _ in order]
    allowed: list[list[tuple[tuple[int, ...], Booleans]]] = [[] for _ in order]

    def last(groups: tuple[int, ...]) -> int:
        return max((position[group] for group in groups if sizes[group] > 1), default=0)

    for groups, cost in tables.costs:
        costs[last(groups)].append((groups, cost))
    for groups, may in tables.allowed:
        allowed[last(groups)].append((groups, may))
    steps = []
    for at, (before, group, dropped) in enumerate(_walk(order, interactions(tables))):
        scope = (*before, group)
        shape = tuple(sizes[other] for other in scope)
        total = np.zeros((*shape, tables.budgets), np.int64)
        if at == 0:
            total += tables.base
        for groups, cost in costs[at]:
            total += _spread(cost, groups, scope, sizes, trailing=1)
        may_all: Booleans | None = None
        if allowed[at]:
            may_all = np.ones(shape, np.bool_)
            for groups, may in allowed[at]:
                may_all &= _spread(may, groups, scope, sizes, trailing=0)
        after = tuple(1 if axis in dropped else size for axis, size in enumerate(shape))
        following = np.arange(prod(after), dtype=np.int32).reshape(after)
        steps.append(
            Step(
                group,
                before,
                dropped,
                tables.values[group].astype(np.float64),
                total,
                may_all,
                np.broadcast_to(following, shape).reshape(-1, shape[-1]),
            )
        )
    return steps


def _spread(
    table: NDArray[_Number], groups: tuple[int, ...], scope: tuple[int, ...], sizes: Sequence[int], *, trailing: int
) -> NDArray[_Number]:
    """A table over some groups as one that broadcasts over a scope; groups with one option may lie outside it."""
    inside = [axis for axis, group in enumerate(groups) if group in scope]
    outside = [axis for axis, group in enumerate(groups) if group not in scope]
    assert all(sizes[groups[axis]] == 1 for axis in outside)
    order = sorted(inside, key=lambda axis: scope.index(groups[axis]))
    last = list(range(len(groups), len(groups) + trailing))
    moved = table.transpose([*outside, *order, *last])
    shape = [sizes[group] if group in groups else 1 for group in scope]
    return moved.reshape([*shape, *table.shape[len(groups) :]])
