"""Why no widths meet a budget: which floors cost too much, or which limit nothing keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ebbtide.nesting.knapsack import Limit, Problem

# Groups named in a reason, the dearest first.
_NAMED = 3


def limit_alone(problem: Problem) -> str | None:
    """A limit that no combination of widths keeps, with the least there is; None if each can be kept."""
    for limit in problem.limits:
        least = float(np.min(limit.factor.table))
        if least > limit.most:
            return f"no widths keep {limit.subject} within {limit.most:g}: the least is {least:g}"
    return None


def limits_together(limits: Sequence[Limit]) -> str:
    """Limits that each can be kept, but not all of them at once; the last of them is the one that fails."""
    *others, last = limits
    before = f" together with {', '.join(limit.subject for limit in others[-_NAMED:])}" if others else ""
    return f"no widths keep {last.subject} within {last.most:g}{before}"


def cost_too_high(
    problem: Problem, cheapest: Sequence[int], budget: float, *, free: Sequence[int] | None, within: str = ""
) -> str:
    """Why the cheapest widths cost more than a budget.

    Args:
        problem: the problem.
        cheapest: the cheapest choice that keeps all limits.
        budget: what it may cost.
        free: the cheapest choice without limits.
        within: what else narrowed the choice.
    """
    cost = problem.cost(cheapest)
    over = f"the cheapest widths{within} cost {cost:g} {problem.unit}, {cost - budget:g} above the budget of {budget:g}"
    if free is not None and problem.cost(free) <= budget:
        subjects = ", ".join(problem.broken(free)[:_NAMED])
        return f"{over}; narrower ones would fit but break the limit of {subjects}"
    shares = _shares(problem, cheapest)
    widths = problem.widths(cheapest)
    dearest = sorted(range(len(shares)), key=lambda group: (-shares[group], group))[:_NAMED]
    named = ", ".join(f"{problem.names[group]} at {widths[group]} ({shares[group]:g})" for group in dearest)
    return f"{over}; the floors that cost most: {named}" if named else f"{over}; nothing can shrink"


def _shares(problem: Problem, choice: Sequence[int]) -> list[float]:
    """What each group has part in of the cost of a choice; a table over several groups is split evenly."""
    shares = [0.0] * len(problem.names)
    for factor in problem.costs:
        entry = float(factor.table[tuple(choice[group] for group in factor.groups)])
        for group in factor.groups:
            shares[group] += entry / len(factor.groups)
    return shares
