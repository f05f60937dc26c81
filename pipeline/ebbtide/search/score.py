"""The exact value of a configuration, from records alone: the one evaluator of searches, reports and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
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
        shares: (E + 1,) part of the samples that leaves at each exit, the head last.
        worst_cost: of a sample that goes through everything: the whole backbone and every enabled exit.
    """

    value: float
    mean_cost: float
    shares: tuple[float, ...]
    worst_cost: float


def leaving(records: Records, thresholds: NDArray[np.float32]) -> NDArray[np.int64]:
    """Row (exit index, or E for the head) at which every sample leaves: the first with confidence > threshold.

    Strict, in float32, exactly as every runtime compares.

    Args:
        records: E exits and the head.
        thresholds: (E,) float32; `OFF` where an exit is off.
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
        thresholds: (E,) float32; `OFF` where an exit is off.
        metric: ``accuracy``, ``balanced_accuracy`` or ``macro_f1``.
        classes: number of classes.

    Raises:
        EbbtideError: ``search.types`` if two exits of one position are on.
    """
    enabled = np.isfinite(thresholds)
    used = [key.position for key, on in zip(records.keys, enabled, strict=True) if on]
    if len(set(used)) < len(used):
        raise EbbtideError(
            "search.types",
            "A configuration turns on two exits of one position",
            expected="one type of exit at each position",
            found=", ".join(str(key) for key, on in zip(records.keys, enabled, strict=True) if on),
        )
    rows = leaving(records, thresholds)
    predictions = records.predictions[rows, np.arange(len(records))]
    shares = np.bincount(rows, minlength=len(thresholds) + 1) / len(records)
    paid = costs.leaving_costs(records.keys, enabled)
    return Score(
        value=metric_value(metric, predictions, records.labels, classes=classes),
        mean_cost=float(paid[rows].mean()),
        shares=tuple(float(s) for s in shares),
        worst_cost=float(paid[-1]),
    )
