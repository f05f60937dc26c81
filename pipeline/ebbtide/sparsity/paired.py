"""How much worse one classifier is than another on the same samples, with how much certainty."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError

_HALVINGS = 60


@dataclass(frozen=True)
class Drop:
    """The accuracy that a candidate lacks against a reference, in points (hundredths).

    Args:
        samples: n.
        lost: samples that the reference alone gets right.
        won: samples that the candidate alone gets right.
        points: 100 (lost - won) / n; negative where the candidate is better.
        bound_points: the drop is at most this, one-sided, with the confidence.
        confidence: 0.5..1.
    """

    samples: int
    lost: int
    won: int
    points: float
    bound_points: float
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def paired_drop(reference: NDArray[np.bool_], candidate: NDArray[np.bool_], *, confidence: float = 0.95) -> Drop:
    """The drop from a reference to a candidate on the same samples, and its one-sided upper confidence bound.

    The bound is the score interval of Tango, 1998 (Statistics in Medicine 17, 891-908): those differences are kept
    that a score test does not reject, with the nuisance parameter at its likeliest value under each. It holds its
    confidence in small samples and where no sample is decided differently, unlike mean and standard error.

    Args:
        reference: whether each sample is right, (n,).
        candidate: the same of the candidate.
        confidence: of the bound, at least 0.5 and below 1.

    Raises:
        EbbtideError: ``sparsity.budget`` for no samples, different numbers of them, or a confidence out of range.
    """
    if reference.shape != candidate.shape or reference.ndim != 1 or not len(reference) or not 0.5 <= confidence < 1.0:
        raise EbbtideError(
            "sparsity.budget",
            "Two classifiers cannot be compared in this way.",
            expected="right or wrong for each of the same samples, one or more, and a confidence from 0.5 to below 1",
            found=f"{reference.shape} and {candidate.shape} samples, confidence {confidence:g}",
        )
    lost = int((reference & ~candidate).sum())
    won = int((candidate & ~reference).sum())
    count = len(reference)
    bound = upper_bound(lost, won, count, confidence=confidence)
    return Drop(count, lost, won, 100.0 * (lost - won) / count, 100.0 * bound, confidence)


def upper_bound(lost: int, won: int, count: int, *, confidence: float) -> float:
    """The largest difference of two paired shares that a one-sided score test does not reject, -1..1.

    Args:
        lost, won: samples that speak for and against a difference.
        count: all samples.
        confidence: of the bound.
    """
    critical = NormalDist().inv_cdf(confidence)
    low, high = (lost - won) / count, 1.0
    # The statistic falls as the difference grows.
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _statistic(lost, won, count, middle) >= -critical:
            low = middle
        else:
            high = middle
    return high


def _statistic(lost: int, won: int, count: int, difference: float) -> float:
    """Tango's score statistic of a difference."""
    # The likeliest share of samples that speak against it solves a x^2 + b x + c = 0.
    a = 2.0 * count
    b = (2.0 * count - lost + won) * difference - lost - won
    c = -won * difference * (1.0 - difference)
    against = (math.sqrt(max(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)
    variance = count * (2.0 * against + difference * (1.0 - difference))
    distance = lost - won - count * difference
    if variance <= 0.0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)
