"""Thresholds for a trade-off between the metric and the cost: exact steps, swept until nothing improves.

DyCE (arXiv 2403.01695) searches one exit at a time with a numeric line search. For one exit and fixed others the
objective is a step function of the threshold that changes only at recorded confidences, so its optimum is found
exactly with one sort and one prefix sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.exits import Records
from ebbtide.model import Metric
from ebbtide.search.costs import Costs
from ebbtide.search.score import OFF, Score, score

TRADE_OFFS = tuple(float(odds / (1 + odds)) for odds in np.geomspace(0.25, 400.0, 64))
"""The accuracy weights lambda in (0, 1) that are searched; evenly spaced in log-odds, since fronts bend near 1."""

MAX_SWEEPS = 12


@dataclass(frozen=True)
class Candidate:
    """A configuration and its score on the split it was found on.

    Attributes:
        thresholds: by position; only the exits that are on.
        score: exact.
        width: the nested width whose records it was found on; positions and thresholds mean nothing in another.
    """

    thresholds: tuple[tuple[int, float], ...]
    score: Score
    width: str = ""


class _Problem:
    """One trade-off: minimise lambda (1 - A / A0) + (1 - lambda) M / M0, A0 and M0 of the model without exits."""

    def __init__(
        self, records: Records, costs: Costs, weights: NDArray[np.float64], choices: Sequence[NDArray[np.float32]]
    ) -> None:
        self.records, self.costs, self.weights, self.choices = records, costs, weights, choices
        self.right = records.predictions == records.labels
        self.orders = np.argsort(-records.confidences[:-1], axis=1, kind="stable")
        self.base = costs.reaching(records.positions)
        self.exit_costs = np.array([costs.exits[p] for p in records.positions])
        self.accuracy = float(weights @ self.right[-1]) or 1.0

    def objective(self, thresholds: NDArray[np.float32], trade_off: float) -> float:
        rows = self._rows(thresholds)
        accuracy = float(self.weights @ self.right[rows, np.arange(len(rows))])
        paid = self.costs.leaving_costs(self.records.positions, np.isfinite(thresholds))
        return (
            trade_off * (1 - accuracy / self.accuracy) + (1 - trade_off) * float(paid[rows].mean()) / self.costs.total
        )

    def _rows(self, thresholds: NDArray[np.float32], start: int = 0) -> NDArray[np.int64]:
        """Leaving row of every sample, looking only at exits from `start` on."""
        rows = np.full(len(self.records), len(thresholds), dtype=np.int64)
        for row in range(len(thresholds) - 1, start - 1, -1):
            if np.isfinite(thresholds[row]):
                rows[self.records.confidences[row] > thresholds[row]] = row
        return rows

    def best_step(self, thresholds: NDArray[np.float32], row: int, trade_off: float) -> tuple[np.float32, float]:
        """The optimal threshold of one exit, the others fixed, and by how much it beats switching that exit off.

        `OFF` and 0 if no admissible threshold gains anything. Equal gains go to the highest threshold.
        """
        others = thresholds.copy()
        others[row] = OFF
        earlier = np.isfinite(others[:row])
        passed = np.asarray(self.records.confidences[:row] > others[:row, None])
        goes_before: NDArray[np.bool_] = np.logical_or.reduce(passed[earlier], axis=0)
        later = self._rows(others, row + 1)
        samples = np.arange(len(later))
        paid = self.costs.leaving_costs(self.records.positions, np.isfinite(others))
        here = self.base[row] + self.exit_costs[:row][earlier].sum()
        count = len(self.records)
        gain = (
            trade_off * self.weights * (self.right[row].astype(np.float64) - self.right[later, samples]) / self.accuracy
        )
        gain += (1 - trade_off) * (paid[later] - here) / (count * self.costs.total)
        arrivals = self.orders[row][~goes_before[self.orders[row]]]
        price = (1 - trade_off) * self.exit_costs[row] * len(arrivals) / (count * self.costs.total)
        sums = np.concatenate([[0.0], np.cumsum(gain[arrivals])])
        # Confidences descend, so negated they ascend and `side="left"` counts those strictly above a threshold.
        leave = np.searchsorted(-self.records.confidences[row][arrivals], -self.choices[row], side="left")
        values = sums[leave] - price
        best = len(values) - 1 - int(values[::-1].argmax())
        if values[best] <= 1e-12:
            return OFF, 0.0
        return self.choices[row][best], float(values[best])

    def descend(self, trade_off: float) -> NDArray[np.float32]:
        """From all off, sweeps of exact steps until one changes nothing: from the first exit, and from the last.

        Coordinate sweeps can stop in a local optimum; the two directions rarely stop in the same one.
        """
        count = len(self.records.positions)
        ends = [self._sweep(order, trade_off) for order in (range(count), range(count - 1, -1, -1))]
        return min(ends, key=lambda thresholds: self.objective(thresholds, trade_off))

    def _sweep(self, order: range, trade_off: float) -> NDArray[np.float32]:
        thresholds = np.full(len(order), OFF, dtype=np.float32)
        for _ in range(MAX_SWEEPS):
            before = thresholds.copy()
            for row in order:
                thresholds[row], _ = self.best_step(thresholds, row, trade_off)
            if np.array_equal(before, thresholds):
                break
        return thresholds


def search_thresholds(
    records: Records,
    costs: Costs,
    *,
    choices: Sequence[NDArray[np.float32]],
    metric: Metric,
    classes: int,
    trade_offs: Sequence[float] = TRADE_OFFS,
) -> list[Candidate]:
    """Distinct configurations, cheapest first, found over all trade-offs; the one without exits is among them.

    The steps count every sample with the weight that makes the sum the metric (accuracy), or the class-balanced
    accuracy where the metric is not a sum over samples (macro F1); the scores are of the metric itself.

    Args:
        records: of the *select* split.
        costs: MACs as a rule.
        choices: by exit row, the thresholds that may be used (`admissible_thresholds`).
        metric: as in the recipe.
        classes: number of classes.
        trade_offs: accuracy weights in [0, 1].
    """
    weights = _weights(records.labels, metric)
    problem = _Problem(records, costs, weights, choices)
    found = {tuple([OFF] * len(records.positions))}
    for trade_off in trade_offs:
        found.add(tuple(problem.descend(trade_off)))
    candidates = []
    for row in found:
        thresholds = np.array(row, dtype=np.float32)
        on = tuple(
            (position, float(value))
            for position, value in zip(records.positions, thresholds, strict=True)
            if np.isfinite(value)
        )
        candidates.append(Candidate(on, score(records, costs, thresholds, metric=metric, classes=classes)))
    return sorted(candidates, key=lambda c: (c.score.mean_cost, -c.score.value, c.thresholds))


def _weights(labels: NDArray[np.int64], metric: str) -> NDArray[np.float64]:
    """One weight a sample, sum 1: equal for accuracy, equal by class for the balanced metrics."""
    if metric == "accuracy":
        return np.full(len(labels), 1.0 / len(labels))
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1.0 / (len(counts) * counts[inverse])
    return weights
