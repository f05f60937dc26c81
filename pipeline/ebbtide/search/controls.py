"""What exact searches are compared with: DyCE's numeric line search, and one threshold for all exits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logit

from ebbtide.search.problem import Floats, Later, Problem, Thresholds, check_trade_off
from ebbtide.search.score import OFF
from ebbtide.search.sweep import sweep_up

PRECISION = 1e-5


def brent_step(
    problem: Problem, group: int, alive: NDArray[np.bool_], later: Later, trade_off: float
) -> tuple[int | None, np.float32, float]:
    """As `Problem.best_step`, but each threshold is found by bounded Brent search over the probability in [0, 1].

    As DyCE (arXiv 2403.01695) published it, to a precision of 1e-5. The gain is a step function with many local
    maxima, and the search can stop in any of them.
    """
    best: tuple[int | None, np.float32, float] = (None, OFF, 0.0)
    quality, saving = problem.rates(trade_off)
    for row in problem.groups[group]:
        each = quality * (problem.worth[row] - later.worth) + saving * later.cost
        price = saving * problem.exit_costs[row] * int(alive.sum())
        seen = problem.records.confidences[row][alive]
        gains, cost = each[alive], float(price)

        def loss(
            probability: float, seen: NDArray[np.float32] = seen, gains: Floats = gains, cost: float = cost
        ) -> float:
            return cost - float(gains[seen > np.float32(logit(probability))].sum())

        found = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded", options={"xatol": PRECISION})
        if -found.fun > best[2] + 1e-12:
            best = row, np.float32(logit(found.x)), -float(found.fun)
    return best


def brent_single_pass(problem: Problem, trade_off: float) -> Thresholds:
    """DyCE's default search as published: one pass, every threshold by `brent_step`.

    Raises:
        EbbtideError: ``search.trade_off``.
    """
    return sweep_up(problem, problem.all_off(), check_trade_off(trade_off), step=brent_step)


def same_threshold(problem: Problem, kind: str, trade_off: float) -> Thresholds:
    """Exits of one type at every position, all with the one threshold that is best; or none, if that is better.

    Every threshold that tells samples apart is tried. A sample leaves at an exit for exactly those thresholds that lie
    between the highest confidence before and at that exit, so that sums over such intervals value all thresholds.

    Args:
        problem: with its objective.
        kind: of exit.
        trade_off: lambda.

    Raises:
        EbbtideError: ``search.trade_off``.
    """
    check_trade_off(trade_off)
    rows = [row for row, key in enumerate(problem.records.keys) if key.type == kind]
    off = problem.all_off()
    if not rows:
        return off
    highest = np.maximum.accumulate(problem.records.confidences[rows], axis=0)
    tried = np.unique(highest)
    tried = np.concatenate([np.nextafter(tried[:1], np.float32(-np.inf)), tried])
    enabled = np.isin(np.arange(len(off)), rows)
    paid = problem.costs.leaving_costs(problem.records.keys, enabled)
    quality, saving = problem.rates(trade_off)
    sums = np.zeros(len(tried) + 1)
    starts = np.zeros(len(problem.records), dtype=np.int64)
    for place, row in enumerate([*rows, -1]):
        ends = np.searchsorted(tried, highest[place], side="left") if row >= 0 else np.full_like(starts, len(tried))
        losses = saving * paid[row] - quality * problem.worth[row]
        sums += np.bincount(starts, weights=losses, minlength=len(sums))
        sums -= np.bincount(ends, weights=losses, minlength=len(sums))
        starts = ends
    found = np.where(enabled, tried[int(np.cumsum(sums)[:-1].argmin())], OFF)
    return found if problem.objective(found, trade_off) < problem.objective(off, trade_off) else off
