"""The search over nested widths: several budgets, and widths that never shrink from one to the next larger."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from ebbtide.nesting.exact import Answer
from ebbtide.nesting.joint import solve_together
from ebbtide.nesting.knapsack import Found, Infeasible, Problem, Solution, check_budgets
from ebbtide.nesting.reasons import cost_too_high, limit_alone, limits_together
from ebbtide.nesting.solver import Solver
from ebbtide.nesting.tables import Kept, Scale, Tables, tables_of
from ebbtide.steps import Progress, Task, silent

Order = Literal["bottom-up", "top-down", "joint"]


def search(
    problem: Problem, budgets: Sequence[float], *, order: Order = "bottom-up", progress: Progress = silent
) -> Found:
    """The most valuable widths for each of several budgets, each nested in the next larger.

    ``bottom-up`` takes the best widths for the smallest budget, and each further level may only grow; ``top-down``
    takes the best for the largest, and each smaller level may only shrink; ``joint`` makes the sum of the levels'
    values as large as it can be. Levels of equal value are chosen by lower cost. Values and costs that are not whole
    numbers are compared to a share of 1e-11 of their total.

    Args:
        problem: values and costs of the groups' widths.
        budgets: what each level may cost, ascending.
        order: how levels depend on each other.
        progress: told of each level.

    Returns:
        A level for each budget. ``exact`` is false where the groups depend on each other too densely, or too many
        levels are searched together, for an exact search in the memory it is given; then ``gap`` is a proven bound.

    Raises:
        EbbtideError: ``nesting.budgets`` if the budgets are not positive, ascending and at most the full cost.
    """
    checked = check_budgets(problem, budgets)
    reason = limit_alone(problem)
    if reason is not None:
        return Found(tuple(Infeasible(budget, reason) for budget in checked), True, 0.0)
    tables, scale = tables_of(problem)
    return _Levels(problem, tables, scale, checked, progress).find(order)


def reason_against(problem: Problem, budget: float) -> str | None:
    """Why no widths meet one budget, or None where some do. Nothing is searched but the cheapest widths.

    Args:
        problem: values and costs of the groups' widths.
        budget: what the widths may cost.

    Raises:
        EbbtideError: ``nesting.budgets`` if the budget is not positive and at most the full cost.
    """
    (budget,) = check_budgets(problem, [budget])
    reason = limit_alone(problem)
    if reason is not None:
        return reason
    tables, scale = tables_of(problem)
    return _Levels(problem, tables, scale, (budget,), silent).reason_against(budget)


def least_cost(problem: Problem) -> float:
    """What the cheapest widths that keep all limits cost; infinite where none do."""
    tables, _ = tables_of(problem)
    cheapest = Solver(tables).cheapest([np.arange(size) for size in tables.sizes])
    return math.inf if cheapest is None else problem.cost(cheapest)


class _Levels:
    def __init__(
        self, problem: Problem, tables: Tables, scale: Scale, budgets: tuple[float, ...], progress: Progress
    ) -> None:
        self.problem = problem
        self.tables = tables
        self.scale = scale
        self.budgets = budgets
        self.solver = Solver(tables)
        self.progress = progress

    def find(self, order: Order) -> Found:
        with self.progress.task(f"search widths, {order}", total=len(self.budgets)) as task:
            if order == "joint":
                found = self._together()
                task.advance(len(self.budgets))
                return found
            return self._one_by_one(order, task)

    def reason_against(self, budget: float) -> str | None:
        """Why no widths meet a budget; None where the cheapest do."""
        kept = self._between(None, None)
        cheapest = self.solver.cheapest(kept)
        if cheapest is not None and int(self.tables.cost(cheapest)[0]) <= self.scale.budget(budget):
            return None
        return self._reason(budget, kept)

    def _one_by_one(self, order: Order, task: Task) -> Found:
        levels: list[Solution | Infeasible] = []
        gap = 0.0
        neighbour: list[int] | None = None
        upward = order == "bottom-up"
        for budget in self.budgets if upward else reversed(self.budgets):
            kept = self._between(neighbour, None) if upward else self._between(None, neighbour)
            answer = self.solver.solve(kept, self.scale.budget(budget), start=[] if neighbour is None else [neighbour])
            gap = max(gap, _gap(answer))
            levels.append(self._level(answer.choice, budget, kept))
            if answer.choice is not None:
                neighbour = answer.choice
            task.advance()
        return self._found(levels if upward else levels[::-1], gap)

    def _together(self) -> Found:
        everything = self._between(None, None)
        cheapest = self.solver.cheapest(everything)
        least = None if cheapest is None else int(self.tables.cost(cheapest)[0])
        infeasible: list[Solution | Infeasible] = [
            self._level(None, budget, everything)
            for budget in self.budgets
            if least is None or least > self.scale.budget(budget)
        ]
        budgets = self.budgets[len(infeasible) :]
        if not budgets:
            return self._found(infeasible, 0.0)
        choices, gap, note = solve_together(self.solver, [self.scale.budget(budget) for budget in budgets])
        levels = [self._level(choice, budget, everything) for choice, budget in zip(choices, budgets, strict=True)]
        found = self._found([*infeasible, *levels], gap)
        return replace(found, note=note or found.note)

    def _between(self, lower: Sequence[int] | None, upper: Sequence[int] | None) -> Kept:
        """Per group the options from one choice to another, both included."""
        return [
            np.arange(0 if lower is None else lower[group], size if upper is None else upper[group] + 1)
            for group, size in enumerate(self.tables.sizes)
        ]

    def _level(self, choice: Sequence[int] | None, budget: float, kept: Kept) -> Solution | Infeasible:
        problem = self.problem
        if choice is not None:
            return Solution(problem.widths(choice), problem.cost(choice), problem.value(choice), budget)
        return Infeasible(budget, self._reason(budget, kept))

    def _reason(self, budget: float, kept: Kept) -> str:
        cheapest = self.solver.cheapest(kept)
        narrowed = any(len(rows) < size for rows, size in zip(kept, self.tables.sizes, strict=True))
        within = " within those of the next larger budget" if narrowed else ""
        if cheapest is not None:
            free = self.solver.cheapest(kept, limits=0)
            return cost_too_high(self.problem, cheapest, budget, free=free, within=within)
        limits = self.problem.limits
        for count in range(1, len(limits) + 1):
            if self.solver.cheapest(kept, limits=count) is None:
                return limits_together(limits[:count]) + within
        return "no widths were found that keep all limits" + within

    def _found(self, levels: Sequence[Solution | Infeasible], gap: float) -> Found:
        return Found(tuple(levels), gap == 0.0, gap, self.solver.note if gap > 0 else "")


def _gap(answer: Answer) -> float:
    if answer.exact:
        return 0.0
    return (answer.bound - answer.value) / answer.bound if np.isfinite(answer.bound) else 1.0
