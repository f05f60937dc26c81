"""The exact value of a configuration, from records alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.exits import Records
from ebbtide.model import Metric, metric_value
from ebbtide.search.costs import Costs

OFF = np.float32(np.inf)
"""A threshold that nothing exceeds: the exit is not in the path and costs nothing."""


@dataclass(frozen=True)
class Score:
    """What a configuration is expected to get right and to cost.

    Attributes:
        value: the metric, 0..1.
        mean_cost: mean over samples of the backbone to the leaving position and all enabled exits passed.
        shares: (P + 1,) part of the samples that leaves at each exit, the head last.
    """

    value: float
    mean_cost: float
    shares: tuple[float, ...]


def leaving(records: Records, thresholds: NDArray[np.float32]) -> NDArray[np.int64]:
    """Row (exit index, or P for the head) at which every sample leaves: the first with confidence > threshold.

    Strict, in float32, exactly as every runtime compares.

    Args:
        records: P exits and the head.
        thresholds: (P,) float32; `OFF` where an exit is off.
    """
    goes = records.confidences[:-1] > thresholds[:, None]
    last = np.ones((1, len(records)), dtype=bool)
    rows: NDArray[np.int64] = np.concatenate([goes, last]).argmax(axis=0)
    return rows


def score(records: Records, costs: Costs, thresholds: NDArray[np.float32], *, metric: Metric, classes: int) -> Score:
    """Score a configuration sample by sample.

    Args:
        records: of the split the score is for.
        costs: unit of `Score.mean_cost`.
        thresholds: (P,) float32; `OFF` where an exit is off.
        metric: ``accuracy``, ``balanced_accuracy`` or ``macro_f1``.
        classes: number of classes.
    """
    rows = leaving(records, thresholds)
    predictions = records.predictions[rows, np.arange(len(records))]
    shares = np.bincount(rows, minlength=len(thresholds) + 1) / len(records)
    paid = costs.leaving_costs(records.positions, np.isfinite(thresholds))
    return Score(
        value=metric_value(metric, predictions, records.labels, classes=classes),
        mean_cost=float(paid[rows].mean()),
        shares=tuple(float(s) for s in shares),
    )
