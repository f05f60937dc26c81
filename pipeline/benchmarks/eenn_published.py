"""The path weights that EENN's code puts on a mapping with thresholds (arXiv 2403.07957), as an ablation only.

Every classifier carries its cumulative cost M (the backbone up to it and its own branch, relative), the share t of
*all* samples that it is confident of, and its accuracy a among those; the head has M = t = 1. An edge carries the
differences, previous minus next, the first one the first classifier's own values, and weighs
``w_eff * M * t + w_acc * (1 - a)``; a path's length is the sum, and the shortest path is chosen.

These lengths are no expectation: with q classifiers the accuracies add up to ``q - 2 a_1 + a_head``, so that the
thresholds of all exits but the first have no influence and every exit costs ``w_acc``; and for one exit the cost is
``M_1 t + (1 - M_1)(1 - t)``, which grows with t where M_1 > 1/2: stopping more seems dearer.

Costs here are the mapped ones of `ebbtide.search`, and comparison is strict, so that only the weights differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.search.mapping import Enumeration, Placement, mapped_costs
from ebbtide.search.mapping_score import MappedConfiguration, Scoring

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """What the published weights choose beside what exact scoring chooses, both scored exactly on the same records.

    Attributes:
        published: their choice.
        exact: the best configuration.
        objective_excess: by how much the published choice is worse.
        cost_excess_us: by how much its expected latency is above the best one's; may be negative.
        points_lost: by how many hundredths its metric is below the best one's; may be negative.
    """

    published: MappedConfiguration
    exact: MappedConfiguration

    @property
    def objective_excess(self) -> float:
        return self.published.objective - self.exact.objective

    @property
    def cost_excess_us(self) -> float:
        return self.published.candidate.score.mean_cost - self.exact.candidate.score.mean_cost

    @property
    def points_lost(self) -> float:
        return 100 * (self.exact.candidate.score.value - self.published.candidate.score.value)


def published_cost(scoring: Scoring, placement: Placement) -> Floats:
    """The compute part of the path lengths, for all thresholds of the placement's exits (one axis an exit)."""
    return _lengths(scoring, placement)[0]


def published_lengths(scoring: Scoring, placement: Placement) -> Floats:
    """The path lengths for all thresholds of the placement's exits (one axis an exit)."""
    cost, missed = _lengths(scoring, placement)
    return (1 - scoring.goal.trade_off) * cost + scoring.goal.trade_off * missed


def _lengths(scoring: Scoring, placement: Placement) -> tuple[Floats, Floats]:
    costs = mapped_costs(scoring.problem, placement)
    reached = costs.reaching([key.position for key in placement.exits]) / scoring.base_us
    own = costs.of_exits(placement.exits) / scoring.base_us
    count = len(placement.exits)
    nodes: list[tuple[float, Floats, Floats]] = []
    for index, key in enumerate(placement.exits):
        row = scoring.row[key]
        stops, right = _confident(scoring, row)
        shape = (1,) * index + (-1,) + (1,) * (count - index - 1)
        nodes.append((reached[index] + own[index], stops.reshape(shape), right.reshape(shape)))
    one = np.ones((1,) * count)
    nodes.append((float(reached[-1]), one, one * (1 - scoring.head_error)))
    cost, missed = np.zeros((1,) * count), np.zeros((1,) * count)
    before: tuple[float, Floats, Floats] | None = None
    for macs, stops, right in nodes:
        d_macs, d_stops, d_right = (macs, stops, right) if before is None else _minus(before, (macs, stops, right))
        cost, missed = cost + d_macs * d_stops, missed + (1 - d_right)
        before = macs, stops, right
    return cost, missed


def _minus(left: tuple[float, Floats, Floats], right: tuple[float, Floats, Floats]) -> tuple[float, Floats, Floats]:
    return left[0] - right[0], left[1] - right[1], left[2] - right[2]


def _confident(scoring: Scoring, row: int) -> tuple[Floats, Floats]:
    """Share of all samples above each threshold of an exit, and its accuracy among them (0 where there are none)."""
    above = scoring.records.confidences[row][:, None] > scoring.grids[row][None, :]
    right = (scoring.records.predictions[row] == scoring.records.labels)[:, None]
    stops = above.mean(axis=0)
    return stops, (above & right).mean(axis=0) / np.maximum(stops, 1e-12)


def published_choice(scoring: Scoring, enumeration: Enumeration, *, some_exit: bool) -> MappedConfiguration:
    """The mapping and thresholds of the shortest published path, scored exactly.

    With `some_exit` mappings without exits are left out, which their lengths favour, since every exit costs w_acc.
    """
    best: tuple[float, Placement, tuple[int, ...]] | None = None
    for placement in enumeration.feasible:
        if some_exit and not placement.exits:
            continue
        lengths = published_lengths(scoring, placement)
        index = int(lengths.argmin())
        if best is None or lengths.flat[index] < best[0]:
            chosen = tuple(int(k) for k in np.unravel_index(index, lengths.shape))
            best = float(lengths.flat[index]), placement, chosen
    assert best is not None, "no mapping is possible"
    found = scoring.scored(best[1], best[2])
    assert found is not None, "the published weights know no limit on what may be lost: give the goal none"
    return found


def compare(scoring: Scoring, enumeration: Enumeration, exact: MappedConfiguration, *, some_exit: bool) -> Comparison:
    """Put the published choice beside the exact one."""
    return Comparison(published_choice(scoring, enumeration, some_exit=some_exit), exact)
