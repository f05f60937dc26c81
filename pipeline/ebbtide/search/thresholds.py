"""Which thresholds are tried: those that a rounding error cannot carry a recorded sample across, or simply all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GAP = 1e-3
"""Smallest distance between two neighbouring recorded confidences that a threshold may stand between."""


def admissible_thresholds(confidences: NDArray[np.float32], *, classes: int, gap: float = GAP) -> NDArray[np.float32]:
    """All thresholds worth trying at one exit, ascending, float32.

    They are the midpoints of gaps of at least `gap` between neighbouring confidences, so that back ends that differ by
    less than half of that in a score still send every recorded sample the same way. First stands one below anything an
    exit can put out (with K classes the log-odds of the best class are at least -log(K - 1)): everybody leaves.

    Args:
        confidences: (n,) all that were recorded at this exit, of every split that will be compared.
        classes: K >= 2.
        gap: in log-odds.
    """
    values = np.unique(confidences[np.isfinite(confidences)]).astype(np.float64)
    middles = (values[:-1] + values[1:]) / 2
    all_leave = -np.log(classes - 1.0) - 1.0
    return np.concatenate([[all_leave], middles[np.diff(values) >= gap]]).astype(np.float32)


def every_threshold(confidences: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thresholds that tell apart all that any threshold can, ascending, float32: one below all, each distinct value.

    For comparisons of searches. They stand on recorded confidences, so that another back end may decide differently;
    what ships takes `admissible_thresholds`.

    Args:
        confidences: (n,) recorded at one exit.
    """
    values = np.unique(confidences)
    return np.concatenate([np.nextafter(values[:1], np.float32(-np.inf)), values])


def fewer_thresholds(choices: NDArray[np.float32], confidences: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """At most `count` of the thresholds, ascending: the one below all, and those nearest to even steps of samples.

    Few thresholds fit less to the samples they are chosen on.

    Args:
        choices: ascending.
        confidences: (n,) that the steps are counted on.
        count: at least 2.
    """
    if len(choices) <= count:
        return choices
    wanted = np.quantile(confidences, np.linspace(0.0, 1.0, count + 1)[1:-1])
    after = np.searchsorted(choices, wanted).clip(1, len(choices) - 1)
    fewer: NDArray[np.float32] = choices[np.unique(np.concatenate([[0], after]))]
    return fewer
