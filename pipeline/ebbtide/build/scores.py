"""From records to the table that ships: what is searched, what is kept, which rows are tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ebbtide.exits import Records
    from ebbtide.model import Metric
    from ebbtide.recipe import Recipe
    from ebbtide.search import Candidate, Costs


@dataclass(frozen=True)
class Choice:
    """A table of configurations.

    Attributes:
        rows: the configurations that ship, best quality first; the one without exits is among them.
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


def choose(
    records: Records, costs: Costs, *, recipe: Recipe, classes: int, gate: Sequence[NDArray[np.float32]] | None
) -> Choice:
    """Search thresholds, keep the Pareto table, choose tiers.

    Args:
        records: of select.
        costs: MACs.
        recipe: its metric and tiers sections.
        classes: size of the class set.
        gate: by exit, confidences of every sample that the gate will compare, if that is more than select; thresholds
            keep their distance from these too.
    """
    from ebbtide.search import admissible_thresholds, choose_tiers, pareto, search_thresholds, thin

    seen = gate if gate is not None else records.confidences[:-1]
    choices = [admissible_thresholds(np.asarray(row), classes=classes) for row in seen]
    scored = search_thresholds(records, costs, choices=choices, metric=recipe.metric, classes=classes)
    front = pareto(scored)
    count = None if recipe.tiers.count == "auto" else recipe.tiers.count
    tiers = choose_tiers(front, count=count, max_drop_points=recipe.tiers.max_drop_points, floor=recipe.tiers.floor)
    rows = thin(front, keep=tiers)
    named = [rows.index(front[index]) for index in tiers]
    if all(row.thresholds for row in rows):
        # The model without exits always ships, so that an application can ask for it; it need not be a tier.
        rows.append(next(c for c in scored if not c.thresholds))
    return Choice(rows=rows, tiers=named, scored=scored)
