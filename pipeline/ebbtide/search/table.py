"""A search at many trade-offs: the configurations that a table is made of, and what they honestly promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import isotonic_regression

from ebbtide.errors import EbbtideError
from ebbtide.exits import Records
from ebbtide.model import Metric
from ebbtide.search.candidate import Candidate, scored_candidate
from ebbtide.search.caution import CautiousProblem, expected_right
from ebbtide.search.costs import Costs
from ebbtide.search.problem import Floats, Problem, Thresholds, check_trade_off, metric_weights
from ebbtide.search.score import score
from ebbtide.search.sweep import descend, iterative, refine, single_pass
from ebbtide.search.thresholds import fewer_thresholds
from ebbtide.steps import Progress, silent

TRADE_OFFS = tuple(float(odds / (1 + odds)) for odds in np.geomspace(0.25, 400.0, 64))
"""The accuracy weights lambda in (0, 1) that are searched; evenly spaced in log-odds, since fronts bend near 1."""


@dataclass(frozen=True)
class SearchSettings:
    """How configurations are searched, and how much is done against fitting to the samples they are searched on.

    Attributes:
        method: ``sweeps`` (exact steps in sweeps up and down, local optima shared between trade-offs),
            ``single-pass`` or ``iterative`` (DyCE's).
        trade_offs: accuracy weights, in [0, 1].
        normalised: the published form of the objective (`Problem`).
        thresholds: at most so many at each exit, at least 2; None for all that are admissible.
        overhead: what an exit in use takes beside its own cost, in the unit of the costs: one more call, copies, the
            scoring of its answer. Searches count it; the costs of what they find are without it.
        head_share: how far right and wrong give way to what the head expects, 0..1 (`expected_right`).
        quantile: of the cautious accuracies, above 0, at most 0.5; None for plain ones (`CautiousProblem`).
        least_leaving: an exit is used only if at least so many samples leave there.
        folds: 2 or more to take the optimism of the choice off every promise, found by repeating the search on parts
            of the samples; 0 to leave promises as they are.
        seed: of the folds.

    Raises:
        EbbtideError: ``search.settings`` or ``search.trade_off`` if a value is out of range.
    """

    method: Literal["sweeps", "single-pass", "iterative"] = "sweeps"
    trade_offs: Sequence[float] = TRADE_OFFS
    normalised: bool = False
    thresholds: int | None = None
    overhead: float = 0.0
    head_share: float = 0.0
    quantile: float | None = None
    least_leaving: int = 1
    folds: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for trade_off in self.trade_offs:
            check_trade_off(trade_off)
        checks = {
            "method": (self.method in ("sweeps", "single-pass", "iterative"), "sweeps, single-pass or iterative"),
            "thresholds": (self.thresholds is None or self.thresholds >= 2, "2 or more"),
            "overhead": (0.0 <= self.overhead < np.inf, "0 or more, finite"),
            "head_share": (0.0 <= self.head_share <= 1.0, "a number from 0 to 1"),
            "quantile": (self.quantile is None or 0.0 < self.quantile <= 0.5, "above 0, at most 0.5"),
            "least_leaving": (self.least_leaving >= 1, "1 or more"),
            "folds": (self.folds == 0 or self.folds >= 2, "0, or 2 or more"),
        }
        for name, (fits, expected) in checks.items():
            if not fits:
                raise EbbtideError(
                    "search.settings",
                    f"{name} of the search is out of range",
                    expected=expected,
                    found=str(getattr(self, name)),
                )


def search_thresholds(
    records: Records,
    costs: Costs,
    *,
    choices: Sequence[Thresholds],
    metric: Metric,
    classes: int,
    settings: SearchSettings | None = None,
    progress: Progress = silent,
) -> list[Candidate]:
    """Distinct configurations, cheapest first, found over all trade-offs; the one without exits is among them.

    The steps count every sample with the weight that makes the sum the metric (accuracy), or the class-balanced
    accuracy where the metric is not a sum over samples (macro F1); the scores are of the metric itself.

    Args:
        records: of the *select* split; several types of exit may stand at one position, at most one of them is used.
        costs: MACs as a rule.
        choices: by exit row, the thresholds that may be used (`admissible_thresholds`).
        metric: as in the recipe.
        classes: number of classes.
        settings: None for the defaults.
        progress: shows trade-offs done.

    Raises:
        EbbtideError: ``search.split`` for records of *test*.
    """
    settings = settings or SearchSettings()
    problem = problem_for(records, costs, choices=choices, metric=metric, settings=settings)
    with progress.task("Searching", (1 + settings.folds) * len(settings.trade_offs)) as task:
        found = search_all(problem, settings)
        task.advance(len(found))
        optimism = np.zeros(len(found))
        for part in range(settings.folds):
            optimism += _optimism(records, costs, choices, part, metric=metric, classes=classes, settings=settings)
            task.advance(len(found))
    if settings.folds:
        optimism = _falling(optimism / settings.folds, settings.trade_offs)
    by_row: dict[tuple[np.float32, ...], list[float]] = {tuple(problem.all_off()): []}
    for row, excess in zip(found, optimism, strict=True):
        by_row.setdefault(tuple(row), []).append(float(excess))
    by_row[tuple(problem.all_off())] = [0.0]  # nothing was chosen
    candidates = [
        _promising(
            scored_candidate(records, costs, np.array(row, dtype=np.float32), metric=metric, classes=classes),
            float(np.mean(parts)),
        )
        for row, parts in by_row.items()
    ]
    return sorted(candidates, key=lambda c: (c.score.mean_cost, -c.score.value, c.thresholds, c.types))


def problem_for(
    records: Records, costs: Costs, *, choices: Sequence[Thresholds], metric: Metric, settings: SearchSettings
) -> Problem:
    """The problem that the settings describe; arguments as of `search_thresholds`."""
    if settings.thresholds is not None:
        pairs = zip(choices, records.confidences[:-1], strict=True)
        choices = [fewer_thresholds(tried, seen, settings.thresholds) for tried, seen in pairs]
    costs = costs.with_boundaries(settings.overhead) if settings.overhead else costs
    weights = metric_weights(records.labels, metric)
    right = expected_right(records, settings.head_share) if settings.head_share else None
    if settings.quantile is None:
        return Problem(
            records,
            costs,
            choices=choices,
            weights=weights,
            normalised=settings.normalised,
            right=right,
            least_leaving=settings.least_leaving,
        )
    return CautiousProblem(
        records,
        costs,
        choices=choices,
        weights=weights,
        quantile=settings.quantile,
        normalised=settings.normalised,
        right=right,
        least_leaving=settings.least_leaving,
    )


def search_all(problem: Problem, settings: SearchSettings) -> list[Thresholds]:
    """The configuration found for each trade-off, in their order.

    With sweeps, a configuration found at one trade-off that is better at another takes the other's place and is
    refined there: the local optima of all trade-offs are tried at each.
    """
    method = {"sweeps": descend, "single-pass": single_pass, "iterative": iterative}[settings.method]
    found = [method(problem, trade_off) for trade_off in settings.trade_offs]
    if settings.method != "sweeps" or not found:
        return found
    measured = [problem.measure(row) for row in found]
    shared = []
    for own, trade_off in enumerate(settings.trade_offs):
        values = [problem.value(*pair, trade_off) for pair in measured]
        best = int(np.argmin(values))
        better = values[best] < values[own] - 1e-12
        shared.append(refine(problem, found[best], trade_off) if better else found[own])
    return shared


def _optimism(
    records: Records,
    costs: Costs,
    choices: Sequence[Thresholds],
    part: int,
    *,
    metric: Metric,
    classes: int,
    settings: SearchSettings,
) -> Floats:
    """By trade-off: how much better a choice made without one part of the samples looks on the others than on it.

    Both are compared with the model without exits on the same samples. Each search sees fewer samples than the real
    one, so the figure is a little too high rather than too low.
    """
    parts = np.random.default_rng(settings.seed).permutation(len(records)) % settings.folds
    seen, unseen = (records.samples(np.flatnonzero(chosen)) for chosen in (parts != part, parts == part))
    problem = problem_for(seen, costs, choices=choices, metric=metric, settings=settings)

    def over_plain(split: Records, thresholds: Thresholds) -> float:
        pair = (score(split, costs, row, metric=metric, classes=classes) for row in (thresholds, problem.all_off()))
        found, plain = pair
        return found.value - plain.value

    return np.array([over_plain(seen, row) - over_plain(unseen, row) for row in search_all(problem, settings)])


def _falling(optimism: Floats, trade_offs: Sequence[float]) -> Floats:
    """The same without its noise: the nearest that does not rise with lambda, since then ever fewer samples leave."""
    order = np.argsort(trade_offs, kind="stable")
    smooth = np.empty_like(optimism)
    smooth[order] = isotonic_regression(optimism[order], increasing=False).x
    return smooth


def _promising(candidate: Candidate, optimism: float) -> Candidate:
    """The candidate with its optimism taken off its promise."""
    honest = float(np.clip(candidate.score.value - optimism, 0.0, 1.0))
    return replace(candidate, score=replace(candidate.score, value=honest), optimism=optimism)
