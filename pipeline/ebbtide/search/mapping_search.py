"""The best mapping of a model with exits to a device: limits first, the objective second."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ebbtide.exits import ExitKey, Records
from ebbtide.model import Metric
from ebbtide.search.mapping import (
    MOST_EXITS,
    Enumeration,
    Placement,
    count_exit_sets,
    enumerate_placements,
    keeps_limits,
    worst_latency_us,
)
from ebbtide.search.mapping_edges import CorrectedEdges, EdgePath
from ebbtide.search.mapping_problem import MappingProblem
from ebbtide.search.mapping_score import ExitTable, Goal, MappedConfiguration, Scoring
from ebbtide.search.thresholds import fewer_thresholds

Method = Literal["exact", "edges"]
MOST_EXACT_SETS = 200
"""Up to so many sets of exits every mapping is scored exactly with all combinations of thresholds."""
GRID = 24
MOST_CELLS = 400_000
"""Up to so many combinations of thresholds are all scored."""
KEPT_PATHS = 8
RESCORED = 64
_STEEPER = (1.0, 4.0, 16.0, 64.0)
"""With a limit on what may be lost, paths are also searched with these multiples of lambda's odds."""


@dataclass(frozen=True)
class MappingSearch:
    """What was found.

    Attributes:
        method: ``exact`` where every mapping was scored, or ``edges`` where the exits came from corrected edges.
        found: the best thresholds of each mapping that was scored, best first; empty if no mapping is possible.
        enumeration: of the mappings (``exact``) or of their segments alone (``edges``), with the rejects.
    """

    method: Method
    found: tuple[MappedConfiguration, ...]
    enumeration: Enumeration

    @property
    def best(self) -> MappedConfiguration | None:
        """The best one; None if no mapping is possible."""
        return self.found[0] if self.found else None

    @property
    def largest_gap(self) -> float | None:
        """By how much estimate and exact objective differ at most, over all that was scored; None without estimates."""
        return max((abs(one.gap) for one in self.found if one.gap is not None), default=None)


def search_mapping(
    problem: MappingProblem,
    records: Records,
    *,
    choices: Sequence[NDArray[np.float32]],
    goal: Goal,
    metric: Metric,
    classes: int,
    limit_us: float | None = None,
    most_exits: int = MOST_EXITS,
    grid: int = GRID,
    method: Method | None = None,
) -> MappingSearch:
    """Find segments, exits and thresholds together.

    Args:
        problem: model, exits and device.
        records: of *select*, of exactly the problem's exits.
        choices: by exit row, the thresholds that may be used (`admissible_thresholds`).
        goal: what is minimised, and how much accuracy may be lost.
        metric: as in the recipe.
        classes: number of classes.
        limit_us: worst-case latency; None for no limit.
        most_exits: how many exits may be on.
        grid: at most so many thresholds are tried at each exit, at least 2.
        method: None decides by the number of sets of exits.

    Raises:
        EbbtideError: ``search.split``, ``search.mapping_exit``.
    """
    if method is None:
        method = "exact" if count_exit_sets(problem, most_exits) <= MOST_EXACT_SETS else "edges"
    pairs = zip(choices, records.confidences[:-1], strict=True)
    grids = [fewer_thresholds(*pair, grid) for pair in pairs]
    enumeration = enumerate_placements(problem, limit_us=limit_us, most_exits=most_exits if method == "exact" else 0)
    bare = [worst_latency_us(problem, one) for one in enumeration.feasible if not one.exits]
    scoring = Scoring(
        problem, records, grids=grids, goal=goal, base_us=min(bare, default=1.0), metric=metric, classes=classes
    )
    found = _exact(scoring, enumeration) if method == "exact" else _by_edges(scoring, enumeration, most_exits)
    found.sort(key=lambda one: (one.objective, len(one.placement.exits)))
    return MappingSearch(method, tuple(found), enumeration)


def _exact(scoring: Scoring, enumeration: Enumeration) -> list[MappedConfiguration]:
    """The best thresholds of every mapping; tables of thresholds are made once for each set of exits."""
    by_exits: dict[tuple[ExitKey, ...], list[Placement]] = {}
    for placement in enumeration.feasible:
        by_exits.setdefault(placement.exits, []).append(placement)
    found = []
    for exits, placements in by_exits.items():
        table = scoring.table(exits)
        for placement in placements:
            best = scoring.best(placement, table)
            scored = None if best is None else scoring.scored(placement, best[1])
            if scored is not None:
                found.append(scored)
    return found


def _by_edges(scoring: Scoring, enumeration: Enumeration, most_exits: int) -> list[MappedConfiguration]:
    """Exits from the paths with the least sums, thresholds and values exact; then exchanges, as long as one helps."""
    edges, limit_us = CorrectedEdges(scoring), enumeration.limit_us
    odds = _STEEPER if scoring.goal.max_drop_points is not None else _STEEPER[:1]
    paths = {placement: EdgePath(placement, (), 0.0) for placement in enumeration.feasible}
    for factor in odds:
        weight = scoring.goal.trade_off * factor
        trade_off = weight / (weight + 1 - scoring.goal.trade_off)
        for segments in enumeration.feasible:
            for path in edges.search(
                segments, trade_off=trade_off, limit_us=limit_us, most_exits=most_exits, keep=KEPT_PATHS
            ):
                known = paths.get(path.placement)
                if known is None or path.estimate < known.estimate:
                    paths[path.placement] = path
    bare = [path for path in paths.values() if not path.chosen]
    least = sorted((path for path in paths.values() if path.chosen), key=lambda path: path.estimate)[:RESCORED]
    search = _Exchange(scoring, edges, enumeration, most_exits)
    for path in (*bare, *least):
        search.try_placement(path.placement, path.chosen)
    search.improve()
    return [one for one in search.found.values() if one is not None]


class _Exchange:
    """Exact thresholds of single mappings, and the mappings next to the best one."""

    def __init__(self, scoring: Scoring, edges: CorrectedEdges, enumeration: Enumeration, most_exits: int) -> None:
        self.scoring, self.edges, self.enumeration, self.most_exits = scoring, edges, enumeration, most_exits
        self.found: dict[Placement, MappedConfiguration | None] = {}
        self.tables: dict[tuple[ExitKey, ...], ExitTable] = {}

    def try_placement(self, placement: Placement, chosen: tuple[int, ...] | None = None) -> None:
        """Score a mapping with its best thresholds, or with those given where there are too many combinations."""
        cells = math.prod(len(self.scoring.grids[self.scoring.row[key]]) for key in placement.exits)
        if placement in self.found or (cells > MOST_CELLS and chosen is None):
            return
        if cells <= MOST_CELLS:
            if placement.exits not in self.tables:
                self.tables = {placement.exits: self.scoring.table(placement.exits)}
            best = self.scoring.best(placement, self.tables[placement.exits])
            chosen = None if best is None else best[1]
        estimate = None if chosen is None else self.edges.path_sum(placement, chosen)
        self.found[placement] = None if chosen is None else self.scoring.scored(placement, chosen, estimate)

    def improve(self) -> None:
        """From the best mapping to its best neighbour: other segments, one exit more, less or another."""
        best = self._best()
        while best is not None:
            for placement in self._next_to(best.placement):
                if keeps_limits(self.scoring.problem, placement, limit_us=self.enumeration.limit_us):
                    self.try_placement(placement)
            after = self._best()
            if after is None or after.objective >= best.objective - 1e-12:
                return
            best = after

    def _best(self) -> MappedConfiguration | None:
        return min((one for one in self.found.values() if one is not None), key=lambda one: one.objective, default=None)

    def _next_to(self, placement: Placement) -> Iterator[Placement]:
        for other in self.enumeration.feasible:
            yield Placement(other.segments, placement.exits)
        for removed in (None, *placement.exits):
            kept = [key for key in placement.exits if key != removed]
            taken = {key.position for key in kept}
            if removed is not None:
                yield Placement(placement.segments, tuple(kept))
            if len(kept) < self.most_exits:
                for added in self.scoring.records.keys:
                    if added.position not in taken:
                        yield Placement(placement.segments, tuple(sorted((*kept, added))))
