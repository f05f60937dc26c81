"""A bound for groups that depend on each other too densely: every table's priced cost split between its groups.

Whatever numbers a table passes on to the options of its groups, the largest of what each group then has and the
largest of what each table keeps add up to a bound. The numbers are improved by max-product message passing in its
form for linear programmes (Globerson and Jaakkola, 2007), which never raises the bound. Tables that share no group
are updated at once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ebbtide.nesting.tables import Integers, Tables

Floats = NDArray[np.float64]
_Number = TypeVar("_Number", bound=np.generic)


@dataclass
class _Batch:
    """Tables over as many groups each, none in common; all padded to the most options.

    Attributes:
        groups: (tables, arity).
        cost: (tables, options, ..., options), 0 where padded.
        barred: the same shape, 0 or a number below every value.
        messages: (arity, tables, options).
    """

    groups: Integers
    cost: Floats
    barred: Floats
    messages: Floats

    @property
    def arity(self) -> int:
        return int(self.groups.shape[1])

    def spread(self, rows: NDArray[_Number], axis: int) -> NDArray[_Number]:
        """Numbers over the options of one group of each table, (tables, options), along that group's axis."""
        return rows.reshape(len(rows), *(rows.shape[1] if other == axis else 1 for other in range(self.arity)))

    def update(self, beliefs: Floats, price: float, real: NDArray[np.bool_]) -> None:
        """Make each table's messages what leaves it nothing; `beliefs` are those of the groups, (groups, options)."""
        joint = self.barred - price * self.cost
        alone = [beliefs[self.groups[:, axis]] - self.messages[axis] for axis in range(self.arity)]
        for axis, rows in enumerate(alone):
            joint = joint + self.spread(rows, axis)
        for axis, rows in enumerate(alone):
            best = joint.max(axis=tuple(other + 1 for other in range(self.arity) if other != axis)) / self.arity
            at = self.groups[:, axis]
            self.messages[axis] = np.where(real[at], best - rows, 0.0)
            beliefs[at] = np.where(real[at], best, beliefs[at])

    def kept(self, price: float, real: NDArray[np.bool_]) -> float:
        """The sum of the largest numbers that the tables keep."""
        left = self.barred - price * self.cost
        for axis in range(self.arity):
            left = left - self.spread(self.messages[axis], axis)
            left = np.where(self.spread(real[self.groups[:, axis]], axis), left, -np.inf)
        return float(left.reshape(len(left), -1).max(axis=1).sum())


class Duals:
    """Messages from tables to their groups, kept from one price to the next."""

    def __init__(self, tables: Tables) -> None:
        sizes = tables.sizes
        most = max(sizes)
        self.base = float(tables.base[0])
        # Below what any choice that is allowed can be worth, so that barring still bounds.
        self.worst = -4.0 * max(float(sum(values.max() for values in tables.values)), 1.0)
        self.real = np.arange(most)[None, :] < np.array(sizes)[:, None]
        self.sizes = sizes
        self.values = np.full((len(sizes), most), 8 * self.worst)
        self.unary = np.zeros((len(sizes), most))
        for group, values in enumerate(tables.values):
            self.values[group, : sizes[group]] = values
        merged: dict[tuple[int, ...], tuple[Floats, Floats]] = {}
        for groups, table in tables.costs:
            if len(groups) == 1:
                self.unary[groups[0], : sizes[groups[0]]] += table[:, 0]
            else:
                cost = table[..., 0].astype(np.float64)
                merged[groups] = (cost, np.zeros(cost.shape))
        for groups, may in tables.allowed:
            penalty = np.where(may, 0.0, self.worst)
            if len(groups) == 1:
                self.values[groups[0], : sizes[groups[0]]] += penalty
            elif groups:
                cost, before = merged.get(groups, (np.zeros(may.shape), np.zeros(may.shape)))
                merged[groups] = (cost, before + penalty)
        self.batches = [_batch(scopes, merged, most) for scopes in _apart(list(merged))]

    def bound(self, price: float, budget: float, rounds: int) -> tuple[float, list[Floats]]:
        """A bound at a price, and per group and option the bound with that option."""
        beliefs = self.values - price * self.unary
        for batch in self.batches:
            for axis in range(batch.arity):
                beliefs[batch.groups[:, axis]] += batch.messages[axis]
        for _ in range(rounds):
            for batch in self.batches:
                batch.update(beliefs, price, self.real)
        most = np.where(self.real, beliefs, -np.inf).max(axis=1)
        kept = sum(batch.kept(price, self.real) for batch in self.batches)
        bound = float(most.sum()) + kept + price * (budget - self.base)
        return bound, [bound - most[group] + beliefs[group, :size] for group, size in enumerate(self.sizes)]


def _apart(scopes: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Scopes in batches of one arity, none with a group in common."""
    batches: list[list[tuple[int, ...]]] = []
    taken: dict[int, list[set[int]]] = defaultdict(list)
    where: dict[int, list[int]] = defaultdict(list)
    for scope in scopes:
        for at, groups in enumerate(taken[len(scope)]):
            if groups.isdisjoint(scope):
                groups.update(scope)
                batches[where[len(scope)][at]].append(scope)
                break
        else:
            taken[len(scope)].append(set(scope))
            where[len(scope)].append(len(batches))
            batches.append([scope])
    return batches


def _batch(scopes: list[tuple[int, ...]], merged: dict[tuple[int, ...], tuple[Floats, Floats]], most: int) -> _Batch:
    arity = len(scopes[0])
    cost = np.zeros((len(scopes), *[most] * arity))
    barred = np.zeros(cost.shape)
    for row, scope in enumerate(scopes):
        costs, penalties = merged[scope]
        inside = tuple(slice(0, size) for size in costs.shape)
        cost[row][inside], barred[row][inside] = costs, penalties
    return _Batch(np.array(scopes, np.int64), cost, barred, np.zeros((arity, len(scopes), most)))
