"""When an answer is "outside": thresholds on a strangeness score, chosen from the class set's samples of *select*.

The score is taken where the path was left. Exits and head have scores of different scales, and different samples come
to them, so each place has its own threshold: scores are measured in standard deviations from the mean that the class
set's samples have at that place, and one cut on that common scale serves all places of a configuration. It is the
lowest cut at which at most the wanted share of the class set's samples is answered outside. Samples of other classes
take no part in the choice (but for the distance that thresholds keep from them); what is caught of them is measured.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.search.thresholds import GAP

_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Strangeness:
    """What a configuration said of n samples: where each was answered, and how strange it looked there.

    Attributes:
        places: (n,) row of the exit or head at which each sample was answered.
        scores: (n,) float64, higher is stranger; not a number counts as not strange at all.
    """

    places: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Scales:
    """The scale of each place: mean and standard deviation, (P + 1,) float64, of the class set's scores there."""

    means: NDArray[np.float64]
    deviations: NDArray[np.float64]

    @classmethod
    def of(cls, scores: NDArray[np.float64]) -> Scales:
        """From the scores (P + 1, n) of the class set's samples at every place, wherever they are answered.

        Where all are equal the deviation is taken as 1.
        """
        finite = np.where(np.isfinite(scores), scores, np.nan)
        means = np.array([np.nanmean(row) if np.isfinite(row).any() else 0.0 for row in finite])
        spread = np.array([np.nanstd(row) if np.isfinite(row).any() else 0.0 for row in finite])
        return cls(means, np.where(spread > 0.0, spread, 1.0))

    def common(self, found: Strangeness) -> NDArray[np.float64]:
        """Scores in standard deviations from the mean of their place, (n,); always numbers."""
        values = (found.scores - self.means[found.places]) / self.deviations[found.places]
        return np.nan_to_num(values, nan=-_MOST, posinf=_MOST, neginf=-_MOST)

    def thresholds(self, cut: float) -> NDArray[np.float32]:
        """The score at each place that a cut on the common scale means, (P + 1,) float32."""
        return np.clip(self.means + cut * self.deviations, -_MOST, _MOST).astype(np.float32)


@dataclass(frozen=True)
class Rates:
    """How well outside and inside are told apart.

    Attributes:
        inside, outside: how many samples of the class set and of other classes.
        false_outside: share, 0..1, of the class set's samples that are answered outside.
        false_inside: share of the other classes' samples that are answered with a class; None without any.
        auroc: probability that a sample of another class looks stranger than one of the class set, on the common
            scale; None without samples of other classes.
    """

    inside: int
    outside: int
    false_outside: float
    false_inside: float | None
    auroc: float | None

    def to_json(self) -> dict[str, float | int | None]:
        """The same as JSON values."""
        return asdict(self)


def is_outside(found: Strangeness, thresholds: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which samples are answered outside, exactly as every runtime compares: (n,).

    Args:
        found: where and how strange.
        thresholds: (P + 1,) float32, by place.
    """
    above: NDArray[np.bool_] = found.scores > thresholds.astype(np.float64)[found.places]
    return above


def choose_outside(
    inside: Strangeness, others: Strangeness | None, scales: Scales, *, false_outside: float, gap: float = GAP
) -> NDArray[np.float32]:
    """Thresholds (P + 1,), by place, of the lowest cut that answers at most a share of the class set outside.

    Cuts lie in the middle between neighbouring recorded scores, and no recorded score lies within half of `gap` of the
    threshold of its place, so that back ends which differ by less give every recorded sample the same answer.

    Args:
        inside: the class set's samples of select.
        others: samples of other classes of select, if there are any; they only keep thresholds at a distance.
        scales: of the class set's samples of select.
        false_outside: the share, 0..1, that may be answered outside by mistake.
        gap: in units of the score.

    Raises:
        EbbtideError: ``search.outside`` if there are no samples, or the share is not in [0, 1).
    """
    if not len(inside) or not 0.0 <= false_outside < 1.0:
        raise EbbtideError(
            "search.outside",
            "A threshold for what is outside cannot be chosen.",
            expected="samples of the class set, and a share of at least 0 and below 1",
            found=f"{len(inside)} samples and {false_outside}",
        )
    recorded = inside if others is None else _together(inside, others)
    values = np.unique(np.concatenate([scales.common(inside), *([] if others is None else [scales.common(others)])]))
    middles = (values[:-1] + values[1:]) / 2
    # Above everything, nothing is outside: it always keeps within the share.
    cuts = np.append(middles, min(values[-1] + 1.0, _MOST))
    allowed = int(np.floor(false_outside * len(inside) + 1e-9))
    # So many may lie above the cut, so it lies above the next one.
    lowest = np.sort(scales.common(inside))[len(inside) - 1 - allowed]
    for cut in cuts[np.searchsorted(cuts, lowest) :]:
        thresholds = scales.thresholds(float(cut))
        distances = np.abs(recorded.scores - thresholds.astype(np.float64)[recorded.places])
        near = bool((distances[np.isfinite(distances)] < gap / 2).any())
        if not near and int(is_outside(inside, thresholds).sum()) <= allowed:
            return thresholds
    return scales.thresholds(_MOST)


def rates(inside: Strangeness, others: Strangeness | None, thresholds: NDArray[np.float32], scales: Scales) -> Rates:
    """What thresholds do on any split.

    Args:
        inside: samples of the class set, at least one.
        others: samples of other classes, if there are any.
        thresholds: (P + 1,), from `choose_outside`.
        scales: those they were chosen with.
    """
    false_outside = float(is_outside(inside, thresholds).mean())
    if others is None or not len(others):
        return Rates(len(inside), 0, false_outside, None, None)
    from sklearn.metrics import roc_auc_score

    truth = np.concatenate([np.zeros(len(inside), np.int64), np.ones(len(others), np.int64)])
    found = np.concatenate([scales.common(inside), scales.common(others)])
    return Rates(
        inside=len(inside),
        outside=len(others),
        false_outside=false_outside,
        false_inside=float((~is_outside(others, thresholds)).mean()),
        auroc=float(roc_auc_score(truth, found)),
    )


def _together(one: Strangeness, other: Strangeness) -> Strangeness:
    return Strangeness(np.concatenate([one.places, other.places]), np.concatenate([one.scores, other.scores]))
