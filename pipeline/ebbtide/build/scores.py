"""From records to the table that ships: what is searched, what is kept, which rows are tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.steps import Progress, silent

if TYPE_CHECKING:
    from ebbtide.exits import Records
    from ebbtide.model import Metric
    from ebbtide.recipe import Recipe
    from ebbtide.search import Candidate, Costs, SearchSettings, Settled

FEW_SAMPLES = 2000
"""With fewer samples of select than this, what the head expects counts beside the labels."""
HEAD_SHARE = 0.5
FOLDS = 5
LEAST_LEAVING = 100
"""An exit is used where one in so many samples leaves."""


@dataclass(frozen=True)
class Scorable:
    """One width as the search sees it.

    Attributes:
        width: its name.
        records: of select.
        costs: MACs.
        gate: by exit, confidences of every sample that the gate will compare, if that is more than select; thresholds
            keep their distance from these too.
        times: measured microseconds, where a latency is limited.
    """

    width: str
    records: Records
    costs: Costs
    gate: Sequence[NDArray[np.float32]] | None = None
    times: Costs | None = None

    def choices(self, classes: int) -> list[NDArray[np.float32]]:
        """By exit row, the thresholds that may be used."""
        from ebbtide.search import admissible_thresholds

        seen = self.gate if self.gate is not None else self.records.confidences[:-1]
        return [admissible_thresholds(np.asarray(row), classes=classes) for row in seen]


@dataclass(frozen=True)
class Choice:
    """A table of configurations.

    Attributes:
        rows: the configurations that ship, best quality first; those without exits of every width are among them.
        tiers: indices into `rows`.
        scored: everything that was scored, for the report.
    """

    rows: list[Candidate]
    tiers: list[int]
    scored: list[Candidate]


def metric_of(metric: Metric, predictions: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> float:
    """The recipe's metric, 0..1."""
    from ebbtide.model import metric_value

    return float(metric_value(metric, predictions, labels, classes=classes))


def search_settings(recipe: Recipe, samples: int) -> SearchSettings:
    """The settings of `exits.search`, with what it leaves to us chosen by the number of samples of select.

    Few samples make a choice among thousands of configurations look better than it is: an exit must then be used by a
    few samples at least, half of what counts as right comes from the head's expectation, whose noise is smaller than
    that of single labels, and the optimism that remains is measured on parts of select and taken off every promise.
    """
    from ebbtide.recipe import SearchSection
    from ebbtide.search import TRADE_OFFS, SearchSettings

    wanted = recipe.exits.search if recipe.exits else SearchSection()
    few = samples < FEW_SAMPLES
    return SearchSettings(
        method=wanted.method,
        trade_offs=TRADE_OFFS if wanted.trade_offs == "auto" else tuple(wanted.trade_offs),
        thresholds=wanted.thresholds,
        overhead=wanted.overhead_macs,
        head_share=(HEAD_SHARE if few else 0.0) if wanted.head_share == "auto" else wanted.head_share,
        quantile=wanted.quantile,
        least_leaving=max(2, samples // LEAST_LEAVING) if wanted.least_leaving == "auto" else wanted.least_leaving,
        folds=FOLDS if wanted.folds == "auto" else wanted.folds,
        seed=recipe.seed,
    )


def settle(width: Scorable, *, recipe: Recipe, classes: int, progress: Progress = silent) -> Settled:
    """One exit type for each position of a width, and few positions; see `ebbtide.search.settle_types`."""
    from ebbtide.search import settle_types

    section = recipe.exits
    most = section.search.positions if section and section.search.positions != "all" else None
    limit = section.constraint.max_drop_points if section and section.constraint else None
    # What is only compared with itself needs no honest promises.
    settings = replace(search_settings(recipe, len(width.records)), folds=0)
    return settle_types(
        width.records,
        width.costs,
        choices=width.choices(classes),
        metric=recipe.metric,
        classes=classes,
        settings=settings,
        most=most,
        max_drop_points=recipe.tiers.max_drop_points if limit is None else limit,
        progress=progress,
    )


def choose(
    widths: Sequence[Scorable],
    *,
    recipe: Recipe,
    classes: int,
    reference: float | None = None,
    progress: Progress = silent,
) -> Choice:
    """Search thresholds in every width, keep the Pareto table over all of them, choose tiers.

    Args:
        widths: all of them, the widest first.
        recipe: its metric, exits and tiers sections.
        classes: size of the class set.
        reference: metric that losses are counted against; None for that of the widest without exits.
        progress: shows the searches.

    Raises:
        EbbtideError: ``search.no_configuration`` with the limit that is in the way, if no configuration keeps those of
            ``exits.constraint``.
    """
    from ebbtide.search import choose_tiers, thin

    scored = [candidate for width in widths for candidate in _searched(width, recipe, classes, progress)]
    front = _within_limits(widths, scored, recipe, reference)
    count = None if recipe.tiers.count == "auto" else recipe.tiers.count
    tiers = choose_tiers(front, count=count, max_drop_points=recipe.tiers.max_drop_points, floor=recipe.tiers.floor)
    rows = thin(front, keep=tiers)
    named = [rows.index(front[index]) for index in tiers]
    for width in widths:
        # Every width ships as it is, so that an application can ask for it; it need not be a tier.
        if all(row.thresholds or row.width != width.width for row in rows):
            rows.append(_plain(scored, width.width))
    return Choice(rows=rows, tiers=named, scored=scored)


def _within_limits(
    widths: Sequence[Scorable], scored: list[Candidate], recipe: Recipe, reference: float | None
) -> list[Candidate]:
    from ebbtide.search import Limits, Timed, pareto, within

    constraint = recipe.exits.constraint if recipe.exits else None
    if constraint is None:
        return pareto(scored)
    times = {one.width: Timed(one.records, one.times) for one in widths if one.times is not None}
    # Without times the positions are being chosen, before there is a program to measure.
    limits = Limits(constraint.max_drop_points)
    if times:
        limits = replace(
            limits,
            max_latency_us=constraint.max_latency_us,
            max_worst_latency_us=constraint.max_worst_latency_us,
        )
    dense = _plain(scored, widths[0].width).score.value if reference is None else reference
    found = within(scored, limits, reference=dense, times=times)
    if not found.rows:
        raise EbbtideError(
            "search.no_configuration",
            found.reason,
            expected="limits that a configuration keeps",
            found=", ".join(found.binding),
            place="exits.constraint",
            hint=f"Loosen exits.constraint.{found.binding[0]}.",
        )
    return list(found.rows)


def _plain(scored: Sequence[Candidate], width: str) -> Candidate:
    """A width's configuration without exits."""
    return next(c for c in scored if not c.thresholds and c.width == width)


def _searched(width: Scorable, recipe: Recipe, classes: int, progress: Progress) -> list[Candidate]:
    from ebbtide.search import search_thresholds

    found = search_thresholds(
        width.records,
        width.costs,
        choices=width.choices(classes),
        metric=recipe.metric,
        classes=classes,
        settings=search_settings(recipe, len(width.records)),
        progress=progress,
    )
    return [replace(candidate, width=width.width) for candidate in found]


def ways(width: Scorable, kept: Sequence[tuple[int, str]], *, recipe: Recipe, classes: int) -> list[dict[str, Any]]:
    """Fronts on select of what the table is held against, as JSON values: name and points (metric, mean MACs).

    The search among the exits that the program may have; the published single pass among the same; and one threshold
    for all exits of a type, the best type at each cost.

    Args:
        width: with the records of all candidates.
        kept: the exits that the program may have.
        recipe: its metric and exits sections.
        classes: size of the class set.
    """
    from ebbtide.exits import ExitKey
    from ebbtide.search import pareto, same_threshold, scored_candidate
    from ebbtide.search.table import problem_for, search_all

    settings = replace(search_settings(recipe, len(width.records)), folds=0)
    keys = [ExitKey(*key) for key in kept]
    choices = dict(zip(width.records.keys, width.choices(classes), strict=True))
    records = width.records.only(keys)

    def front(of: Records, rows: Sequence[NDArray[np.float32]]) -> list[list[float]]:
        found = [scored_candidate(of, width.costs, row, metric=recipe.metric, classes=classes) for row in rows]
        return [[one.score.value, one.score.mean_cost] for one in pareto(found)]

    def problem(of: Records) -> Any:
        tried = [choices[key] for key in of.keys]
        return problem_for(of, width.costs, choices=tried, metric=recipe.metric, settings=settings)

    few, everything = problem(records), problem(width.records)
    types = sorted({key.type for key in width.records.keys})
    shared = [same_threshold(everything, kind, one) for kind in types for one in settings.trade_offs]
    once = replace(settings, method="single-pass")
    return [
        {"name": "this search", "points": front(records, search_all(few, settings))},
        {"name": "single pass", "points": front(records, search_all(few, once))},
        {"name": "one threshold for all exits", "points": front(width.records, shared)},
    ]
