"""What an answer says: the class, and whether the input seems to belong to none of the classes.

The score is taken where the path was left, at that exit or head: what it put out is the answer, and nothing else was
computed. Each exit and head of a configuration has a threshold of its own, since their scores have different scales
and different inputs come to them.
"""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np
import numpy.typing as npt

from ebbtide.bundle.manifest import OutsideEntry
from ebbtide.runtime.configuration import Visit

ScoreName = Literal["energy", "confidence"]


def answer(visit: Visit, rule: OutsideEntry | None) -> tuple[int, bool | None]:
    """What the outputs at which a path was left say.

    Args:
        visit: where it was left, and with what.
        rule: the bundle's; None if it has none.

    Returns:
        The index of the largest logit, the lowest one of equals; and whether the score lies above the threshold of that
        step, None without a rule. A score that is not a number is above no threshold.
    """
    label, threshold = int(visit.logits.argmax()), visit.step.outside
    if rule is None or threshold is None:
        return label, None
    return label, strangeness(rule.score, visit.logits, visit.confidence) > threshold


def strangeness(score: ScoreName, logits: npt.NDArray[np.float32], confidence: float) -> float:
    """How little an input looks like one of the classes; higher is stranger.

    Args:
        score: ``energy`` of the logits, or ``confidence``: the log-odds of the best class after temperature, negated
            (Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples, ICLR 2017,
            section 3, in log-odds instead of probabilities, which order the same).
        logits: (classes,).
        confidence: of the same output.
    """
    match score:
        case "energy":
            return energy(logits)
        case "confidence":
            return -confidence
        case _ as unknown:
            assert_never(unknown)


def energy(logits: npt.NDArray[np.float32]) -> float:
    """The energy score of an input, ``-log(sum(exp(logits)))`` in double precision; higher is stranger.

    Not a number where a logit is, or where the largest is infinite. Liu et al., Energy-based Out-of-distribution
    Detection, NeurIPS 2020, equation 4 with temperature 1.
    """
    wide = logits.astype(np.float64)
    peak = float(wide.max())
    with np.errstate(invalid="ignore"):
        return -(peak + float(np.log(np.exp(wide - peak).sum())))
