"""The control: the same share of every group, whatever its units are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ebbtide.nesting.knapsack import Found, Infeasible, Problem, Solution, check_budgets
from ebbtide.nesting.reasons import cost_too_high, limit_alone

NOTE = "the same share of every group, the largest that fits; not searched by value"


def uniform(problem: Problem, budgets: Sequence[float]) -> Found:
    """The largest share of all widths that fits each budget.

    Each group takes the allowed width that is nearest to the share of its full one (of two as near, the wider), so
    floors and multiples are kept and levels are nested.

    Args:
        problem: costs, limits and options; values are only reported.
        budgets: what each level may cost, ascending.

    Raises:
        EbbtideError: ``nesting.budgets`` if the budgets are not positive, ascending and at most the full cost.
    """
    checked = check_budgets(problem, budgets)
    rows = _rows(problem)
    within = np.ones(len(rows), np.bool_)
    for limit in problem.limits:
        within &= _look_up(limit.factor.table, limit.factor.groups, rows) <= limit.most
    levels: list[Solution | Infeasible] = []
    for budget in checked:
        level: Solution | Infeasible | None = None
        for at in np.flatnonzero(within)[::-1]:
            choice = [int(option) for option in rows[at]]
            cost = problem.cost(choice)
            if cost <= budget:
                level = Solution(problem.widths(choice), cost, problem.value(choice), budget)
                break
        levels.append(level or Infeasible(budget, _reason(problem, rows, within, budget)))
    return Found(tuple(levels), True, 0.0, NOTE)


def _rows(problem: Problem) -> NDArray[np.int64]:
    """Per different share, ascending, the option of each group, (shares, groups)."""
    # Where a group's nearest option changes: the midpoints between two options, as shares of the full width.
    changes = [(options[1:] + options[:-1]) / (2 * options[-1]) for options in problem.options]
    shares = np.unique(np.concatenate([np.zeros(1), *changes]))
    if not problem.options:
        return np.zeros((1, 0), np.int64)
    return np.stack([np.searchsorted(change, shares, side="right") for change in changes], axis=1).astype(np.int64)


def _look_up(table: NDArray[np.float64], groups: tuple[int, ...], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.asarray(table)[tuple(rows[:, group] for group in groups)])


def _reason(problem: Problem, rows: NDArray[np.int64], within: NDArray[np.bool_], budget: float) -> str:
    if not within.any():
        alone = limit_alone(problem)
        subjects = ", ".join(dict.fromkeys(problem.broken([int(option) for option in rows[0]])))
        return alone or f"no common share of the widths keeps the limits: the smallest breaks {subjects}"
    narrowest = min((int(at) for at in np.flatnonzero(within)), key=lambda at: problem.cost(list(rows[at])))
    return cost_too_high(problem, [int(option) for option in rows[narrowest]], budget, free=None)
