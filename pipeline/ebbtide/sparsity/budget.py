"""The automatic budget: the cheapest model whose loss of accuracy is, with confidence, within a limit."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.sparsity.paired import Drop, paired_drop
from ebbtide.steps import Progress, silent

T = TypeVar("T")
Made = TypeVar("Made", covariant=True)


@dataclass(frozen=True)
class Attempt(Generic[Made]):
    """What came of one budget.

    Args:
        made: the model, whatever it is to the caller.
        right: for each sample of select whether its class is found, (n,).
        kept: share that there is, measured.
        stopped: why the budget was not reached; None where it was.
    """

    made: Made = field(repr=False)
    right: NDArray[np.bool_] = field(repr=False)
    kept: float
    stopped: str | None = None


class Run(Protocol[Made]):
    """Makes a model at a budget; what it keeps on disk makes a search resumable."""

    def __call__(self, budget: float, larger: Sequence[float]) -> Attempt[Made]:
        """The model that keeps at most a share, made through budgets larger than it, ascending."""


@dataclass(frozen=True)
class Trial(Generic[T]):
    """One budget that was tried.

    Args:
        budget: share that was allowed.
        attempt: what came of it.
        drop: against the reference, on select.
        within: whether the bound is within the limit and the budget was reached.
    """

    budget: float
    attempt: Attempt[T]
    drop: Drop
    within: bool

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        own = {"budget": self.budget, "kept": self.attempt.kept, "within": self.within}
        return own | {"stopped": self.attempt.stopped, "drop": self.drop.to_json()}


@dataclass(frozen=True)
class Cheapest(Generic[T]):
    """What a search for the cheapest model found.

    Args:
        found: the trial of the smallest budget that is within the limit; None where none is.
        trials: all of them, in the order in which they were made.
        max_drop_points: the limit.
        reason: why nothing was found, or "".
    """

    found: Trial[T] | None
    trials: tuple[Trial[T], ...]
    max_drop_points: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "budget": self.found.budget if self.found else None,
            "trials": [trial.to_json() for trial in self.trials],
            "max_drop_points": self.max_drop_points,
            "reason": self.reason,
        }


def budget_grid(least: float, *, most: float = 0.7, count: int = 8) -> tuple[float, ...]:
    """Budgets in equal ratios, ascending.

    Args:
        least: the smallest, above 0; what a pattern says it can reach (`Pattern.least`), or larger.
        most: the largest, at most 1.
        count: how many; one where `least` is not below `most`.
    """
    if least >= most or count < 2:
        return (min(least, 1.0),)
    return tuple(least * (most / least) ** (index / (count - 1)) for index in range(count))


def cheapest_within(
    run: Run[T],
    reference: NDArray[np.bool_],
    *,
    max_drop_points: float,
    budgets: Sequence[float],
    confidence: float = 0.95,
    progress: Progress = silent,
) -> Cheapest[T]:
    """Try budgets between one that is known to be within the limit and one that is not, until they are neighbours.

    The middle one of those that are open is tried next, so that of n budgets about log2(n) are tried. Each comes to its
    budget through all larger ones, so that what is made on the way there serves every trial. A trial is within the
    limit if the one-sided confidence bound of its loss is (`paired_drop`), not if its mean is; each bound holds for
    itself, and the choice among them is made on select, so that the loss on test may be larger. It is taken that a
    larger budget is not worse.

    Args:
        run: makes a model at a budget.
        reference: for each sample of select whether the reference finds its class, (n,).
        max_drop_points: the limit, in points of accuracy (hundredths), 0 or more.
        budgets: shares in (0, 1], ascending.
        confidence: of each bound.
        progress: a task of trials with seconds to go, and what each came to.

    Raises:
        EbbtideError: ``sparsity.budget`` for budgets or a limit out of range; and what `run` raises.
    """
    ascending = list(budgets) == sorted(set(budgets))
    if not budgets or not ascending or budgets[0] <= 0.0 or budgets[-1] > 1.0 or not 0.0 <= max_drop_points <= 100.0:
        raise EbbtideError(
            "sparsity.budget",
            "There is nothing to search between these budgets.",
            expected="ascending shares above 0 and at most 1, and a limit of 0 to 100 points",
            found=f"{', '.join(f'{budget:g}' for budget in budgets) or 'none'}; limit {max_drop_points:g}",
        )
    trials: list[Trial[T]] = []
    found: Trial[T] | None = None
    low, high = 0, len(budgets)  # Open: those from low to below high.
    with progress.task("budgets", total=_trials(len(budgets))) as task:
        clock = time.monotonic()
        while low < high:
            middle = (low + high) // 2
            attempt = run(budgets[middle], budgets[middle + 1 :])
            drop = paired_drop(reference, attempt.right, confidence=confidence)
            within = attempt.stopped is None and drop.bound_points <= max_drop_points
            trial = Trial(budgets[middle], attempt, drop, within)
            trials.append(trial)
            if within:
                found, high = trial, middle
            else:
                low = middle + 1
            progress.say(_words(trial, max_drop_points))
            eta_s = round((time.monotonic() - clock) / len(trials) * _trials(high - low), 1)
            task.advance(1, budget=trial.budget, drop=drop.points, bound=drop.bound_points, eta_s=eta_s)
    return Cheapest(found, tuple(trials), max_drop_points, "" if found else _reason(trials, max_drop_points))


def _trials(count: int) -> int:
    """The most trials that so many open budgets need."""
    return math.ceil(math.log2(count + 1))


def _words(trial: Trial[T], limit: float) -> str:
    drop = trial.drop
    said = "within" if trial.within else "not within"
    text = f"{100 * trial.budget:.3g} %: loses {drop.points:.2f} points, at most {drop.bound_points:.2f} with "
    text += f"{100 * drop.confidence:g} % confidence ({drop.lost} lost, {drop.won} won of {drop.samples}); "
    return text + f"{said} {limit:g}" + (f"; {trial.attempt.stopped}" if trial.attempt.stopped else "")


def _reason(trials: Sequence[Trial[T]], limit: float) -> str:
    best = min(trials, key=lambda trial: (trial.attempt.stopped is not None, trial.drop.bound_points))
    drop = best.drop
    own = _bound_of_equals(drop)
    text = (
        f"the least loss was at {100 * best.budget:.3g} %: {drop.points:.2f} points, at most {drop.bound_points:.2f} "
        f"with {100 * drop.confidence:g} % confidence, and the limit is {limit:g}"
    )
    if own > limit:
        text += f"; with {drop.samples} samples even a model that decides the same could lose {own:.2f}"
    return text


def _bound_of_equals(drop: Drop) -> float:
    """The bound in points that a candidate without a single other decision would have on the same samples."""
    same = np.ones(drop.samples, bool)
    return paired_drop(same, same, confidence=drop.confidence).bound_points
