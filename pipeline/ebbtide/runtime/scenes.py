"""When a frame of a stream is like the one before it: difference detection and temporal patience, as a plain rule.

Both hold a frame against the first frame of its scene by what an exit puts out before its softmax, since logits carry
more of a change than probabilities: ``||logits - first||_2 < threshold``, in double precision, strictly.

* ``difference`` (difference detection) watches the first exit of the path and stops a frame that is like the first one.
* ``patience`` (temporal patience) watches the earliest exit that agreed with the scene's label, and stops a frame there
  only if its label is that of the scene, too.

A frame that is not stopped is predicted as it would be without a stream, and begins a new scene with a reference of its
own, whatever it turns out to be. (In the published evaluations the reference stays that of the first scene.)

Sponner et al., Temporal Patience (arXiv 2309.05686) and Temporal Decisions (arXiv 2403.07958).
The thresholds of early exits hold beside this rule: a frame may be unlike the one before and still leave early.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ebbtide.bundle.manifest import Manifest
from ebbtide.engine import Array
from ebbtide.errors import EbbtideError
from ebbtide.runtime.configuration import method_entries

Mechanism = Literal["difference", "patience"]


@dataclass(frozen=True)
class StreamSettings:
    """Which rule, and how far a frame may be from the first one of its scene.

    Args:
        mechanism: ``difference`` or ``patience``.
        thresholds: distances between logits by exit (``program/method``), each > 0. Exits without one are not watched.

    Raises:
        EbbtideError: ``runtime.stream``.
    """

    mechanism: Mechanism
    thresholds: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.mechanism not in get_args(Mechanism):
            raise _refused(f"There is no mechanism {self.mechanism!r}.", expected=", ".join(get_args(Mechanism)))
        for exit_name, threshold in self.thresholds.items():
            if type(threshold) not in (int, float) or not (math.isfinite(threshold) and threshold > 0):
                raise _refused(
                    f"{threshold!r} is no distance.", expected="a finite number above 0", place=str(exit_name)
                )

    def check(self, manifest: Manifest) -> None:
        """Refuse exits that a bundle does not have.

        Raises:
            EbbtideError: ``runtime.stream``.
        """
        exits = [name for name, method in method_entries(manifest).items() if method.kind == "exit"]
        for name in self.thresholds:
            if name not in exits:
                raise _refused(
                    f"The bundle has no exit {name!r}.", expected=f"one of {', '.join(exits) or 'none'}", place=name
                )

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values; `read_settings` reads a file of them."""
        return {"mechanism": self.mechanism, "thresholds": dict(self.thresholds)}


def read_settings(path: Path) -> StreamSettings:
    """Settings from a JSON file: ``{"mechanism": "difference", "thresholds": {"w100-f32-cpu/exit0": 3.1}}``.

    Raises:
        EbbtideError: ``runtime.stream``.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        mechanism, thresholds = found["mechanism"], found["thresholds"]
        if found.keys() != {"mechanism", "thresholds"} or not isinstance(thresholds, dict):
            raise ValueError("it has other keys")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refused(
            f"The settings cannot be read: {error}.", expected="the keys mechanism and thresholds", place=str(path)
        ) from error
    return StreamSettings(mechanism, thresholds)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A frame held against its scene at an exit: the distance, the threshold, and whether the frame stops there."""

    distance: float
    threshold: float
    stops: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Reference:
    """The first frame of a scene: the exit that is watched, what it put out, and the scene's label.

    `exit` is None where no exit can be watched; then every frame is predicted in full.
    """

    exit: str | None
    logits: Array
    label: int


def compare(settings: StreamSettings, reference: Reference, exit_name: str, logits: Array) -> Comparison | None:
    """Hold a frame against the first one of its scene, at an exit that it passes.

    Returns:
        None if another exit is watched. A distance that is not a number stops nothing.
    """
    if exit_name != reference.exit:
        return None
    threshold = settings.thresholds[exit_name]
    distance = distance_between(logits, reference.logits)
    if not distance < threshold:
        return Comparison(distance, threshold, False, "unlike the first frame")
    if settings.mechanism == "patience" and int(logits.argmax()) != reference.label:
        return Comparison(distance, threshold, False, "another label")
    return Comparison(distance, threshold, True, "like the first frame")


def reference_of(settings: StreamSettings, label: int, passed: Sequence[tuple[str, Array]]) -> Reference:
    """The reference that a frame becomes that was predicted in full.

    Args:
        settings: the rule.
        label: what was answered.
        passed: exits that the frame passed or left at, in order, with their logits, which are copied.
    """
    for name, logits in passed:
        if name not in settings.thresholds:
            continue
        if settings.mechanism == "difference" or int(logits.argmax()) == label:
            return Reference(name, logits.copy(), label)
    return Reference(None, np.empty(0, dtype=np.float32), label)


def distance_between(logits: Array, others: Array) -> float:
    """The Euclidean distance of two rows of logits, in double precision."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.sqrt(np.square(logits.astype(np.float64) - others.astype(np.float64)).sum()))


def _refused(message: str, *, expected: str, place: str | None = None) -> EbbtideError:
    return EbbtideError(
        "runtime.stream",
        message,
        expected=expected,
        hint="`ebbtide.runtime.stream_choice.choose` finds settings from recorded frames",
        place=place,
    )
