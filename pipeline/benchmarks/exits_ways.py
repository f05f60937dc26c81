"""Ways to choose thresholds, compared on the same exits and samples; `exits_training.py` calls this.

Each way finds one configuration for each trade-off on the half where all is chosen. How good they are as searches is
told by the objective there, which all of them minimise; how good as configurations, by the largest saving on the other
half among those that lose at most half a point there. That reads the other half to choose from it, for all ways alike:
it compares fronts, and is no promise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ebbtide.exits import ExitKey, Records
from ebbtide.search import (
    Costs,
    Problem,
    brent_single_pass,
    descend,
    iterative,
    metric_weights,
    same_threshold,
    score,
    single_pass,
)
from ebbtide.search.problem import Thresholds

LIMIT_POINTS = 0.5
WAYS: dict[str, Callable[[Problem, float], Thresholds]] = {
    "sweeps": descend,
    "iterative": iterative,
    "single_pass": single_pass,
    "brent": brent_single_pass,
    "same_threshold": lambda problem, trade_off: min(
        (same_threshold(problem, kind, trade_off) for kind in sorted({key.type for key in problem.records.keys})),
        key=lambda found: problem.objective(found, trade_off),
    ),
}


@dataclass(frozen=True)
class Compared:
    """What all ways search in and are measured on.

    Args:
        here: records of the half where all is chosen.
        there: of the other half.
        costs: multiply-accumulates.
        keys: one exit a position.
        classes: how many.
        dense: accuracy of the model as it came on the other half.
    """

    here: Records
    there: Records
    costs: Costs
    keys: tuple[ExitKey, ...]
    classes: int
    dense: float


def ways(alike: Compared, choices: Sequence[Thresholds], trade_offs: Sequence[float]) -> dict[str, dict[str, Any]]:
    """By way: the objective over that of sweeps in points of accuracy, savings on the other half, and CPU seconds.

    Args:
        alike: samples and exits.
        choices: by exit, the thresholds that may be used.
        trade_offs: accuracy weights, above 0.
    """
    records = alike.here.only(alike.keys)
    weights = metric_weights(records.labels, "accuracy")
    problem = Problem(records, alike.costs, choices=choices, weights=weights)
    found, seconds = {}, {}
    for name, way in WAYS.items():
        began = time.process_time()
        found[name] = [way(problem, trade_off) for trade_off in trade_offs]
        seconds[name] = time.process_time() - began
    # An objective divided by the weight of accuracy and its span counts in accuracy.
    unit = np.array(trade_offs) / problem.span
    values = {
        name: np.array([problem.objective(*pair) for pair in zip(rows, trade_offs, strict=True)]) / unit
        for name, rows in found.items()
    }
    return {
        name: {
            "given_away_points": float(100 * (values[name] - values["sweeps"]).mean()),
            "worst_points": float(100 * (values[name] - values["sweeps"]).max()),
            "cut": _largest_cut(alike, rows),
            "cpu_s": round(seconds[name], 2),
        }
        for name, rows in found.items()
    }


def _largest_cut(alike: Compared, rows: Sequence[Thresholds]) -> float:
    """Share of the multiply-accumulates saved on the other half by the cheapest row within the limit there."""
    there, cut = alike.there.only(alike.keys), 0.0
    for row in {tuple(row): row for row in rows}.values():
        measured = score(there, alike.costs, row, metric="accuracy", classes=alike.classes)
        if 100 * (alike.dense - measured.value) <= LIMIT_POINTS + 1e-9:
            cut = max(cut, 1 - measured.mean_cost / alike.costs.total)
    return cut
