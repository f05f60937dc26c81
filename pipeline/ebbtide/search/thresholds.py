"""Which thresholds are safe: those that a rounding error cannot carry a recorded sample across."""

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
