"""One level: the exact search where the groups' tables fit in memory, the bounded one where they do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ebbtide.nesting import exact
from ebbtide.nesting.dense import solve_densely
from ebbtide.nesting.exact import Answer
from ebbtide.nesting.frontier import choose_order, steps_of
from ebbtide.nesting.relaxation import relax, trace
from ebbtide.nesting.tables import Kept, Tables

# Entries of all tables together; about 100 bytes each while they are searched.
MOST_ENTRIES = 8_000_000
TOO_DENSE = (
    f"the groups depend on each other too densely for an exact search (tables of more than {MOST_ENTRIES:,} entries)"
)
TOO_MANY = "more partial choices were equally hopeful than fit in memory"


class Solver:
    """Finds the best widths for one budget among some of the options.

    Attributes:
        tables: the whole problem.
        note: why the last answer that had no proof has none; empty if each had one.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.note = ""
        self._order, self._entries = choose_order(tables)

    @property
    def dense(self) -> bool:
        """Whether the whole problem is too large for an exact search."""
        return self._entries > MOST_ENTRIES

    def solve(self, kept: Kept, budget: int, *, start: Sequence[Sequence[int]] = (), prove: bool = True) -> Answer:
        """The best choice of options among those kept.

        Args:
            kept: per group the options.
            budget: in units of cost.
            start: choices known before.
            prove: whether a bound is wanted where an exact search is too large.

        Returns:
            An answer in options of the whole problem.
        """
        tables = self.tables.restrict(kept)
        inner = [found for found in (_inside(choice, kept) for choice in start) if found is not None]
        budgets = np.array([budget], np.int64)
        order, entries = self._fitting(tables)
        if entries <= MOST_ENTRIES:
            answer = exact.solve(tables, budgets, order, inner)
            self.note = self.note if answer.exact else TOO_MANY
        else:
            cheapest = self.cheapest(kept)
            if cheapest is not None:
                inner.append([int(np.searchsorted(rows, at)) for rows, at in zip(kept, cheapest, strict=True)])
            answer = solve_densely(tables, budgets, inner, most_entries=MOST_ENTRIES / 4, prove=prove)
            self.note = self.note if answer.exact else TOO_DENSE
        if answer.choice is None:
            return answer
        choice = [int(rows[at]) for rows, at in zip(kept, answer.choice, strict=True)]
        return Answer(choice, answer.value, answer.bound)

    def bounds_with(self, budget: int) -> list[NDArray[np.float64]]:
        """Per group and option a bound on what a choice within a budget and with this option is worth."""
        if self.dense or not self.tables.values:
            return [np.full(size, np.inf) for size in self.tables.sizes]
        return exact.bounds_with(self.tables, np.array([budget], np.int64), self._order)

    def cheapest(self, kept: Kept, *, limits: int | None = None) -> list[int] | None:
        """The cheapest choice that keeps the first so many limits (None: all), or None if there is none.

        Where the tables are too large the narrowest widths are taken, which is right for costs that grow with width.
        """
        tables = self.tables.restrict(kept)
        tables = Tables(tables.values, tables.costs, tables.base, tables.allowed[:limits])
        order, entries = self._fitting(tables)
        if not tables.values:
            found: list[int] = []
        elif entries > MOST_ENTRIES:
            found = [0] * len(tables.values)
        else:
            steps = steps_of(tables, order)
            relaxed = relax(steps, np.ones(1), worth=0.0)
            if np.isneginf(relaxed.completions[0]):
                return None
            found = trace(steps, relaxed, worth=0.0)
        if not tables.admits(found):
            return None
        return [int(rows[at]) for rows, at in zip(kept, found, strict=True)]

    def _fitting(self, tables: Tables) -> tuple[Sequence[int], float]:
        if not self.dense:
            return self._order, self._entries
        return choose_order(tables)


def _inside(choice: Sequence[int], kept: Kept) -> list[int] | None:
    """A choice as positions among the kept options; None if it uses another."""
    positions = [int(np.searchsorted(rows, at)) for rows, at in zip(kept, choice, strict=True)]
    if all(at < len(rows) and rows[at] == want for at, rows, want in zip(positions, kept, choice, strict=True)):
        return positions
    return None
