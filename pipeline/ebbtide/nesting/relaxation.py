"""The budget as a price: bounds on what can still be won, and first solutions.

With a price on each unit of cost the groups' decisions need no budget, and a dynamic programme over the frontier
finds the best ones. Whatever the prices, the value less the priced cost plus the priced budget is at least the best
value there is (Lagrangian relaxation); the prices that make this bound least are found by cutting planes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.nesting.frontier import Step
from ebbtide.nesting.tables import Tables

Floats = NDArray[np.float64]

_CUTS = 60


@dataclass(frozen=True)
class Relaxed:
    """The best that remains at one set of prices.

    Attributes:
        prices: per budget, in value per cost.
        completions: per boundary between steps, over the frontier's combinations, the largest value less priced
            cost that the later steps can add; -inf where nothing is allowed.
    """

    prices: Floats
    completions: list[Floats]

    def bound(self, budgets: Floats) -> float:
        """No choice within the budgets is worth more."""
        return float(self.completions[0]) + float(self.prices @ budgets)


def relax(steps: Sequence[Step], prices: Floats, *, worth: float = 1.0) -> Relaxed:
    """Solve with prices in place of budgets; `worth` 0 asks for the cheapest choice whatever its value."""
    completions: list[Floats] = [np.zeros(())] * (len(steps) + 1)
    for at in range(len(steps) - 1, -1, -1):
        step = steps[at]
        completions[at] = (gains_of(step, prices, worth) + step.lift(completions[at + 1])).max(axis=-1)
    return Relaxed(prices, completions)


def gains_of(step: Step, prices: Floats, worth: float = 1.0) -> Floats:
    """Value less priced cost of each option of a step, -inf where it is not allowed, (before, options)."""
    gains: Floats = worth * step.values - step.cost @ prices
    if step.allowed is not None:
        gains = np.where(step.allowed, gains, -np.inf)
    return gains


def trace(steps: Sequence[Step], relaxed: Relaxed, *, worth: float = 1.0) -> list[int]:
    """A choice that is best at the prices: an option for each group, by the group's index."""
    choice = [0] * len(steps)
    for at, step in enumerate(steps):
        here = tuple(choice[group] for group in step.before)
        after = step.lift(relaxed.completions[at + 1])
        row = np.broadcast_to(after, step.cost.shape[:-1])[here] + (
            worth * step.values - step.cost[here] @ relaxed.prices
        )
        if step.allowed is not None:
            row = np.where(step.allowed[here], row, -np.inf)
        choice[step.group] = int(row.argmax())
    return choice


def best_with(steps: Sequence[Step], relaxed: Relaxed) -> dict[int, Floats]:
    """Per group and option the best value less priced cost of a choice with that option."""
    found: dict[int, Floats] = {}
    before: Floats = np.zeros(())
    for at, step in enumerate(steps):
        reached = gains_of(step, relaxed.prices) + before[..., None]
        whole = reached + step.lift(relaxed.completions[at + 1])
        found[step.group] = whole.max(axis=tuple(range(whole.ndim - 1)))
        before = reached.max(axis=step.dropped) if step.dropped else reached
    return found


def search_prices(
    steps: Sequence[Step], tables: Tables, budgets: Floats, offer: Callable[[list[int]], None]
) -> list[Relaxed]:
    """Relaxations at prices that bound the best value well, the best bound first.

    Args:
        steps: the decisions.
        tables: the same problem, for the cost of a choice.
        budgets: per cost, in its units.
        offer: called with every choice that is met on the way; it decides whether it fits.
    """
    cuts: list[tuple[float, Floats]] = []
    seen: list[Relaxed] = []

    def cut(relaxed: Relaxed, worth: float = 1.0) -> tuple[float, Floats]:
        choice = trace(steps, relaxed, worth=worth)
        offer(choice)
        made = (float(tables.value(choice)), tables.cost(choice).astype(np.float64))
        cuts.append(made)
        return made

    none = np.zeros(len(budgets))
    first = relax(steps, none)
    seen.append(first)
    _, cost = cut(first)
    if np.all(cost <= budgets):
        return seen
    least = relax(steps, 1.0 / np.maximum(budgets, 1.0), worth=0.0)
    cut(least, worth=0.0)
    limit = 4.0 * max(float(tables.value([size - 1 for size in tables.sizes])), 1.0)
    for _ in range(_CUTS):
        prices, under = _cheapest_bound(cuts, budgets, limit)
        relaxed = relax(steps, prices)
        seen.append(relaxed)
        cut(relaxed)
        if min(each.bound(budgets) for each in seen) <= under + 0.25 + 1e-12 * limit:
            break
    return sorted(seen, key=lambda each: each.bound(budgets))


def _cheapest_bound(cuts: list[tuple[float, Floats]], budgets: Floats, limit: float) -> tuple[Floats, float]:
    """Prices with the least bound by the choices met so far, and that bound."""
    if len(budgets) == 1:
        return _cheapest_bound_of_one(cuts, budgets, limit)
    from scipy.optimize import linprog

    # min t over t >= value + prices @ (budgets - cost), with prices scaled by the budgets to one order of magnitude.
    scale = np.maximum(budgets, 1.0)
    rows = np.array([[*((budgets - cost) / scale), -1.0] for _, cost in cuts])
    heights = np.array([-value for value, _ in cuts])
    size = max(1.0, float(np.abs(heights).max()))
    solved = linprog(
        [*np.zeros(len(budgets)), 1.0],
        A_ub=rows,
        b_ub=heights / size,
        bounds=[(0.0, limit / size)] * len(budgets) + [(None, None)],
        method="highs",
    )
    if solved.x is None:
        return budgets * 0.0, -np.inf
    return np.maximum(solved.x[:-1], 0.0) * size / scale, float(solved.x[-1]) * size


def _cheapest_bound_of_one(cuts: list[tuple[float, Floats]], budgets: Floats, limit: float) -> tuple[Floats, float]:
    """The same for one budget: the line through two choices, one within the budget and one above."""
    budget = float(budgets[0])
    within = [(value, float(cost[0])) for value, cost in cuts if cost[0] <= budget]
    above = [(value, float(cost[0])) for value, cost in cuts if cost[0] > budget]
    best_price, best_bound = limit / max(budget, 1.0), -np.inf
    # The bound by the cuts is the upper hull of (cost, value) at the budget: the largest of all chords.
    for low_value, low in within:
        for high_value, high in above:
            price = max((high_value - low_value) / (high - low), 0.0)
            bound = low_value + price * (budget - low)
            if bound > best_bound:
                best_price, best_bound = price, bound
    return np.array([best_price]), best_bound
