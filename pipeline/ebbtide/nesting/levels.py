"""From importance to levels: the order of units, and how many of each group every level keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.model.coupling import Coupling, macs_by_node, parameters_of, peak_bytes_by_node, permute
from ebbtide.model.graph import Graph
from ebbtide.nesting.knapsack import Found, Infeasible
from ebbtide.nesting.problem import Rules, Scores, problem_of
from ebbtide.nesting.search import search
from ebbtide.nesting.uniform import uniform
from ebbtide.steps import Progress, silent

Search = Literal["bottom-up", "top-down", "joint", "uniform"]


@dataclass(frozen=True)
class Level:
    """One width of a network.

    Args:
        name: ``w25`` for a budget of a quarter; ``w100`` is the whole network.
        budget: what it may cost, as a share of the whole, 0..1.
        widths: units kept by group.
        macs: true multiply-accumulates per sample.
        share: of the whole network's, 0..1.
        parameters: trained numbers.
        peak_bytes: largest input and output together of any operator.
        value: importance kept, as a share of all of it, 0..1.
    """

    name: str
    budget: float
    widths: dict[str, int]
    macs: int
    share: float
    parameters: int
    peak_bytes: int
    value: float

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Ladder:
    """All levels of a network, the narrowest first.

    Args:
        levels: ascending, each nested in the next.
        exact: whether the search proved that no better widths exist.
        gap: how much of the value it may have missed, as a share; 0 if exact.
        note: what the search has to say, or "".
    """

    levels: tuple[Level, ...]
    exact: bool
    gap: float
    note: str


def name_of_level(budget: float) -> str:
    """``w`` and the budget in whole percents."""
    return f"w{round(100 * budget)}"


def order_units(graph: Graph, coupling: Coupling, scores: Scores) -> dict[str, NDArray[np.float64]]:
    """Put the units of every group in descending order of importance, in place; the function stays.

    Units of equal importance keep their order.

    Returns:
        The scores in the new order.
    """
    orders = {group.name: np.argsort(-scores[group.name], kind="stable") for group in coupling.groups}
    permute(graph, coupling, orders)
    return {name: scores[name][order] for name, order in orders.items()}


def choose_levels(
    graph: Graph,
    coupling: Coupling,
    scores: Scores,
    budgets: Sequence[float],
    *,
    rules: Rules = Rules(),  # noqa: B008
    order: Search = "bottom-up",
    progress: Progress = silent,
) -> Ladder:
    """Search the widths of every level.

    Args:
        graph: units ordered, the most important first.
        coupling: its groups.
        scores: of the units as they stand.
        budgets: shares of the whole network's cost, ascending, 0..1. A share of 1 is the whole network, unless a
            memory limit forbids it.
        rules: allowed widths and what they cost.
        order: which levels are searched first, or "uniform" for the same share of every group.
        progress: told of each level.

    Raises:
        EbbtideError: ``nesting.infeasible`` with the binding reason, ``nesting.budgets``,
            ``nesting.nothing_to_shrink`` or ``nesting.dense_table``.
    """
    describe = _Description(graph, coupling, scores)
    problem = problem_of(graph, coupling, scores, rules, operators=describe.operators)
    full = problem.cost(problem.full)
    whole = bool(budgets) and budgets[-1] == 1.0 and not problem.broken(problem.full)
    asked = [share * full for share in (budgets[:-1] if whole else budgets)]
    found = Found((), True, 0.0)
    if asked:
        found = uniform(problem, asked) if order == "uniform" else search(
            problem, asked, order=order, progress=progress
        )  # fmt: skip
    levels = []
    for share, level in zip(budgets, found.levels, strict=False):
        if isinstance(level, Infeasible):
            raise EbbtideError(
                "nesting.infeasible",
                f"No widths meet {100 * share:g} % of the whole network's cost",
                found=level.reason,
                hint="Raise the budget, lower widths.floor or widths.multiple, or lift the memory limit.",
                place="widths.levels",
            )
        levels.append(describe(share, dict(zip(problem.names, level.widths, strict=True))))
    if whole:
        levels.append(describe(1.0, {group.name: group.size for group in coupling.groups}))
    return Ladder(tuple(levels), found.exact, found.gap, found.note)


class _Description:
    def __init__(self, graph: Graph, coupling: Coupling, scores: Scores) -> None:
        self.coupling = coupling
        self.scores = scores
        self.operators = macs_by_node(graph, coupling)
        self.peaks = peak_bytes_by_node(graph, coupling)
        self.parameters = parameters_of(graph, coupling)

    def __call__(self, budget: float, widths: dict[str, int]) -> Level:
        macs = self._macs(widths)
        everything = sum(float(values.sum()) for values in self.scores.values())
        kept = sum(float(self.scores[name][:width].sum()) for name, width in widths.items())
        return Level(
            name=name_of_level(budget),
            budget=budget,
            widths=widths,
            macs=macs,
            share=macs / self._macs({}),
            parameters=self.parameters.at(self.coupling, widths),
            peak_bytes=max(polynomial.at(self.coupling, widths) for _, polynomial in self.peaks),
            value=kept / everything if everything else 1.0,
        )

    def _macs(self, widths: dict[str, int]) -> int:
        return sum(operator.macs.at(self.coupling, widths) for operator in self.operators)
