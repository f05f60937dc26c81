"""Searching with cautious accuracies, so that thresholds fit less to the samples they are chosen on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from ebbtide.exits import Records
from ebbtide.search.costs import Costs
from ebbtide.search.problem import Floats, Later, Problem, Thresholds, sums_by


class CautiousProblem(Problem):
    """A problem whose accuracy at every exit, and at the head, is a low quantile of what its samples allow.

    DyCE's option for small data sets: of c right and w wrong samples leaving at an exit, the accuracy c / (c + w) gives
    way to the quantile of Beta(1 + c, 1 + w), so that exits where few leave have to be better to be used. The quantile
    is taken from the mean and variance of the distribution (`lower_accuracy`), which keeps the step fast.

    Args:
        records, costs, choices, weights, normalised, right, least_leaving: as in `Problem`.
        quantile: above 0, at most 0.5; DyCE takes 0.1.
    """

    def __init__(
        self,
        records: Records,
        costs: Costs,
        *,
        choices: Sequence[Thresholds],
        weights: Floats,
        quantile: float,
        normalised: bool = False,
        right: Floats | None = None,
        least_leaving: int = 1,
    ) -> None:
        self.deviations = -float(ndtri(quantile))
        super().__init__(
            records,
            costs,
            choices=choices,
            weights=weights,
            normalised=normalised,
            right=right,
            least_leaving=least_leaving,
        )

    def quality(self, rows: NDArray[np.int64]) -> float:
        """The sum over exits and head of the share that leaves there times its cautious accuracy."""
        size, count = len(self.records.keys) + 1, len(rows)
        right = sums_by(rows, size, self.worth[rows, np.arange(count)])
        left = sums_by(rows, size, self.weights)
        return float(self._cautious(right, left).sum())

    def gains(self, row: int, arriving: NDArray[np.int64], later: Later, trade_off: float) -> Floats:
        """As in `Problem`: taking samples from later exits makes those more cautious too, and that is counted."""
        bins, size = self.bins[row][arriving], len(self.choices[row]) + 1
        used = np.bincount(later.rows, minlength=len(self.exit_costs) + 1) > 0
        place, weights = (np.cumsum(used) - 1)[later.rows], self.weights[arriving]
        right = _by_exit(bins, place, later.worth, (size, int(used.sum())))
        left = _by_exit(bins, place, weights, (size, int(used.sum())))
        # Threshold j takes all samples in bins above it: what stays is what lies in bins up to j.
        stays = self._cautious(np.cumsum(right, axis=0), np.cumsum(left, axis=0)).sum(axis=1)
        here = self.above(row, arriving, self.worth[row, arriving])
        gained = self._cautious(here, self.above(row, arriving, weights)) + stays[:-1] - stays[-1]
        quality, saving = self.rates(trade_off)
        saved = self.above(row, arriving, later.cost) - self.exit_costs[row] * len(arriving)
        gains: Floats = quality * gained + saving * saved
        return gains

    def _cautious(self, right: Floats, left: Floats) -> Floats:
        """Share of samples times cautious accuracy; weights are counted as so many samples of the whole."""
        count = len(self.records)
        cautious: Floats = left * lower_accuracy(count * right, count * np.maximum(left - right, 0.0), self.deviations)
        return cautious


def lower_accuracy(right: Floats, wrong: Floats, deviations: float) -> Floats:
    """A low quantile of Beta(1 + right, 1 + wrong): its mean less so many of its standard deviations, at least 0.

    At the 10 % quantile (1.2816 deviations) this is within 0.015 of the exact one from 10 samples on, and within 0.001
    from 200 on; none right or none wrong included.

    Args:
        right, wrong: counts, of one shape.
        deviations: 0 or more.
    """
    total = right + wrong + 2.0
    mean = (right + 1.0) / total
    variance = mean * (1.0 - mean) / (total + 1.0)
    return np.maximum(mean - deviations * np.sqrt(variance), 0.0)


def _by_exit(bins: NDArray[np.int64], place: NDArray[np.int64], weights: Floats, shape: tuple[int, int]) -> Floats:
    """Sums of weights by bin and by place, as a matrix."""
    return sums_by(bins * shape[1] + place, shape[0] * shape[1], weights).reshape(shape)


def expected_right(records: Records, head_share: float) -> Floats:
    """How far each exit's answer counts as right, (E + 1, n): the label's word, mixed with what the head expects.

    Whether an answer is right is one noisy 0 or 1; the head's probability of its own answer says nearly the same
    without the noise. Where exit and head agree, the expectation is that probability p. Where they differ it is
    r (1 - p), with one r for each exit, such that over all samples where the two differ the exit is expected to be
    right as often as the labels say it is.

    Args:
        records: of select; the head's confidences after temperature.
        head_share: 0 for labels alone, 1 for the expectation alone.
    """
    right = (records.predictions == records.labels).astype(np.float64)
    sure = expit(records.confidences[-1].astype(np.float64))
    unsure = np.where(records.predictions == records.predictions[-1], 0.0, 1.0 - sure)
    differing = np.where(unsure > 0.0, right, 0.0).sum(axis=1, keepdims=True)
    ratio = differing / np.maximum(unsure.sum(axis=1, keepdims=True), 1e-12)
    expected = np.where(unsure > 0.0, np.minimum(ratio * unsure, 1.0), sure)
    mixed: Floats = head_share * expected + (1.0 - head_share) * right
    return mixed
