"""The exact value of mappings with thresholds, for all thresholds of a few exits at once.

EENN (arXiv 2403.07957) adds up edge weights that are neither an expected cost nor an accuracy. Here every sample is
counted: for exits e < f < ... the table of bins, one axis an exit, holds how many samples lie between which thresholds;
its running sums say for every combination of thresholds who reaches which exit and who is wrong there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey, Records
from ebbtide.model import Metric
from ebbtide.search.candidate import Candidate, scored_candidate
from ebbtide.search.costs import Costs
from ebbtide.search.mapping import Placement, mapped_costs
from ebbtide.search.mapping_problem import MappingProblem
from ebbtide.search.problem import check_trade_off, metric_weights
from ebbtide.search.score import leaving

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Goal:
    """What makes a mapping good: lambda (1 - A / A0) + (1 - lambda) C / C0, lower is better.

    A0 is the accuracy of the head alone, C an expected latency, C0 that of the fastest mapping without exits.

    Attributes:
        trade_off: lambda in [0, 1].
        max_drop_points: most that may be lost of A0, in hundredths; None for no limit.

    Raises:
        EbbtideError: ``search.trade_off``.
    """

    trade_off: float = 0.5
    max_drop_points: float | None = None

    def __post_init__(self) -> None:
        check_trade_off(self.trade_off)


@dataclass(frozen=True)
class MappedConfiguration:
    """A mapping with thresholds.

    Attributes:
        placement: segments and exits.
        candidate: its thresholds and exact score; costs are microseconds, the worst one included.
        objective: exact.
        estimate: what the corrected edges promised; None if they were not asked.
    """

    placement: Placement
    candidate: Candidate
    objective: float
    estimate: float | None = None

    @property
    def gap(self) -> float | None:
        """By how much the exact objective is above the estimate; None without one."""
        return None if self.estimate is None else self.objective - self.estimate


@dataclass(frozen=True)
class ExitTable:
    """What every combination of thresholds of some exits does; one axis an exit, one index a threshold.

    Attributes:
        reach: share of the samples that is still there after none, one, ... of the exits.
        error: weight of the samples whose answer is wrong.
    """

    reach: tuple[Floats, ...]
    error: Floats


class Scoring:
    """Records with a grid of thresholds for every exit.

    Args:
        problem: model, exits and device; the records must hold all of its exits.
        records: of *select*.
        grids: by exit row of the records, the thresholds that are tried, ascending.
        goal: what is minimised.
        base_us: C0.
        metric: as in the recipe.
        classes: number of classes.

    Raises:
        EbbtideError: ``search.split`` if the records are of *test*, ``search.mapping_exit`` if the exits differ.
    """

    def __init__(
        self,
        problem: MappingProblem,
        records: Records,
        *,
        grids: Sequence[NDArray[np.float32]],
        goal: Goal,
        base_us: float,
        metric: Metric,
        classes: int,
    ) -> None:
        _check(problem, records)
        self.problem, self.records, self.grids, self.goal = problem, records, grids, goal
        self.base_us, self.metric, self.classes = base_us, metric, classes
        self.weights = metric_weights(records.labels, metric)
        self.wrong: Floats = self.weights * (records.predictions != records.labels)
        self.head_error = float(self.wrong[-1].sum())
        pairs = zip(records.confidences[:-1], grids, strict=True)
        self.bins = [np.searchsorted(grid, seen, side="left") for seen, grid in pairs]
        self.row = {key: row for row, key in enumerate(records.keys)}

    def value(self, cost_us: Floats | float, error: Floats | float) -> Floats:
        """The objective of expected latencies and errors."""
        lost = (error - self.head_error) / ((1 - self.head_error) or 1.0)
        return np.asarray(self.goal.trade_off * lost + (1 - self.goal.trade_off) * cost_us / self.base_us)

    def allows(self, error: Floats | float) -> NDArray[np.bool_]:
        """Which errors keep the goal's limit."""
        drop = self.goal.max_drop_points
        limit = np.inf if drop is None else self.head_error + drop / 100 + 1e-12
        return np.asarray(error <= limit)

    def table(self, exits: Sequence[ExitKey]) -> ExitTable:
        """All combinations of thresholds of a few exits, in order of position."""
        rows = [self.row[key] for key in exits]
        ones = np.full(len(self.records), 1 / len(self.records))
        reach, error = [np.ones((1,) * len(rows))], np.zeros((1,) * len(rows))
        for count, row in enumerate(rows):
            arrive, stay = rows[:count], rows[: count + 1]
            error = error + self._staying(arrive, self.wrong[row], rows) - self._staying(stay, self.wrong[row], rows)
            reach.append(self._staying(stay, ones, rows))
        return ExitTable(tuple(reach), error + self._staying(rows, self.wrong[-1], rows))

    def _staying(self, passed: Sequence[int], weights: Floats, rows: Sequence[int]) -> Floats:
        """Weight of the samples that leave at none of the exits passed, for every combination of their thresholds."""
        if not passed:
            return np.asarray(weights.sum()).reshape((1,) * len(rows))
        sizes = [len(self.grids[row]) + 1 for row in passed]
        flat = np.ravel_multi_index([self.bins[row] for row in passed], sizes)
        counts = np.bincount(flat, weights=weights, minlength=int(np.prod(sizes))).reshape(sizes).astype(np.float64)
        for axis in range(len(passed)):
            counts = np.cumsum(counts, axis=axis)
        inner = counts[tuple(slice(0, -1) for _ in passed)]
        return inner.reshape(*inner.shape, *(1,) * (len(rows) - len(passed)))

    def best(self, placement: Placement, table: ExitTable) -> tuple[float, tuple[int, ...]] | None:
        """The least objective of a mapping and the thresholds (indices into the grids); None if none is allowed."""
        legs = path_legs(mapped_costs(self.problem, placement), placement.exits)
        cost = sum(leg * reached for leg, reached in zip(legs, table.reach, strict=True))
        values = np.where(self.allows(table.error), self.value(np.asarray(cost), table.error), np.inf)
        index = int(values.argmin())
        least = float(values.flat[index])
        return (least, tuple(int(k) for k in np.unravel_index(index, values.shape))) if least < np.inf else None

    def scored(
        self, placement: Placement, chosen: Sequence[int], estimate: float | None = None
    ) -> MappedConfiguration | None:
        """A mapping with thresholds, scored sample by sample; None where it loses more than the goal allows."""
        records = self.records.only(placement.exits)
        pairs = zip(placement.exits, chosen, strict=True)
        thresholds = np.array([self.grids[self.row[key]][index] for key, index in pairs], dtype=np.float32)
        costs = mapped_costs(self.problem, placement)
        candidate = scored_candidate(records, costs, thresholds, metric=self.metric, classes=self.classes)
        rows = np.array([*(self.row[key] for key in placement.exits), len(self.grids)])
        error = float(self.wrong[rows[leaving(records, thresholds)], np.arange(len(records))].sum())
        if not self.allows(error):
            return None
        value = float(self.value(candidate.score.mean_cost, error))
        return MappedConfiguration(placement, candidate, value, estimate)


def path_legs(costs: Costs, exits: Sequence[ExitKey]) -> Floats:
    """What is paid between one exit that is on and the next, the latter included; last to the end of the head."""
    reached = costs.reaching([key.position for key in exits])
    legs: Floats = np.diff(reached, prepend=0.0) + np.append(costs.of_exits(exits), 0.0)
    return legs


def _check(problem: MappingProblem, records: Records) -> None:
    if records.split == "test":
        raise EbbtideError(
            "search.split",
            "Mappings are never searched on the test split",
            expected="records of select",
            found="records of test",
        )
    if records.keys != problem.keys:
        raise EbbtideError(
            "search.mapping_exit",
            "The records are not of the exits that are to be mapped",
            expected=", ".join(map(str, problem.keys)) or "no exits",
            found=", ".join(map(str, records.keys)) or "no exits",
            hint="Take Records.only of the exits that the problem has.",
        )
