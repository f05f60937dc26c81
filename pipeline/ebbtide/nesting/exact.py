"""The best choice of widths within budgets, proven, or the best found with a bound on what it may lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ebbtide.nesting.frontier import Step, steps_of
from ebbtide.nesting.relaxation import Relaxed, best_with, relax, search_prices
from ebbtide.nesting.sweep import Incumbent, sweep
from ebbtide.nesting.tables import Integers, Kept, Tables

Floats = NDArray[np.float64]

# Partial choices held in one pass, pass after pass until one has lost nothing of worth; about 60 bytes each.
_WIDTHS = (1_000, 30_000, 1_500_000)
# With several budgets few are dominated, so that more of them would hardly prove more.
_WIDTHS_OF_SEVERAL = (1_000, 10_000, 40_000)
# Prices around the best ones that sharpen the bound of partial choices far from it.
_FACTORS = (0.4, 0.65, 0.85, 1.18, 1.5, 2.5)
_SEEN = 8


@dataclass(frozen=True)
class Answer:
    """What was found for budgets.

    Attributes:
        choice: an option for each group, or None if nothing fits.
        value: its value, in units.
        bound: no choice is worth more; equal to `value` where that is proven.
    """

    choice: list[int] | None
    value: int
    bound: float

    @property
    def exact(self) -> bool:
        """Whether nothing better exists."""
        return self.bound <= self.value


def solve(tables: Tables, budgets: Integers, order: Sequence[int], start: Sequence[Sequence[int]] = ()) -> Answer:
    """The most valuable allowed choice whose costs stay within budgets.

    Args:
        tables: the problem.
        budgets: per cost.
        order: in which groups are decided.
        start: choices known before.
    """
    if not tables.values:
        return Answer([] if np.all(tables.base <= budgets) else None, 0, 0.0)
    search = _Search(tables, budgets, order)
    for choice in start:
        search.offer(list(choice))
    return search.run()


def bounds_with(tables: Tables, budgets: Integers, order: Sequence[int]) -> list[Floats]:
    """Per group and option a bound on the value of a choice within budgets that has this option.

    Args:
        tables: the problem, with at least one group.
        budgets: per cost.
        order: in which groups are decided.
    """
    search = _Search(tables, budgets, order)
    steps = steps_of(tables, order)
    seen = search_prices(steps, tables, search.limits, search.offer)
    return search.bounds_with(steps, search.spread(steps, seen), tables.sizes)


class _Search:
    def __init__(self, tables: Tables, budgets: Integers, order: Sequence[int]) -> None:
        self.whole = tables
        self.budgets = budgets
        self.limits = budgets.astype(np.float64)
        self.order = order
        self.best: Incumbent | None = None
        # Rounding of sums of floats as large as a few times the total value.
        self.margin = 0.5 + 2.0**-37 * tables.value([size - 1 for size in tables.sizes])

    def offer(self, choice: list[int]) -> None:
        """Take a choice if it fits and is better than the best."""
        cost = self.whole.cost(choice)
        if np.any(cost > self.budgets) or not self.whole.admits(choice):
            return
        made = Incumbent(choice, self.whole.value(choice), cost)
        if self.best is None or made.key() > self.best.key():
            self.best = made

    def _offer_inner(self, kept: Kept, choice: list[int]) -> None:
        self.offer(_back(choice, kept))

    def run(self) -> Answer:
        kept: list[NDArray[np.int64]] = [np.arange(size) for size in self.whole.sizes]
        lost = bound = np.inf
        for most in _WIDTHS if len(self.budgets) == 1 else _WIDTHS_OF_SEVERAL:
            tables = self.whole.restrict(kept)
            steps = steps_of(tables, self.order)
            least = [relax(steps, row, worth=0.0) for row in np.eye(len(self.budgets))]
            if any(-float(each.completions[0]) > limit for each, limit in zip(least, self.limits, strict=True)):
                lost = -np.inf
                break
            seen = search_prices(steps, tables, self.limits, partial(self._offer_inner, kept))
            bound = min(bound, seen[0].bound(self.limits))
            relaxations = self.spread(steps, seen)
            floor = -np.inf if self.best is None else self.best.value - self.margin
            bounds = self.bounds_with(steps, relaxations, tables.sizes)
            reduced = [np.flatnonzero((rows >= floor) & (rows > -np.inf)) for rows in bounds]
            if any(len(rows) == 0 for rows in reduced):
                lost = -np.inf
                break
            if sum(map(len, reduced)) < sum(tables.sizes):
                kept = [rows[inner] for rows, inner in zip(kept, reduced, strict=True)]
                tables = self.whole.restrict(kept)
                steps = steps_of(tables, self.order)
                least = [relax(steps, row, worth=0.0) for row in np.eye(len(self.budgets))]
                relaxations = [relax(steps, each.prices) for each in relaxations]
            found, lost = sweep(steps, relaxations, least, self.budgets, self.best, margin=self.margin, most=most)
            if found is not None:
                self.offer(_back(found, kept))
            if lost < (-np.inf if self.best is None else self.best.value - self.margin) or lost == -np.inf:
                break
        if self.best is None:
            return Answer(None, 0, min(bound, lost))
        bound = min(bound, lost)
        proven = bound <= self.best.value + self.margin
        return Answer(self.best.choice, self.best.value, float(self.best.value) if proven else bound)

    def spread(self, steps: Sequence[Step], seen: Sequence[Relaxed]) -> list[Relaxed]:
        """Relaxations at the best prices and around them, the sharpest first."""
        best = seen[0]
        if len(self.budgets) > 1:
            return list(seen[:_SEEN])
        if not np.any(best.prices > 0):
            return [best, *seen[1:_SEEN]]
        return [best, *(relax(steps, best.prices * factor) for factor in _FACTORS)]

    def bounds_with(self, steps: Sequence[Step], relaxations: Sequence[Relaxed], sizes: Sequence[int]) -> list[Floats]:
        """Per group and option the least bound on a choice with this option."""
        bounds: list[Floats] = [np.full(size, np.inf) for size in sizes]
        for relaxed in relaxations:
            for group, best in best_with(steps, relaxed).items():
                bounds[group] = np.minimum(bounds[group], best + relaxed.prices @ self.limits)
        return bounds


def _back(choice: Sequence[int], kept: Sequence[NDArray[np.int64]]) -> list[int]:
    return [int(rows[at]) for rows, at in zip(kept, choice, strict=True)]
