"""What a search over nested widths is given and what it finds; knows nothing of graphs.

A problem is a knapsack over groups of units. Each group takes one of a few widths; the total value is the sum of
the groups' values, the total cost a sum of tables over single groups, pairs or small tuples of groups: the
multiply-accumulates of a convolution depend on its width and on that of the layer before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError

Table = NDArray[Any]


@dataclass(frozen=True)
class Factor:
    """Numbers over the options of a few groups.

    Attributes:
        groups: indices of the groups, each once; empty for a constant.
        table: one axis for each of `groups`, as long as that group has options; finite.
    """

    groups: tuple[int, ...]
    table: Table


@dataclass(frozen=True)
class Limit:
    """Numbers none of which may exceed a bound, such as the bytes of a layer's input and output.

    Attributes:
        subject: what is limited, for the reason of a budget that nothing meets.
        factor: the numbers.
        most: the largest number that is allowed.
    """

    subject: str
    factor: Factor
    most: float


@dataclass(frozen=True)
class Problem:
    """Choose a width for each group: the most value at a total cost within a budget.

    Attributes:
        names: the groups.
        options: per group the widths it may take, int64, ascending.
        values: per group the value of each option, not negative, not decreasing.
        costs: the total cost is the sum of what these tables hold at the chosen options; not negative.
        limits: what else must hold, whatever the budget.
        unit: what the cost is counted in, for messages.
    """

    names: tuple[str, ...]
    options: tuple[NDArray[np.int64], ...]
    values: tuple[NDArray[np.float64], ...]
    costs: tuple[Factor, ...]
    limits: tuple[Limit, ...] = ()
    unit: str = field(default="MACs", kw_only=True)

    def __post_init__(self) -> None:
        """Raise ValueError if the parts do not fit each other."""
        if not len(self.names) == len(self.options) == len(self.values):
            raise ValueError("names, options and values differ in number")
        for name, options, values in zip(self.names, self.options, self.values, strict=True):
            if options.ndim != 1 or len(options) == 0 or np.any(np.diff(options) <= 0):
                raise ValueError(f"the options of {name} are not ascending widths: {options}")
            if values.shape != options.shape or not np.all(np.isfinite(values)):
                raise ValueError(f"the values of {name} are not one finite number for each option")
            if np.any(values < 0) or np.any(np.diff(values) < 0):
                raise ValueError(f"the values of {name} are negative or decrease")
        for factor in (*self.costs, *(limit.factor for limit in self.limits)):
            shape = tuple(len(self.options[group]) for group in factor.groups)
            if np.shape(factor.table) != shape or len(set(factor.groups)) != len(factor.groups):
                raise ValueError(f"a table over the groups {factor.groups} has shape {np.shape(factor.table)}")
            if not np.all(np.isfinite(factor.table)):
                raise ValueError(f"a table over the groups {factor.groups} is not finite")
        if any(np.any(np.asarray(factor.table) < 0) for factor in self.costs):
            raise ValueError("a cost is negative")

    @property
    def full(self) -> tuple[int, ...]:
        """The option of each group that keeps the most units."""
        return tuple(len(options) - 1 for options in self.options)

    def widths(self, choice: Sequence[int]) -> tuple[int, ...]:
        """The widths of a choice of options."""
        return tuple(int(options[at]) for options, at in zip(self.options, choice, strict=True))

    def cost(self, choice: Sequence[int]) -> float:
        """The total cost of a choice of options; exact where the tables hold integers."""
        return _total([factor.table[tuple(choice[group] for group in factor.groups)] for factor in self.costs])

    def value(self, choice: Sequence[int]) -> float:
        """The total value of a choice of options."""
        return math.fsum(float(values[at]) for values, at in zip(self.values, choice, strict=True))

    def broken(self, choice: Sequence[int]) -> tuple[str, ...]:
        """Subjects of the limits that a choice of options exceeds."""
        return tuple(
            limit.subject
            for limit in self.limits
            if limit.factor.table[tuple(choice[group] for group in limit.factor.groups)] > limit.most
        )


@dataclass(frozen=True)
class Solution:
    """The widths found for one budget.

    Attributes:
        widths: units kept, one for each group of the problem.
        cost: what they cost, at most `budget`.
        value: what they are worth.
        budget: what they may cost.
    """

    widths: tuple[int, ...]
    cost: float
    value: float
    budget: float


@dataclass(frozen=True)
class Infeasible:
    """No widths meet one budget.

    Attributes:
        budget: what the widths may cost.
        reason: what stands against it: the floors with the least possible cost, or a limit.
    """

    budget: float
    reason: str


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        levels: one for each budget, in their order; widths never shrink from one solution to the next.
        exact: whether each level (``bottom-up``, ``top-down``: given its neighbour; ``joint``: all together) is
            proven to be the best there is.
        gap: by how much at most the value lies below the best, as a share of the best; 0 where exact.
        note: what stopped an exact search, or what kind of answer this is; empty where there is nothing to say.
    """

    levels: tuple[Solution | Infeasible, ...]
    exact: bool
    gap: float
    note: str = ""


def check_budgets(problem: Problem, budgets: Sequence[float]) -> tuple[float, ...]:
    """The budgets as numbers; one within rounding of the full cost becomes the full cost.

    Raises:
        EbbtideError: ``nesting.budgets`` if there are none, or if they are not positive, strictly ascending and at
            most the cost of the full widths.
    """
    full = problem.cost(problem.full)
    found = ", ".join(f"{budget:g}" for budget in budgets) or "none"
    expected = f"ascending numbers above 0 and at most {full:g} {problem.unit}, the cost of all units"
    if not budgets:
        raise EbbtideError("nesting.budgets", "There is no budget to search for.", expected=expected, found=found)
    checked: list[float] = []
    for budget in budgets:
        if not math.isfinite(budget) or budget <= 0:
            problem_found = f"The budget {budget:g} is not a number above 0."
        elif budget > full and not math.isclose(budget, full, rel_tol=1e-12):
            problem_found = f"The budget {budget:g} is above {full:g} {problem.unit}, what all units cost."
        elif checked and budget == checked[-1]:
            problem_found = f"The budget {budget:g} stands twice."
        elif checked and budget < checked[-1]:
            problem_found = f"The budget {budget:g} follows the larger {checked[-1]:g}."
        else:
            checked.append(full if math.isclose(budget, full, rel_tol=1e-12) else budget)
            continue
        raise EbbtideError(
            "nesting.budgets",
            problem_found,
            expected=expected,
            found=found,
            hint="Give each width its own share of the cost, the smallest first.",
        )
    if len(set(checked)) != len(checked):
        raise EbbtideError("nesting.budgets", "Two budgets are the full cost.", expected=expected, found=found)
    return tuple(checked)


def _total(entries: Sequence[Any]) -> float:
    if all(np.issubdtype(np.asarray(entry).dtype, np.integer) for entry in entries):
        return float(sum(int(entry) for entry in entries))
    return math.fsum(float(entry) for entry in entries)
