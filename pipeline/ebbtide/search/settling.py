"""One exit type for each position, and few positions: what a program of one width is built with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ebbtide.exits import ExitKey, Records
from ebbtide.model import Metric
from ebbtide.search.candidate import Candidate
from ebbtide.search.costs import Costs
from ebbtide.search.problem import Floats, Problem, Thresholds
from ebbtide.search.sweep import laters
from ebbtide.search.table import SearchSettings, problem_for, search_all, search_thresholds
from ebbtide.search.tiers import pareto
from ebbtide.steps import Progress, silent

_SHRINK = 0.75
"""Positions are dropped in rounds, at most a quarter of them in each, so that the rest can take over their samples."""


@dataclass(frozen=True)
class Settled:
    """Exits that a whole table is made of.

    Attributes:
        keys: one exit for each position that is kept.
        candidates: found with these exits alone.
        mean_loss_points: points of the metric that the table with any type anywhere is better at equal cost, mean over
            its rows that the settled table reaches in cost; negative where the search among fewer exits found more.
        worst_loss_points: the same, largest over its rows.
    """

    keys: tuple[ExitKey, ...]
    candidates: tuple[Candidate, ...]
    mean_loss_points: float
    worst_loss_points: float


def settle_types(
    records: Records,
    costs: Costs,
    *,
    choices: Sequence[Thresholds],
    metric: Metric,
    classes: int,
    settings: SearchSettings | None = None,
    most: int | None = None,
    max_drop_points: float | None = None,
    progress: Progress = silent,
) -> Settled:
    """Choose one exit type for every position, and keep the positions that a table gains most from.

    A program has one method for each exit position, so all rows of a width's table share the type. For each
    configuration that the free search found, and each position, the exact step of every type is valued; a position
    gets the type that gives away least over all trade-offs. Then thresholds are searched again with those exits alone.

    Args:
        records, costs, choices, metric, classes, settings: as of `search_thresholds`.
        most: keep at most so many positions, since each boundary in use costs time; None for all that gain anything.
        max_drop_points: only configurations that lose at most so much against the model without exits have a say; None
            for all.
        progress: of both searches.
    """
    settings = settings or SearchSettings()
    rows = dict(zip(records.keys, range(len(records.keys)), strict=True))

    def search(keys: Sequence[ExitKey]) -> list[Candidate]:
        return search_thresholds(
            records.only(keys),
            costs,
            choices=[choices[rows[key]] for key in keys],
            metric=metric,
            classes=classes,
            settings=settings,
            progress=progress,
        )

    free = search(records.keys)
    found: list[Thresholds] = [candidate.row(records.keys) for candidate in free]
    kept, settled_down = records.keys, False
    while not settled_down:
        kept_choices = [choices[rows[key]] for key in kept]
        problem = problem_for(records.only(kept), costs, choices=kept_choices, metric=metric, settings=settings)
        voters = _voters(problem, found or search_all(problem, settings), settings.trade_offs, max_drop_points)
        kept, found = _kept(problem, _worth(problem, voters), most), []
        settled_down = most is None or len(kept) <= most
    settled = search(kept)
    losses = _losses(free, settled, max_drop_points)
    return Settled(kept, tuple(settled), float(np.mean(losses)), float(np.max(losses)))


def _voters(
    problem: Problem, found: Sequence[Thresholds], trade_offs: Sequence[float], max_drop_points: float | None
) -> list[tuple[Thresholds, float]]:
    """The best of these configurations at each trade-off, with it, if it does not lose too much."""
    measured = [problem.measure(thresholds) for thresholds in found]
    least = -np.inf if max_drop_points is None else problem.whole - max_drop_points / 100.0
    best = [int(np.argmin([problem.value(*pair, trade_off) for pair in measured])) for trade_off in trade_offs]
    return [
        (found[index], trade_off)
        for index, trade_off in zip(best, trade_offs, strict=True)
        if measured[index][0] >= least - 1e-12
    ]


def _kept(problem: Problem, worth: Floats, most: int | None) -> tuple[ExitKey, ...]:
    """The best type of each position where any gains something, and of those positions the best ones."""
    best = [row for row in (max(group, key=lambda row: worth[row]) for group in problem.groups) if worth[row] > 0.0]
    count = len(best) if most is None else max(most, int(_SHRINK * len(best)))
    stay = sorted(best, key=lambda row: -worth[row])[:count]
    return tuple(problem.records.keys[row] for row in sorted(stay))


def _worth(problem: Problem, voters: Sequence[tuple[Thresholds, float]]) -> Floats:
    """By exit: what its best threshold takes off the objective where the others stand, summed over configurations."""
    worth = np.zeros(len(problem.exit_costs))
    for thresholds, trade_off in voters:
        alive = problem.all_samples()
        for group, later in enumerate(laters(problem, thresholds)):
            arriving = np.flatnonzero(alive)
            for row in problem.groups[group]:
                gains = problem.gains(row, arriving, later.of(arriving), trade_off)
                worth[row] += max(0.0, float(gains.max()))
            alive = problem.staying(alive, thresholds, group)
    return worth


def _losses(free: Sequence[Candidate], settled: Sequence[Candidate], max_drop_points: float | None) -> list[float]:
    """By how many points each row of the free table is above the line through the settled one, at its cost.

    Rows that lose too much, or cost less than any settled one, are left out.
    """
    plain = next(candidate.score.value for candidate in free if not candidate.thresholds)
    least = -np.inf if max_drop_points is None else plain - max_drop_points / 100.0
    line = [(c.score.mean_cost, c.score.value) for c in reversed(pareto(settled))]
    costs, values = np.array(line).T
    return [
        100.0 * (row.score.value - float(np.interp(row.score.mean_cost, costs, values)))
        for row in pareto(free)
        if row.score.value >= least - 1e-12 and row.score.mean_cost >= costs[0]
    ] or [0.0]
