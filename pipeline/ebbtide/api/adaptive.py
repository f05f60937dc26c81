"""``ebb run --adaptive``: predict while the policy chooses the tier, by this machine's signals or by a recording's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.errors import EbbtideError
from ebbtide.steps import Progress, silent

if TYPE_CHECKING:
    from ebbtide.api import Prediction
    from ebbtide.runtime import Inputs, Session
    from ebbtide.runtime.policy import Signals


def run_adaptive(
    bundle: Path,
    source: Path,
    *,
    signals: Path | None = None,
    decisions: Path | None = None,
    configuration: str | None = None,
    top: int = 3,
    trusted: Sequence[Path] | None = None,
    server: str | None = None,
    stream: Path | None = None,
    progress: Progress = silent,
) -> list[Prediction]:
    """Predict an image, a folder of images or an .npz with an adaptive session.

    Without a recording, this machine's signals are read as in an application: once before the first prediction, then
    every 5 s. With one, each prediction is preceded by the next reading of the recording, and time is the recording's,
    so that hours of it pass in seconds and the policy decides exactly as it did. The inputs are taken round and round
    until the recording ends; inputs that are left over are predicted under its last decision.

    Args:
        bundle: a bundle's folder.
        source: of the inputs.
        signals: a recording, see `ebbtide.runtime.signals.recorded`; None for this machine.
        decisions: a file that gets a JSON line for every decision, see `ebbtide.runtime.decision_log`.
        configuration: the one before the first decision; None for the first tier.
        top: how many classes each prediction shows.
        trusted: public keys; None for this machine's development key.
        server: the address of an `ebb serve` of the same bundle.
        stream: a file of settings; the inputs are then the frames of one camera, see `ebbtide.runtime.streams`.
        progress: shows the predictions.

    Returns:
        The predictions in order, with the time of the reading before each where there is a recording.

    Raises:
        EbbtideError: ``signals.recording``, ``runtime.log``, and what opening and predicting raise.
    """
    from ebbtide.api import _session
    from ebbtide.runtime import load_inputs
    from ebbtide.runtime.signals import read_recording

    readings = None if signals is None else read_recording(signals).readings
    if readings is not None and not readings:
        raise EbbtideError(
            "signals.recording", "The recording has no readings.", expected="one or more", place=str(signals)
        )
    inputs = load_inputs(source)
    for name in inputs.skipped:
        progress.say(f"Left out {name}: not an image")
    with _session(bundle, trusted, configuration=configuration, server=server) as session:
        if readings is None:
            return list(_live(session, inputs, decisions, stream, top, progress))
        return list(_replayed(session, inputs, readings, decisions, stream, top, progress))


def _live(
    session: Session, inputs: Inputs, decisions: Path | None, stream: Path | None, top: int, progress: Progress
) -> Iterator[Prediction]:
    from ebbtide.api import Prediction, _frames
    from ebbtide.runtime.adaptive import AdaptiveSession
    from ebbtide.runtime.signals import HostSource

    with AdaptiveSession(session, HostSource(), log=decisions) as adaptive:
        adaptive.poll()
        predict = _frames(adaptive, stream)
        with progress.task("predicting", len(inputs)) as task:
            for name, value in inputs:
                yield Prediction.of(session, name, predict(value), top)
                task.advance()


def _replayed(
    session: Session,
    inputs: Inputs,
    readings: Sequence[Signals],
    decisions: Path | None,
    stream: Path | None,
    top: int,
    progress: Progress,
) -> Iterator[Prediction]:
    from ebbtide.api import Prediction, _frames
    from ebbtide.runtime.adaptive import AdaptiveSession
    from ebbtide.runtime.signals import ScriptedSource

    source, t_ms = ScriptedSource(), readings[0].t_ms
    count = max(len(inputs), len(readings))
    with (
        AdaptiveSession(session, source, poll_ms=None, clock_ms=lambda: t_ms, log=decisions) as adaptive,
        progress.task("predicting", count) as task,
    ):
        predict = _frames(adaptive, stream)
        for number in range(count):
            if number < len(readings):
                source.put(readings[number])
                t_ms = readings[number].t_ms
                adaptive.poll()
            place = number % len(inputs)
            yield Prediction.of(session, inputs.names[place], predict(inputs.readers[place]()), top, t_ms)
            task.advance()
