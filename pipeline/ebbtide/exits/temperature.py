"""Temperature scaling: one number per exit and head, so that their confidences mean the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature T in [0.05, 20] that minimises the mean cross-entropy of softmax(logits / T).

    Guo et al., On Calibration of Modern Neural Networks, 2017, section 4.2. The loss is convex in 1/T, so the bounded
    search over log T finds the one minimum; at a bound (all right, or pure noise) the bound is returned. Predictions
    do not change.

    Args:
        logits: (n, classes).
        labels: (n,), classes as indices.
    """
    scores = logits.astype(np.float64)
    right = scores[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(np.mean(logsumexp(scores * inverse, axis=1) - right * inverse))

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-6})
    # Rounded to float32, because that is what the lowered program divides by.
    return float(np.float32(np.exp(found.x)))
