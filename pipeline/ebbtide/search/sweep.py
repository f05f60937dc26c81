"""Searches over all positions, from exact steps: one pass, sweeps until nothing improves, one change at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ebbtide.search.problem import Later, Problem, Thresholds, check_trade_off

MAX_SWEEPS = 12
MAX_ROUNDS = 1000

Sweep = Callable[[Problem, Thresholds, float], Thresholds]
"""A way to improve a configuration for a lambda; it leaves the one given as it is."""

Step = Callable[[Problem, int, NDArray[np.bool_], Later, float], tuple[int | None, np.float32, float]]
"""A way to choose exit and threshold of one position, as `Problem.best_step` does."""


def single_pass(problem: Problem, trade_off: float) -> Thresholds:
    """Positions first to last, each searched exactly while all later exits are off; never revisited.

    DyCE (arXiv 2403.01695), its default search, with the exact step. Early thresholds are too eager, since they do
    not know of later exits.

    Raises:
        EbbtideError: ``search.trade_off``.
    """
    return sweep_up(problem, problem.all_off(), check_trade_off(trade_off))


def sweep_up(
    problem: Problem, thresholds: Thresholds, trade_off: float, *, step: Step = Problem.best_step
) -> Thresholds:
    """One step at every position, first to last; an exact one, if no other is given."""
    found, alive = thresholds.copy(), problem.all_samples()
    for group, later in enumerate(laters(problem, thresholds)):
        row, threshold, _ = step(problem, group, alive, later, trade_off)
        problem.set_group(found, group, row, threshold)
        alive = problem.staying(alive, found, group)
    return found


def sweep_down(problem: Problem, thresholds: Thresholds, trade_off: float) -> Thresholds:
    """One exact step at every position, last to first."""
    found, arrivals = thresholds.copy(), [problem.all_samples()]
    for group in range(len(problem.groups)):
        arrivals.append(problem.staying(arrivals[-1], found, group))
    later = problem.after_last()
    for group in reversed(range(len(problem.groups))):
        row, threshold, _ = problem.best_step(group, arrivals[group], later, trade_off)
        problem.set_group(found, group, row, threshold)
        later = problem.before(later, found, group)
    return found


def laters(problem: Problem, thresholds: Thresholds) -> list[Later]:
    """For each position, what becomes of the samples that do not leave there."""
    found = [problem.after_last()]
    for group in range(len(problem.groups) - 1, 0, -1):
        found.append(problem.before(found[-1], thresholds, group))
    return found[::-1] if problem.groups else []


def refine(
    problem: Problem, thresholds: Thresholds, trade_off: float, *, sweep: Sweep = sweep_up, sweeps: int = MAX_SWEEPS
) -> Thresholds:
    """Sweeps from a configuration until one changes nothing; the objective never rises.

    Args:
        problem: with its objective.
        thresholds: (E,) where to start.
        trade_off: lambda.
        sweep: `sweep_up` or `sweep_down`.
        sweeps: at most so many.

    Raises:
        EbbtideError: ``search.trade_off``.
    """
    check_trade_off(trade_off)
    for _ in range(sweeps):
        after = sweep(problem, thresholds, trade_off)
        if np.array_equal(after, thresholds):
            break
        thresholds = after
    return thresholds


def iterative(problem: Problem, trade_off: float, *, rounds: int = MAX_ROUNDS) -> Thresholds:
    """From all off, each round the one change of one position that lowers the objective most, until none does.

    DyCE's second search, with the exact step and one scale of the objective throughout.

    Args:
        problem: with its objective.
        trade_off: lambda.
        rounds: at most so many changes.

    Raises:
        EbbtideError: ``search.trade_off``.
    """
    thresholds = problem.all_off()
    check_trade_off(trade_off)
    for _ in range(rounds):
        changes = _single_changes(problem, thresholds, trade_off)
        fall, changed = max(changes, key=lambda change: change[0], default=(0.0, thresholds))
        if fall <= 1e-12:
            break
        thresholds = changed
    return thresholds


def _single_changes(problem: Problem, thresholds: Thresholds, trade_off: float) -> Iterable[tuple[float, Thresholds]]:
    """By how much the exact step at each position lowers the objective, and the configuration with it."""
    alive = problem.all_samples()
    for group, later in enumerate(laters(problem, thresholds)):
        row, threshold, gain = problem.best_step(group, alive, later, trade_off)
        changed = thresholds.copy()
        problem.set_group(changed, group, row, threshold)
        yield gain - problem.gain_of(thresholds, group, alive, later, trade_off), changed
        alive = problem.staying(alive, thresholds, group)


def descend(problem: Problem, trade_off: float, starts: Sequence[Thresholds] = ()) -> Thresholds:
    """The best of several local optima: sweeps up and down from all off, and up from each of `starts`.

    Coordinate sweeps can stop in a local optimum; the two directions rarely stop in the same one.

    Args:
        problem: with its objective.
        trade_off: lambda.
        starts: more configurations to start from, such as those found at other lambdas.

    Raises:
        EbbtideError: ``search.trade_off``.
    """
    ends = [refine(problem, problem.all_off(), trade_off, sweep=sweep) for sweep in (sweep_up, sweep_down)]
    ends += [refine(problem, start, trade_off) for start in starts]
    return min(ends, key=lambda thresholds: problem.objective(thresholds, trade_off))
