"""What a prediction gives back: the answer, and where, how and why it was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ebbtide.engine import Array


@dataclass(frozen=True, slots=True)
class Ranked:
    """One class of the best few: its index, its name and its probability, 0 to 1."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Times:
    """Wall clock of one prediction in microseconds.

    `methods` are the calls that were made, in order, by ``program/method``; `total_us` is everything from the image to
    the result, so it is more than the sum of the others by what the session itself took.
    """

    preprocess_us: float
    methods: tuple[tuple[str, float], ...]
    total_us: float

    @property
    def methods_us(self) -> float:
        """The sum of the calls."""
        return sum(time for _, time in self.methods)

    @property
    def session_us(self) -> float:
        """What the session took around preprocessing and calls."""
        return self.total_us - self.preprocess_us - self.methods_us


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A prediction.

    `label` indexes the bundle's classes and is that of the largest logit, the lowest one of equals. `confidence` is the
    log-odds of the best class after temperature. `position` is that of the exit or head at which the path was left,
    `left_at` its ``program/method``. `outside` says that the input seems to belong to none of the classes, None if the
    bundle has no rule for that. `configuration`, `tier` and `reason` are those in force when the prediction began.
    Arrays: `probabilities` and `logits`, float32 (classes,), in their own memory.
    """

    label: int
    class_name: str
    confidence: float
    probabilities: Array
    logits: Array
    position: int
    left_at: str
    outside: bool | None
    configuration: str
    tier: int | None
    reason: str
    times: Times
    classes: tuple[str, ...]

    @property
    def probability(self) -> float:
        """The probability of the label, 0 to 1."""
        return float(self.probabilities[self.label])

    def top(self, count: int = 5) -> tuple[Ranked, ...]:
        """The best `count` classes (fewer if there are fewer), best first, equal ones by their index."""
        order = np.argsort(-self.logits, kind="stable")[: max(count, 0)]
        return tuple(Ranked(int(i), self.classes[i], float(self.probabilities[i])) for i in order)

    def to_json(self, *, top: int = 5) -> dict[str, Any]:
        """The result as JSON values, with the best `top` classes in place of the arrays."""
        return {
            "label": self.label,
            "class": self.class_name,
            "confidence": self.confidence,
            "top": [{"label": r.label, "class": r.name, "probability": r.probability} for r in self.top(top)],
            "position": self.position,
            "left_at": self.left_at,
            "outside": self.outside,
            "configuration": self.configuration,
            "tier": self.tier,
            "reason": self.reason,
            "times": {
                "preprocess_us": self.times.preprocess_us,
                "methods_us": dict(self.times.methods),
                "total_us": self.times.total_us,
            },
        }
