"""Frames of a camera, one after another: a frame that is like the one before repeats its answer and costs one exit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ebbtide.bundle.manifest import Manifest
from ebbtide.engine import Array
from ebbtide.runtime.configuration import Configuration, Step, Watch
from ebbtide.runtime.result import Result, Scene
from ebbtide.runtime.scenes import Comparison, Reference, StreamSettings, compare, reference_of


class Predictor(Protocol):
    """What a stream runs on: a `Session` or an `AdaptiveSession`."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        ...

    def predict(self, image: Any, *, watch: Watch | None = None) -> Result:
        """As `Session.predict`."""
        ...

    def predict_tensor(self, tensor: Array, *, watch: Watch | None = None) -> Result:
        """As `Session.predict_tensor`."""
        ...


@dataclass(frozen=True, slots=True)
class _SceneState:
    """The scene that frames are held against: its first frame's reference and answer, and where it was computed."""

    number: int
    configuration: str
    reference: Reference
    answer: Result
    frames: int


class Stream:
    """One camera's frames, in order, on a session. Off unless an application makes one.

    A stopped frame repeats the answer of its scene's first frame: label, probabilities, confidence, logits and outside
    are that frame's; `left_at`, `position` and times are its own, and `scene` says all of it. So the worst that the
    rule can do is to repeat an answer too long, and it never mixes two. Exits that a server runs are not watched.

    A scene belongs to the configuration that answered its first frame: after a switch the next frame is predicted in
    full and begins another one, since exits of other widths say other things. If a prediction fails, the scene stays.

    Frames have an order, so `predict` lets one in at a time, in the order in which its threads come to the stream's
    lock; `reset` waits for it. Streams of several cameras on one session do not know of each other and run side by
    side. The session may be used beside its streams and switched at any time.

    Args:
        session: what predicts; the caller closes it.
        settings: the rule and its thresholds, for the exits of this bundle.

    Raises:
        EbbtideError: ``runtime.stream`` if the bundle has no such exit.
    """

    def __init__(self, session: Predictor, settings: StreamSettings) -> None:
        settings.check(session.manifest)
        self._session, self._settings = session, settings
        self._lock = threading.Lock()
        self._scene: _SceneState | None = None
        self._scenes = 0

    @property
    def settings(self) -> StreamSettings:
        """The rule and its thresholds."""
        return self._settings

    def reset(self) -> None:
        """Forget the scene, so that the next frame is predicted in full: the camera was moved, or its user changed.

        Scenes are counted from 0 again.
        """
        with self._lock:
            self._scene, self._scenes = None, 0

    def predict(self, image: Any) -> Result:
        """Classify the next frame; takes and raises what `Session.predict` does."""
        return self._next(self._session.predict, image)

    def predict_tensor(self, tensor: Array) -> Result:
        """Classify the next frame, preprocessed already; takes and raises what `Session.predict_tensor` does."""
        return self._next(self._session.predict_tensor, tensor)

    def _next(self, predict: Callable[..., Result], value: Any) -> Result:
        with self._lock:
            frame = _Frame(self._settings, self._scene)
            result = predict(value, watch=frame)
            scene, compared = frame.scene, frame.compared
            if scene is not None and compared is not None and compared.stops:
                self._scene = replace(scene, frames=scene.frames + 1)
                return _repeated(result, scene, compared)
            reference = reference_of(self._settings, result.label, frame.passed)
            # The caller may write to the arrays of its result.
            kept = replace(result, probabilities=result.probabilities.copy(), logits=result.logits.copy())
            self._scene = _SceneState(self._scenes, result.configuration, reference, kept, 1)
            self._scenes += 1
            return replace(
                result,
                scene=Scene(
                    number=self._scene.number,
                    frame=0,
                    stopped=False,
                    distance=None if compared is None else compared.distance,
                    threshold=None if compared is None else compared.threshold,
                    reason=frame.reason,
                ),
            )


class _Frame:
    """One frame on its way along a path; ends it where it is like its scene. Used for one prediction."""

    def __init__(self, settings: StreamSettings, scene: _SceneState | None) -> None:
        self._settings = settings
        self.scene = scene
        self.passed: list[tuple[str, Array]] = []
        self.compared: Comparison | None = None
        self.reason = "no frame before"

    def begin(self, configuration: Configuration) -> None:
        """See `Watch`."""
        if self.scene is None:
            return
        if self.scene.configuration != configuration.id:
            self.reason = f"the configuration changed from {self.scene.configuration}"
            self.scene = None
        elif self.scene.reference.exit is None:
            self.reason = "no exit to watch"
        else:
            self.reason = f"left before {self.scene.reference.exit}"

    def ends_at(self, step: Step, logits: Array) -> bool:
        """See `Watch`."""
        self.passed.append((step.reference, logits))
        if self.scene is None:
            return False
        compared = compare(self._settings, self.scene.reference, step.reference, logits)
        if compared is None:
            return False
        self.compared, self.reason = compared, compared.reason
        return compared.stops


def _repeated(result: Result, scene: _SceneState, compared: Comparison) -> Result:
    """The scene's answer with a stopped frame's own place and times."""
    answer = scene.answer
    return replace(
        result,
        label=answer.label,
        class_name=answer.class_name,
        confidence=answer.confidence,
        probabilities=answer.probabilities.copy(),
        logits=answer.logits.copy(),
        outside=answer.outside,
        scene=Scene(
            number=scene.number,
            frame=scene.frames,
            stopped=True,
            distance=compared.distance,
            threshold=compared.threshold,
            reason=compared.reason,
        ),
    )
