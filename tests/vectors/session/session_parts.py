"""What cases are made of: float32 numbers, recorded outputs, paths and expectations."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

LARGEST = 3.4028234663852886e38
SMALLEST = 2.0**-149
NAN, INF = math.nan, math.inf

Sample = dict[str, Any]


def float32(value: float) -> float:
    """The float32 nearest to a number, as a double."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


def beside(value: float, ulps: int) -> float:
    """The float32 so many steps above (or below) another one; not across zero."""
    bits = struct.unpack("<i", struct.pack("<f", value))[0]
    moved: float = struct.unpack("<f", struct.pack("<i", bits + ulps * (1 if value > 0 else -1)))[0]
    return moved


def softmax(logits: Sequence[float]) -> list[float]:
    peak = max(logits)
    shares = [math.exp(logit - peak) for logit in logits]
    return [float32(share / sum(shares)) for share in shares]


def log_odds(logits: Sequence[float]) -> float:
    """The best logit minus the log of the sum of exponentials of the others."""
    best = max(range(len(logits)), key=logits.__getitem__)
    others = [logit for index, logit in enumerate(logits) if index != best]
    peak = max(others)
    return float32(logits[best] - peak - math.log(sum(math.exp(logit - peak) for logit in others)))


def energy(logits: Sequence[float]) -> float:
    """Not a number where the largest logit is infinite, as the formula gives it in every language."""
    peak = max(logits)
    return NAN if math.isinf(peak) else -(peak + math.log(sum(math.exp(logit - peak) for logit in logits)))


def output(
    step: int, confidence: float, logits: Sequence[float], probabilities: Sequence[float] | None = None
) -> dict[str, Any]:
    """What an exit or the head put out; plain logits have their own softmax."""
    return {
        "step": step,
        "probabilities": softmax(logits) if probabilities is None else [float(share) for share in probabilities],
        "confidence": confidence,
        "logits": list(logits),
    }


def expected(step: int, position: int, label: int, confidence: float, outside: bool | None = None) -> dict[str, Any]:
    return {"step": step, "position": position, "label": label, "confidence": confidence, "outside": outside}


def path(*steps: str | tuple[str, int] | tuple[str, int, float]) -> list[dict[str, Any]]:
    """Stages by name; the head or a whole model with its position; exits with position and threshold."""
    made: list[dict[str, Any]] = []
    for step in steps:
        if isinstance(step, str):
            made.append({"method": f"w100-f32-cpu/{step}", "kind": "stage"})
        else:
            kind = "exit" if len(step) == 3 else "model" if step[0] == "forward" else "head"
            made.append({"method": f"w100-f32-cpu/{step[0]}", "kind": kind, "position": step[1]})
            if len(step) == 3:
                made[-1]["threshold"] = step[2]
    return made


def telling(steps: list[dict[str, Any]], *thresholds: float) -> list[dict[str, Any]]:
    """A path whose exits and head, in their order, tell what is outside above these scores."""
    left = iter(thresholds)
    return [step if step["kind"] == "stage" else {**step, "outside": next(left)} for step in steps]


def one_exit(threshold: float) -> list[dict[str, Any]]:
    return path("stage0", ("exit0", 0, threshold), "stage1", ("head", 2))


# Of the one exit, label 2; of the head, label 0: so a wrong turn shows in every field.
EARLY, LATE = (0.5, -1.0, 1.25), (3.0, 0.0, -2.5)


def turn(confidence: float, *, leaves: bool, head: float = 4.0) -> Sample:
    """A sample of `one_exit` by what its exit is sure of."""
    return {
        "outputs": [output(1, confidence, EARLY), output(3, head, LATE)],
        "expected": expected(1, 0, 2, confidence) if leaves else expected(3, 2, 0, head),
    }


def case(
    name: str, why: str, steps: list[dict[str, Any]], samples: list[Sample], outside: str | None = None
) -> dict[str, Any]:
    return {"name": name, "why": why, "classes": 3, "path": steps, "outside": outside, "samples": samples}
