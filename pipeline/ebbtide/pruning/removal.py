"""Channels removed from a graph: which ones by their scores, how many of each group by the exact search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ebbtide.errors import EbbtideError
from ebbtide.model.coupling import Coupling
from ebbtide.model.graph import Graph
from ebbtide.nesting import (
    Level,
    Nested,
    Problem,
    Rules,
    choose_levels,
    extract,
    least_cost,
    order_units,
    problem_of,
    reason_against,
)
from ebbtide.nesting.problem import Scores
from ebbtide.steps import Progress, silent

Allocation = Literal["exact", "uniform"]
# A share that was a ratio of two costs is to allow that cost again.
_ROUNDING = 1.0 + 1e-12


@dataclass(frozen=True)
class Removed:
    """A plain graph after a removal.

    Args:
        graph: what is left, in evaluation mode, with contiguous tensors of its own.
        level: widths by group, true MACs, parameters, and the share of the scores that was kept.
        exact: whether no better widths exist for these scores.
        gap: by what share of the value they may lie below the best; 0 if exact.
    """

    graph: Graph
    level: Level
    exact: bool
    gap: float

    def to_json(self) -> dict[str, Any]:
        """What was kept, as JSON values."""
        named = ("widths", "macs", "share", "parameters", "value")
        return {name: getattr(self.level, name) for name in named} | {"exact": self.exact, "gap": self.gap}


def remove_channels(
    graph: Graph,
    coupling: Coupling,
    scores: Scores,
    *,
    kept: float,
    rules: Rules = Rules(),  # noqa: B008
    allocation: Allocation = "exact",
    progress: Progress = silent,
) -> Removed:
    """Take out the units of least score, as many of each group as make the rest worth most within a budget.

    Args:
        graph: stays as it is.
        coupling: its groups.
        scores: of its units as they stand, comparable between groups (`ebbtide.saliency.unit_scores`).
        kept: share of the graph's own cost that may remain, above 0 and at most 1: of its true multiply-accumulates,
            or of what `rules` count.
        rules: which widths are allowed, and what they cost.
        allocation: "uniform", the control, keeps the same share of every group.
        progress: told of the search.

    Raises:
        EbbtideError: ``pruning.floor`` with the reason where no widths meet the budget, ``pruning.budget`` for a share
            out of range, ``pruning.scores`` where all are 0, and what the search raises for graphs too dense.
    """
    _check_share(kept)
    if kept < 1.0 and not any(np.any(values > 0) for values in scores.values()):
        raise EbbtideError(
            "pruning.scores",
            "All scores are 0: nothing says which channels matter.",
            found=f"{len(scores)} groups",
            hint="The model's loss may be 0 on these samples; take more or other samples, or scores by magnitude.",
        )
    whole = graph.copy()
    ordered = order_units(whole, coupling, scores)
    try:
        ladder = choose_levels(
            whole,
            coupling,
            ordered,
            [min(1.0, kept * _ROUNDING)],
            rules=rules,
            order="uniform" if allocation == "uniform" else "bottom-up",
            progress=progress,
        )
    except EbbtideError as error:
        if error.code not in ("nesting.infeasible", "nesting.nothing_to_shrink"):
            raise
        raise _floor(kept, error.found) from error
    (level,) = ladder.levels
    return Removed(extract(Nested(whole, coupling, (level,)), level.name), level, ladder.exact, ladder.gap)


def check_budget(
    graph: Graph,
    coupling: Coupling,
    *,
    kept: float,
    rules: Rules = Rules(),  # noqa: B008
    allocation: Allocation = "exact",
) -> None:
    """Refuse a budget that no removal meets; cheap, so that it is known before anything is trained.

    Args:
        graph: what channels would be taken out of.
        coupling: its groups.
        kept: share of its cost that may remain.
        rules: which widths are allowed, and what they cost.
        allocation: "uniform" can leave no less than every group's floor either, so both are checked alike.

    Raises:
        EbbtideError: ``pruning.floor`` with the reason, ``pruning.budget``.
    """
    _check_share(kept)
    if kept == 1.0:
        return
    problem = _problem(graph, coupling, kept, rules)
    reason = reason_against(problem, min(1.0, kept * _ROUNDING) * problem.cost(problem.full))
    if reason is not None:
        raise _floor(kept, reason)


def least_share(graph: Graph, coupling: Coupling, *, rules: Rules = Rules()) -> float:  # noqa: B008
    """The smallest share of a graph's cost that a removal can leave, 0..1; 1 where nothing can go.

    Args:
        graph: what channels would be taken out of.
        coupling: its groups.
        rules: which widths are allowed, and what they cost.
    """
    try:
        problem = _problem(graph, coupling, 1.0, rules)
    except EbbtideError as error:
        if error.code != "pruning.floor":
            raise
        return 1.0
    return min(1.0, least_cost(problem) / problem.cost(problem.full))


def _problem(graph: Graph, coupling: Coupling, kept: float, rules: Rules) -> Problem:
    even = {group.name: np.ones(group.size) for group in coupling.groups}
    try:
        return problem_of(graph, coupling, even, rules)
    except EbbtideError as error:
        if error.code != "nesting.nothing_to_shrink":
            raise
        raise _floor(kept, error.found) from error


def _check_share(kept: float) -> None:
    if not 0.0 < kept <= 1.0:
        raise EbbtideError(
            "pruning.budget",
            f"A model cannot be made {kept:g} of its size.",
            expected="a share above 0 and at most 1",
            found=f"{kept:g}",
            hint="0.1 keeps a tenth.",
        )


def _floor(kept: float, reason: str | None) -> EbbtideError:
    return EbbtideError(
        "pruning.floor",
        f"No removal of channels leaves {100 * kept:g} % of the model or less",
        found=reason,
        hint="Raise the budget, or lower the floor or the multiple of channels; `ebb inspect --groups` lists what "
        "stays whole and why.",
    )
