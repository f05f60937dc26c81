"""Mappings with many exits: a shortest path whose edges are corrected, for what cannot be enumerated.

A path runs over nodes (exit, threshold) from the start to the head, and may skip exits. The edge from (e, a) to (f, b)
takes the samples that do not leave at e alone: they pay for the way from e to f, and those of them that leave at f and
are wrong there are its error. The sum along a path is the exact expectation where the sets of confident samples are
nested along it, and for one exit always; else it is an estimate, so the best paths are scored exactly afterwards.
(EENN, arXiv 2403.07957, puts differences of shares on its edges, whose sum is neither a cost nor an error.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.exits import ExitKey
from ebbtide.search.mapping import Placement, mapped_costs
from ebbtide.search.mapping_score import Floats, Scoring, path_legs

BEAM = 2
"""Paths kept at every node: more than one, because the best one may break a limit further on."""


@dataclass(frozen=True)
class EdgePath:
    """A path: a mapping, thresholds (indices into the grids), and the sum of its edges."""

    placement: Placement
    chosen: tuple[int, ...]
    estimate: float


@dataclass(frozen=True)
class _Labels:
    """Paths that end at one exit; flat, all of them (L,).

    Attributes:
        row: of the exit; -1 at the start.
        value: sums of edges.
        threshold: indices into the exit's grid.
        extra_us, weights, peak: of the exits so far; bytes on the processor in use.
        count: exits so far.
        came: flat index among the labels from which it was reached: (label set, place).
    """

    row: int
    value: Floats
    threshold: NDArray[np.int64]
    extra_us: Floats
    weights: Floats
    peak: Floats
    count: NDArray[np.int64]
    came: tuple[NDArray[np.int64], NDArray[np.int64]]


class CorrectedEdges:
    """The parts of all edges that do not depend on the mapping.

    Args:
        scoring: records, grids and goal.
    """

    def __init__(self, scoring: Scoring) -> None:
        self.scoring = scoring
        keys, count = scoring.records.keys, len(scoring.records)
        self.positions = [key.position for key in keys]
        share = np.full(count, 1 / count)
        self.reach = [self._below(row, share) for row in range(len(keys))]
        self.to_head = [self._below(row, scoring.wrong[-1]) for row in range(len(keys))]
        self.first = [scoring.wrong[row].sum() - self._below(row, scoring.wrong[row]) for row in range(len(keys))]
        self.errors = {
            (e, f): self._pair(e, f)
            for f in range(len(keys))
            for e in range(f)
            if self.positions[e] < self.positions[f]
        }

    def _below(self, row: int, weights: Floats) -> Floats:
        """Weight of the samples that do not leave at an exit, by threshold."""
        size = len(self.scoring.grids[row])
        counts = np.bincount(self.scoring.bins[row], weights=weights, minlength=size + 1)
        return np.cumsum(counts.astype(np.float64))[:-1]

    def _pair(self, e: int, f: int) -> Floats:
        """Weight of the samples that would stay at e, leave at f and are wrong there: (thresholds of f, of e)."""
        sizes = len(self.scoring.grids[e]) + 1, len(self.scoring.grids[f]) + 1
        flat = np.ravel_multi_index((self.scoring.bins[e], self.scoring.bins[f]), sizes)
        counts = np.bincount(flat, weights=self.scoring.wrong[f], minlength=sizes[0] * sizes[1]).reshape(sizes)
        stays = np.cumsum(counts, axis=0)[:-1]
        above = stays.sum(axis=1, keepdims=True) - np.cumsum(stays, axis=1)[:, :-1]
        return np.ascontiguousarray(above.T)

    def path_sum(self, placement: Placement, chosen: Sequence[int]) -> float:
        """The sum of the edges along one path: an objective, exact where the confident sets are nested."""
        scoring = self.scoring
        rows = [scoring.row[key] for key in placement.exits]
        legs = path_legs(mapped_costs(scoring.problem, placement), placement.exits)
        cost, error, reach = 0.0, 0.0, 1.0
        before: tuple[int, int] | None = None
        for row, threshold, leg in zip(rows, chosen, legs, strict=False):
            cost += leg * reach
            errors = self.first[row] if before is None else self.errors[before[0], row][:, before[1]]
            error += float(errors[threshold])
            reach, before = float(self.reach[row][threshold]), (row, threshold)
        error += scoring.head_error if before is None else float(self.to_head[before[0]][before[1]])
        return float(scoring.value(cost + float(legs[-1]) * reach, error))

    def search(
        self, placement: Placement, *, trade_off: float, limit_us: float | None, most_exits: int, keep: int
    ) -> list[EdgePath]:
        """The paths with the least sums for given segments, best first, within all limits, one for each set of exits.

        Args:
            placement: its segments; its exits are not looked at.
            trade_off: lambda of the sums.
            limit_us: limit.
            most_exits: how many exits may be on.
            keep: how many paths.
        """
        return _PathSearch(self, placement, trade_off, limit_us, most_exits).run(keep)


class _PathSearch:
    def __init__(
        self,
        edges: CorrectedEdges,
        placement: Placement,
        trade_off: float,
        limit_us: float | None,
        most_exits: int,
    ) -> None:
        self.edges, self.placement, self.most_exits = edges, placement, most_exits
        scoring = edges.scoring
        problem, keys = scoring.problem, scoring.records.keys
        costs = mapped_costs(problem, placement)
        self.reached = costs.reaching(edges.positions)
        self.exit_us = costs.of_exits(keys)
        self.room_us = np.inf if limit_us is None else limit_us - costs.total + 1e-9
        self.of_cost = (1 - trade_off) / scoring.base_us
        self.of_error = trade_off / ((1 - scoring.head_error) or 1.0)
        self.offset = -self.of_error * scoring.head_error
        self.blocks = [problem.exits[key] for key in keys]
        self.segment = [
            next(i for i, one in enumerate(placement.segments) if one.first <= p <= one.last) for p in edges.positions
        ]
        self.limits = []
        for one in placement.segments:
            parts, processor = problem.blocks.parts[one.first : one.last + 1], problem.processing.processors
            memory = processor[one.processor].memory_bytes
            self.limits.append(
                (
                    sum(part.weight_bytes for part in parts),
                    max(part.peak_bytes for part in parts),
                    np.inf if memory is None else memory.value,
                )
            )
        self.runs = [
            not problem.processing.processors[placement.segments[s].processor].cannot_run(block.operators)
            for s, block in zip(self.segment, self.blocks, strict=True)
        ]

    def run(self, keep: int) -> list[EdgePath]:
        none = np.zeros(1)
        zero = np.zeros(1, dtype=np.int64)
        sets = [_Labels(-1, none + self.offset, zero, none, none, none, zero, (zero, zero))]
        if self.most_exits:
            for row in range(len(self.blocks)):
                if self.runs[row]:
                    labels = self._at(row, sets)
                    if len(labels.value):
                        sets.append(labels)
        ends = [self._to_head(labels) for labels in sets]
        values = np.concatenate(ends)
        owners = np.repeat(np.arange(len(sets)), [len(end) for end in ends])
        places = np.concatenate([np.arange(len(end)) for end in ends])
        paths: dict[tuple[ExitKey, ...], EdgePath] = {}
        for i in np.argsort(values, kind="stable"):
            path = self._path(sets, int(owners[i]), int(places[i]), float(values[i]))
            paths.setdefault(path.placement.exits, path)
            if len(paths) == keep:
                break
        return list(paths.values())

    def _to_head(self, labels: _Labels) -> Floats:
        if labels.row < 0:
            cost, error = self.reached[-1] * np.ones(1), self.edges.scoring.head_error * np.ones(1)
        else:
            way = self.reached[-1] - self.reached[labels.row]
            cost = way * self.edges.reach[labels.row][labels.threshold]
            error = self.edges.to_head[labels.row][labels.threshold]
        ends: Floats = labels.value + self.of_cost * cost + self.of_error * error
        return ends

    def _at(self, row: int, sets: Sequence[_Labels]) -> _Labels:
        """The best paths that end at each threshold of an exit."""
        position = self.edges.positions[row]
        before = [(i, one) for i, one in enumerate(sets) if one.row < 0 or self.edges.positions[one.row] < position]
        values = np.concatenate([self._through(one, row) for _, one in before], axis=1)
        owners = np.concatenate([np.full(len(one.value), i) for i, one in before])
        places = np.concatenate([np.arange(len(one.value)) for _, one in before])
        extra = np.concatenate([one.extra_us for _, one in before]) + self.exit_us[row]
        count = np.concatenate([one.count for _, one in before]) + 1
        weights, peak = self._memory(row, [one for _, one in before])
        base_weights, base_peak, memory = self.limits[self.segment[row]]
        fits = (extra <= self.room_us) & (count <= self.most_exits)
        fits &= base_weights + weights + np.maximum(base_peak, peak) <= memory
        values[:, ~fits] = np.inf
        width = min(BEAM, values.shape[1])
        best = np.argpartition(values, width - 1, axis=1)[:, :width]
        chosen, threshold = best.ravel(), np.repeat(np.arange(len(values)), width)
        least = values[threshold, chosen]
        good = np.isfinite(least)
        chosen, threshold, least = chosen[good], threshold[good], least[good]
        return _Labels(
            row,
            least,
            threshold,
            extra[chosen],
            weights[chosen],
            peak[chosen],
            count[chosen],
            (owners[chosen], places[chosen]),
        )

    def _through(self, labels: _Labels, row: int) -> Floats:
        """Sums of paths that go on to an exit: (thresholds of the exit, labels)."""
        if labels.row < 0:
            way, reach, errors = self.reached[row], np.ones(1), self.edges.first[row][:, None]
        else:
            way = self.reached[row] - self.reached[labels.row]
            reach = self.edges.reach[labels.row][labels.threshold]
            errors = self.edges.errors[labels.row, row][:, labels.threshold]
        cost = (way + self.exit_us[row]) * reach
        sums: Floats = labels.value + self.of_cost * cost + self.of_error * errors
        return sums

    def _memory(self, row: int, before: Sequence[_Labels]) -> tuple[Floats, Floats]:
        """Bytes of the exits on this exit's processor, with it: weights, and the largest activations."""
        block, here = self.blocks[row], self.segment[row]
        stays = [one.row >= 0 and self.segment[one.row] == here for one in before]
        weights = np.concatenate([one.weights * on for one, on in zip(before, stays, strict=True)])
        peak = np.concatenate([one.peak * on for one, on in zip(before, stays, strict=True)])
        return weights + block.weight_bytes, np.maximum(peak, block.peak_bytes)

    def _path(self, sets: Sequence[_Labels], owner: int, place: int, estimate: float) -> EdgePath:
        keys, exits, chosen = self.edges.scoring.records.keys, [], []
        while sets[owner].row >= 0:
            labels = sets[owner]
            exits.append(keys[labels.row])
            chosen.append(int(labels.threshold[place]))
            owner, place = int(labels.came[0][place]), int(labels.came[1][place])
        return EdgePath(Placement(self.placement.segments, tuple(exits[::-1])), tuple(chosen[::-1]), estimate)
