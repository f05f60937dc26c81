"""What a prediction gives back: the answer, and where, how and why it was found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
    the result, so it is more than the sum of the others by what the session itself took. `server_us` is what was spent
    on asking a server, in vain or not.
    """

    preprocess_us: float
    methods: tuple[tuple[str, float], ...]
    total_us: float
    server_us: float = 0.0

    @property
    def methods_us(self) -> float:
        """The sum of the calls."""
        return sum(time for _, time in self.methods)

    @property
    def session_us(self) -> float:
        """What the session took around preprocessing, calls and the server."""
        return self.total_us - self.preprocess_us - self.methods_us - self.server_us


@dataclass(frozen=True, slots=True)
class Served:
    """What became of the steps that a server may run: `answered` there, or run here, and then `reason` says why.

    `spent_us` is the time from the question to the answer or to giving up, 0 if the server was not asked.
    """

    answered: bool
    reason: str | None
    spent_us: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A frame's place in its stream; see `ebbtide.runtime.streams.Stream`.

    `number` counts scenes and `frame` the frames of this one, from 0. `stopped` says that the frame was like the
    scene's first one and repeats its answer. `distance` is the frame's from the first one at the exit that is watched
    and `threshold` what it was held against, None where nothing was compared; `reason` says why it stopped or did not.
    """

    number: int
    frame: int
    stopped: bool
    distance: float | None
    threshold: float | None
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A prediction.

    `label` indexes the bundle's classes and is that of the largest logit, the lowest one of equals. `confidence` is the
    log-odds of the best class after temperature. `position` is that of the exit or head at which the path was left,
    `left_at` its ``program/method``. `outside` says that the input seems to belong to none of the classes, None if the
    bundle has no rule for that. `configuration`, `tier` and `reason` are those in force when the prediction began.
    `served` is None unless the prediction came to steps that a server may run, `scene` unless it is a stream's frame.
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
    served: Served | None = None
    scene: Scene | None = None

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
        more = {"served": self.served, "scene": self.scene}
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
            **{name: asdict(value) for name, value in more.items() if value is not None},
        }
