"""One search problem: its objective, and the exact best step for all exits of one position.

DyCE (arXiv 2403.01695) searches one exit at a time with a numeric line search. For one position and fixed others the
objective is a step function of the threshold that changes only at recorded confidences, so its optimum is found
exactly: samples are put into bins between neighbouring thresholds once, and one sum over the bins values every
threshold. Only two things change from step to step, who arrives and what happens to them later; both are carried
along a sweep instead of being computed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.exits import Records
from ebbtide.search.costs import Costs
from ebbtide.search.score import OFF, leaving

_NOTHING = 1e-12
"""Gains up to this are rounding; the exit stays off."""

Floats = NDArray[np.float64]
Thresholds = NDArray[np.float32]


@dataclass(frozen=True)
class Later:
    """What becomes of every sample that does not leave at a position.

    Attributes:
        rows: (n,) exit at which it leaves afterwards, or that of the head.
        worth: (n,) what its answer there counts in the quality.
        cost: (n,) still to pay from the end of the position's stage on; the position's own exit is not in it.
    """

    rows: NDArray[np.int64]
    worth: Floats
    cost: Floats

    def of(self, samples: NDArray[np.int64]) -> Later:
        """The same of some of the samples, by index."""
        return Later(self.rows[samples], self.worth[samples], self.cost[samples])


class Problem:
    """Minimise lambda (1 - A / A0) + (1 - lambda) M / M0, A0 and M0 of the model without exits.

    The normalised form measures both against what the first exit offers: (A0 - A) / (A0 - A1) and
    (M - M1) / (M0 - M1), A1 the accuracy of the first exit alone and M1 the backbone's cost up to it. Both forms have
    the same solutions, at other lambdas. Where A1 is not below A0 the quality is measured against A0 alone.

    Args:
        records: of the split that thresholds are searched on.
        costs: MACs as a rule.
        choices: by exit row, the thresholds that may be used, ascending.
        weights: (n,) what each sample counts in the quality; their sum is 1.
        normalised: which form.
        right: (E + 1, n) how far each answer counts as right, 0..1 (`expected_right`); None for the labels alone.
        least_leaving: a step turns an exit on only if at least so many of the samples leave there.

    Raises:
        EbbtideError: ``search.split`` if the records are of *test*, which is never searched on.
    """

    def __init__(
        self,
        records: Records,
        costs: Costs,
        *,
        choices: Sequence[Thresholds],
        weights: Floats,
        normalised: bool = False,
        right: Floats | None = None,
        least_leaving: int = 1,
    ) -> None:
        if records.split == "test":
            raise EbbtideError(
                "search.split",
                "Configurations are never searched on the test split",
                expected="records of select",
                found="records of test",
            )
        self.records, self.costs, self.choices, self.weights = records, costs, choices, weights
        self.least_leaving = least_leaving
        self.exit_costs = costs.of_exits(records.keys)
        self.reached = costs.reaching(records.positions)
        self.groups = _groups(records.positions)
        self.worth: Floats = weights * (records.predictions == records.labels if right is None else right)
        pairs = zip(records.confidences[:-1], choices, strict=True)
        self.bins = [np.searchsorted(tried, seen, side="left") for seen, tried in pairs]
        whole = float(self.worth[-1].sum())
        self.whole = self.quality(np.full(len(records), len(self.exit_costs)))
        self.span, self.floor, self.cost_span = whole or 1.0, 0.0, costs.total or 1.0
        if normalised and self.groups:
            first = float(self.worth[0].sum())
            self.span = whole - first if whole > first else self.span
            self.floor = float(self.reached[0])
            self.cost_span = costs.total - self.floor or 1.0

    def all_off(self) -> Thresholds:
        """The configuration without exits."""
        return np.full(len(self.exit_costs), OFF, dtype=np.float32)

    def measure(self, thresholds: Thresholds) -> tuple[float, float]:
        """Quality and mean cost of a configuration."""
        rows = leaving(self.records, thresholds)
        paid = self.costs.leaving_costs(self.records.keys, np.isfinite(thresholds))
        return self.quality(rows), float(paid[rows].mean())

    def quality(self, rows: NDArray[np.int64]) -> float:
        """The weighted accuracy, from the row at which every sample leaves."""
        return float(self.worth[rows, np.arange(len(rows))].sum())

    def value(self, quality: float, cost: float, trade_off: float) -> float:
        """The objective of a quality and a mean cost; lower is better."""
        return trade_off * (self.whole - quality) / self.span + (1 - trade_off) * (cost - self.floor) / self.cost_span

    def objective(self, thresholds: Thresholds, trade_off: float) -> float:
        """The objective of a configuration, in full."""
        return self.value(*self.measure(thresholds), trade_off)

    # Along a sweep: what is carried from position to position.

    def all_samples(self) -> NDArray[np.bool_]:
        """(n,) who arrives at the first position: everybody."""
        return np.ones(len(self.records), dtype=bool)

    def staying(self, alive: NDArray[np.bool_], thresholds: Thresholds, group: int) -> NDArray[np.bool_]:
        """Who of those that arrive at a position does not leave there."""
        row = self._on(thresholds, group)
        return alive if row is None else alive & ~(self.records.confidences[row] > thresholds[row])

    def after_last(self) -> Later:
        """What becomes of those that do not leave at the last position: the head answers."""
        count = len(self.records)
        rest = self.reached[-1] - (self.reached[-2] if self.groups else 0.0)
        return Later(np.full(count, len(self.exit_costs)), self.worth[-1], np.full(count, rest))

    def before(self, later: Later, thresholds: Thresholds, group: int) -> Later:
        """What becomes of those that do not leave at the position before `group`, from what follows `group`."""
        here = self.reached[self.groups[group].start]
        stage = here - (self.reached[self.groups[group - 1].start] if group else 0.0)
        row = self._on(thresholds, group)
        if row is None:
            return Later(later.rows, later.worth, later.cost + stage)
        goes = self.records.confidences[row] > thresholds[row]
        paid = stage + self.exit_costs[row]
        return Later(
            rows=np.where(goes, row, later.rows),
            worth=np.where(goes, self.worth[row], later.worth),
            cost=np.where(goes, paid, later.cost + paid),
        )

    def _on(self, thresholds: Thresholds, group: int) -> int | None:
        rows = self.groups[group]
        return next((row for row in rows if thresholds[row] < OFF), None)

    # The exact step.

    def gains(self, row: int, arriving: NDArray[np.int64], later: Later, trade_off: float) -> Floats:
        """By how much each threshold of an exit lowers the objective against switching it off.

        Args:
            row: of the exit.
            arriving: indices of the samples that arrive; each of them pays for the exit.
            later: of the exit's position, the same samples.
            trade_off: lambda.

        Returns:
            By index into the row's `choices`.
        """
        quality, saving = self.rates(trade_off)
        gain = quality * (self.worth[row, arriving] - later.worth) + saving * later.cost
        gains: Floats = self.above(row, arriving, gain) - saving * self.exit_costs[row] * len(arriving)
        return gains

    def rates(self, trade_off: float) -> tuple[float, float]:
        """What one unit of quality, and one unit of cost saved for one sample, take off the objective."""
        return trade_off / self.span, (1 - trade_off) / (self.cost_span * len(self.records))

    def above(self, row: int, arriving: NDArray[np.int64], weights: Floats | None = None) -> Floats:
        """Sums of weights (or counts) over the arriving samples whose confidence is above each threshold of an exit."""
        total: Floats = np.cumsum(sums_by(self.bins[row][arriving], len(self.choices[row]) + 1, weights)[::-1])
        return total[-2::-1]

    def best_step(
        self, group: int, alive: NDArray[np.bool_], later: Later, trade_off: float
    ) -> tuple[int | None, np.float32, float]:
        """The best exit and threshold of one position, the others fixed, and by how much it beats switching it off.

        Args:
            group: of the position (index into `groups`).
            alive: who arrives.
            later: what becomes of those that stay.
            trade_off: lambda.

        Returns:
            Row, threshold and gain; None, `OFF` and 0 if nothing gains. Equal gains go to the highest threshold, and
            between types to the first.
        """
        best: tuple[int | None, np.float32, float] = (None, OFF, 0.0)
        arriving = np.flatnonzero(alive)
        theirs = later.of(arriving)
        for row in self.groups[group]:
            gains = self.gains(row, arriving, theirs, trade_off)
            if self.least_leaving > 1:
                gains[self.above(row, arriving) < self.least_leaving] = -np.inf
            index = len(gains) - 1 - int(gains[::-1].argmax())
            if gains[index] > best[2] + _NOTHING:
                best = row, self.choices[row][index], float(gains[index])
        return best

    def gain_of(
        self, thresholds: Thresholds, group: int, alive: NDArray[np.bool_], later: Later, trade_off: float
    ) -> float:
        """By how much the exit that is on at a position lowers the objective against switching it off."""
        row = self._on(thresholds, group)
        if row is None:
            return 0.0
        arriving = np.flatnonzero(alive)
        index = int(np.searchsorted(self.choices[row], thresholds[row]))
        return float(self.gains(row, arriving, later.of(arriving), trade_off)[index])

    def set_group(self, thresholds: Thresholds, group: int, row: int | None, threshold: np.float32) -> None:
        """Turn one exit of a position on, or all off, in place."""
        rows = self.groups[group]
        thresholds[rows.start : rows.stop] = OFF
        if row is not None:
            thresholds[row] = threshold


def check_trade_off(trade_off: float) -> float:
    """The same number, if it may be a lambda.

    Raises:
        EbbtideError: ``search.trade_off`` unless it lies in [0, 1].
    """
    if not 0.0 <= trade_off <= 1.0:
        raise EbbtideError(
            "search.trade_off",
            "A trade-off between quality and cost is out of range",
            expected="a number from 0 (only cost counts) to 1 (only quality counts)",
            found=str(trade_off),
        )
    return trade_off


def metric_weights(labels: NDArray[np.int64], metric: str) -> Floats:
    """One weight a sample, sum 1: equal for accuracy, equal by class for the balanced metrics.

    The weighted accuracy is then the metric, except for macro F1, which is no sum over samples and is searched as
    balanced accuracy.
    """
    if metric == "accuracy":
        return np.full(len(labels), 1.0 / len(labels))
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights: Floats = 1.0 / (len(counts) * counts[inverse])
    return weights


def sums_by(places: NDArray[np.int64], size: int, weights: Floats | None = None) -> Floats:
    """Sums of weights (or counts) by place, (size,)."""
    return np.bincount(places, weights=weights, minlength=size).astype(np.float64)


def _groups(positions: Sequence[int]) -> tuple[range, ...]:
    """Rows of each distinct position, which stand side by side."""
    edges = [row for row in range(1, len(positions)) if positions[row] != positions[row - 1]]
    starts, stops = [0, *edges], [*edges, len(positions)]
    return tuple(range(start, stop) for start, stop in zip(starts, stops, strict=True) if stop > start)
