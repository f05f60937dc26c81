"""From records to the table that ships: what is searched, what is kept, which rows are tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ebbtide.exits import Records
    from ebbtide.model import Metric
    from ebbtide.recipe import Recipe
    from ebbtide.search import Candidate, Costs


@dataclass(frozen=True)
class Scorable:
    """One width as the search sees it.

    Attributes:
        width: its name.
        records: of select.
        costs: MACs.
        gate: by exit, confidences of every sample that the gate will compare, if that is more than select; thresholds
            keep their distance from these too.
    """

    width: str
    records: Records
    costs: Costs
    gate: Sequence[NDArray[np.float32]] | None = None


@dataclass(frozen=True)
class Choice:
    """A table of configurations.

    Attributes:
        rows: the configurations that ship, best quality first; those without exits of every width are among them.
        tiers: indices into `rows`.
        scored: everything that was scored, for the report.
    """

    rows: list[Candidate]
    tiers: list[int]
    scored: list[Candidate]


def metric_of(metric: Metric, predictions: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> float:
    """The recipe's metric, 0..1."""
    from ebbtide.model import metric_value

    return float(metric_value(metric, predictions, labels, classes=classes))


def choose(widths: Sequence[Scorable], *, recipe: Recipe, classes: int) -> Choice:
    """Search thresholds in every width, keep the Pareto table over all of them, choose tiers.

    Args:
        widths: all of them.
        recipe: its metric and tiers sections.
        classes: size of the class set.
    """
    from ebbtide.search import choose_tiers, pareto, thin

    scored = [candidate for width in widths for candidate in _searched(width, recipe.metric, classes)]
    front = pareto(scored)
    count = None if recipe.tiers.count == "auto" else recipe.tiers.count
    tiers = choose_tiers(front, count=count, max_drop_points=recipe.tiers.max_drop_points, floor=recipe.tiers.floor)
    rows = thin(front, keep=tiers)
    named = [rows.index(front[index]) for index in tiers]
    for width in widths:
        # Every width ships as it is, so that an application can ask for it; it need not be a tier.
        if all(row.thresholds or row.width != width.width for row in rows):
            rows.append(next(c for c in scored if not c.thresholds and c.width == width.width))
    return Choice(rows=rows, tiers=named, scored=scored)


def _searched(width: Scorable, metric: Metric, classes: int) -> list[Candidate]:
    from ebbtide.search import admissible_thresholds, search_thresholds

    seen = width.gate if width.gate is not None else width.records.confidences[:-1]
    choices = [admissible_thresholds(np.asarray(row), classes=classes) for row in seen]
    found = search_thresholds(width.records, width.costs, choices=choices, metric=metric, classes=classes)
    return [replace(candidate, width=width.width) for candidate in found]
