"""Choosing a stream's settings: frames are recorded once with every exit run, then rules are replayed exactly.

The candidates are both mechanisms, each with thresholds between the mean distance of frames of one scene and the mean
distance across a change of scene, on a grid (50 steps, as published), the same share of the way at every exit. Each is
scored sample by sample with the rule that runs later, and the cheapest one whose accuracy is within a limit of that
without a stream is chosen. The published choice between the mechanisms, by how good the exits are, is not needed then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ebbtide.engine import Array
from ebbtide.errors import EbbtideError
from ebbtide.runtime.scenes import (
    Mechanism,
    Reference,
    StreamSettings,
    compare,
    distance_between,
    reference_of,
)
from ebbtide.runtime.session import Session
from ebbtide.steps import Progress, silent

_GRID = 50


@dataclass(frozen=True, eq=False)
class StreamRecords:
    """What every exit and the head of a configuration put out for each of n frames.

    `leaves` are the exits (in order) and last the head, by ``program/method``; `thresholds` the confidences above which
    an exit is left, None for the head; `macs` of a frame that is left there, int64 (E + 1,); `logits` float32
    (E + 1, n, classes); `confidences` float32 (E + 1, n); `scenes` int64 (n,): equal for frames that show one thing;
    `truth` int64 (n,).
    """

    configuration: str
    leaves: tuple[str, ...]
    thresholds: tuple[float | None, ...]
    macs: npt.NDArray[np.int64]
    logits: Array
    confidences: Array
    scenes: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Replay:
    """What a rule makes of recorded frames: `labels`, `left` (index into `leaves`) and `stopped` of each, (n,)."""

    labels: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    stopped: npt.NDArray[np.bool_]
    accuracy: float
    mean_macs: float


@dataclass(frozen=True)
class Candidate:
    """Settings with the accuracy and mean MACs that the recorded frames give, and the share of frames stopped."""

    settings: StreamSettings
    accuracy: float
    mean_macs: float
    stopped: float


@dataclass(frozen=True)
class StreamChoice:
    """The cheapest settings within the limit, None if there are none and `reason` says why; all candidates; and what
    the configuration gives without a stream.
    """

    settings: StreamSettings | None
    reason: str
    candidates: tuple[Candidate, ...]
    accuracy_without: float
    mean_macs_without: float


def record_stream(
    session: Session,
    frames: Iterable[Any],
    *,
    scenes: npt.NDArray[np.int64],
    truth: npt.NDArray[np.int64],
    progress: Progress = silent,
) -> StreamRecords:
    """Run every exit and the head of the configuration in force on each frame, here, whatever their thresholds.

    Args:
        session: its configuration must have an exit.
        frames: what `Session.predict` takes, in order; see `ebbtide.runtime.stream_frames`.
        scenes: equal for neighbours that show one thing, int64 (n,).
        truth: the classes, int64 (n,).
        progress: shows the frames.

    Raises:
        EbbtideError: ``runtime.stream`` without an exit or if the lengths differ, and what a prediction raises.
    """
    from ebbtide.data import preprocess
    from ebbtide.runtime.pixels import pixels_of

    with session.pinned() as configuration:
        leaves = [step for step in configuration.steps if not step.is_stage]
        if len(leaves) < 2:
            raise _refused(f"Configuration {configuration.id} has no exit to watch.", "a configuration with an exit")
        logits: list[list[Array]] = []
        confidences: list[list[float]] = []
        with progress.task(f"recording {configuration.id}", len(truth)) as task:
            for frame in frames:
                tensor = preprocess(pixels_of(frame, session.input), session.input)[None]
                outputs = []
                for step in configuration.steps:
                    found = step.run(step.method, tensor)
                    if step.is_stage:
                        tensor = found[0]
                    else:
                        outputs.append(found)
                confidences.append([one[1].item() for one in outputs])
                logits.append([one[2].reshape(-1) for one in outputs])
                task.advance()
    if not len(logits) == len(scenes) == len(truth) or not logits:
        raise _refused(
            f"There are {len(logits)} frames, {len(scenes)} scenes, {len(truth)} classes.", "as many of each"
        )
    return StreamRecords(
        configuration=configuration.id,
        leaves=tuple(step.reference for step in leaves),
        thresholds=tuple(step.threshold for step in leaves),
        macs=np.array([step.macs for step in leaves], dtype=np.int64),
        logits=np.array(logits, dtype=np.float32).transpose(1, 0, 2),
        confidences=np.array(confidences, dtype=np.float32).T,
        scenes=np.asarray(scenes, dtype=np.int64),
        truth=np.asarray(truth, dtype=np.int64),
    )


def replay(records: StreamRecords, settings: StreamSettings | None) -> Replay:
    """What a stream with these settings gives for recorded frames; None for no stream. Equal to a `Stream`, frame by
    frame.
    """
    count = len(records.truth)
    labels, left = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    stopped = np.zeros(count, dtype=np.bool_)
    reference: Reference | None = None
    for frame in range(count):
        passed: list[tuple[str, Array]] = []
        for index, (name, threshold) in enumerate(zip(records.leaves, records.thresholds, strict=True)):
            logits = records.logits[index, frame]
            if threshold is not None:
                passed.append((name, logits))
                compared = None if settings is None or reference is None else compare(settings, reference, name, logits)
                if compared is not None and compared.stops and reference is not None:
                    stopped[frame], labels[frame], left[frame] = True, reference.label, index
                    break
            if threshold is None or records.confidences[index, frame] > threshold:
                labels[frame], left[frame] = int(logits.argmax()), index
                break
        if settings is not None and not stopped[frame]:
            reference = reference_of(settings, int(labels[frame]), passed)
    accuracy = float((labels == records.truth).mean())
    return Replay(labels, left, stopped, accuracy, float(records.macs[left].mean()))


def choose(records: StreamRecords, *, max_drop_points: float = 1.0) -> StreamChoice:
    """The cheapest settings whose accuracy on the recorded frames is within a limit of that without a stream.

    Record frames of *select* for it: the accuracy of what is chosen is a promise, as everything on select.

    Args:
        records: see `record_stream`.
        max_drop_points: percentage points that accuracy may fall, >= 0.

    Raises:
        EbbtideError: ``runtime.stream`` if the limit is negative, or the frames have one scene only or none of two.
    """
    if not max_drop_points >= 0:
        raise _refused(f"{max_drop_points} is no loss to allow.", "points, 0 or more")
    without = replay(records, None)
    spans = _spans(records)
    mechanisms: tuple[Mechanism, ...] = ("difference", "patience") if spans else ()
    shares = [float(share) for share in np.linspace(0, 1, _GRID)]
    candidates = [_scored(records, mechanism, spans, share) for mechanism in mechanisms for share in shares]
    floor = without.accuracy - max_drop_points / 100
    good = [one for one in candidates if one.accuracy >= floor and one.mean_macs < without.mean_macs]
    if not good:
        reason = "no setting is cheaper within the limit" if spans else "no exit tells scenes from noise"
        return StreamChoice(None, reason, tuple(candidates), without.accuracy, without.mean_macs)
    best = min(good, key=lambda one: (one.mean_macs, -one.accuracy))
    reason = f"the cheapest within {max_drop_points:g} points"
    return StreamChoice(best.settings, reason, tuple(candidates), without.accuracy, without.mean_macs)


def _scored(
    records: StreamRecords, mechanism: Mechanism, spans: dict[str, tuple[float, float]], share: float
) -> Candidate:
    settings = StreamSettings(
        mechanism, {name: within + share * (across - within) for name, (within, across) in spans.items()}
    )
    found = replay(records, settings)
    return Candidate(settings, found.accuracy, found.mean_macs, float(found.stopped.mean()))


def _spans(records: StreamRecords) -> dict[str, tuple[float, float]]:
    """For every exit that tells them apart: the mean distances of frames from the first one of their scene, and of
    first frames from that of the scene before.
    """
    firsts = np.flatnonzero(np.r_[True, records.scenes[1:] != records.scenes[:-1]])
    first_of = firsts[np.searchsorted(firsts, np.arange(len(records.scenes)), side="right") - 1]
    others = np.flatnonzero(first_of != np.arange(len(records.scenes)))
    if len(firsts) < 2 or not len(others):
        raise _refused(f"The frames have {len(firsts)} scenes.", "two scenes or more, with more than one frame each")
    spans = {}
    for index, name in enumerate(records.leaves[:-1]):
        rows = records.logits[index]
        within = float(np.mean([distance_between(rows[one], rows[first_of[one]]) for one in others]))
        across = float(np.mean([distance_between(rows[a], rows[b]) for a, b in zip(firsts[1:], firsts, strict=False)]))
        if 0 < within < across:
            spans[name] = (within, across)
    return spans


def _refused(message: str, expected: str) -> EbbtideError:
    return EbbtideError("runtime.stream", message, expected=expected, place="records")
