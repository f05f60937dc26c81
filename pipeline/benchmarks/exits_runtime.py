"""Early exits at run time: latency saved, and whether the runtime does what the simulation says; `exits.py` calls this.

The configuration that counts in a run is lowered as a bundle would have it, stages fused between the exits it uses, and
served by a session through ExecuTorch, one thread.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from exits_halves import halves
from exits_training import Cut, Run, trained_model
from numpy.typing import NDArray
from reds_starts import dataset
from widths_programs import Widths

from ebbtide.data import FrozenChoices, InputSpec, Split
from ebbtide.engine import ExecuTorchEngine
from ebbtide.exits import ExitKey
from ebbtide.lowering import ProgramSpec, lower_programs
from ebbtide.lowering.spec import fuse
from ebbtide.model import split
from ebbtide.profiling import Plan, time_interleaved
from ebbtide.profiling.timing import Call
from ebbtide.runtime import Session
from ebbtide.runtime.runner import run_bench
from ebbtide.runtime.stream_choice import StreamRecords, choose, record_stream, replay
from ebbtide.runtime.stream_frames import FramePlan, frames_of

_PLAN = Plan(warm_up=4, rounds=60, repeats=8, settle=2)
_OF_EACH = 8
"""So many images that leave at an exit are timed there."""


@dataclass(frozen=True)
class Served:
    """One configuration on the half of the test images that it is reported on.

    Args:
        macs_cut: share of the multiply-accumulates saved, as simulated.
        latency_cut: share of the dense program's latency saved in the C++ runner, over all images of that half.
        session_cut: the same in a session here: the paths' latencies by their shares of images.
        differing: how many of `images` left elsewhere, or with another label, than a simulation on the program's own
            outputs says.
        images: of all test images.
    """

    macs_cut: float
    latency_cut: float
    session_cut: float
    differing: int
    images: int


def serve(run: Run, number: int, scratch: Path, row: str = "within_lean") -> Served | None:
    """Lower and serve what a run chose on one half.

    Args:
        run: that has ended.
        number: of the half, 0 or 1.
        scratch: where the run was made; None comes back where its weights are there no more.
        row: which configuration of the half.
    """
    served = _served_row(run, number, scratch, row)
    if served is None:
        return None
    programs, methods, test = served.programs, served.methods, served.test
    images = [x.numpy() for x, _ in test.batches(1)]
    other = ~halves(test) if number == 0 else halves(test)
    engine = ExecuTorchEngine(threads=1)
    with (
        Session(programs, engine, configuration="early") as early,
        Session(programs, engine, configuration="dense") as dense,
    ):
        results = [early.predict_tensor(image) for image in images]
        differing = sum(
            answer != (result.left_at.rpartition("/")[2], result.label)
            for answer, result in zip(_simulated(programs, methods, images), results, strict=True)
        )
        left = np.array([result.left_at for result in results])
        early_us, dense_us = _mean_us(early, dense, images, left, other)
    latency_cut = _runner_cut(programs, np.concatenate([images[index] for index in np.flatnonzero(other)]))
    return Served(served.macs_cut, latency_cut, 1 - early_us / dense_us, differing, len(images))


def _runner_cut(programs: Widths, images: NDArray[np.float32]) -> float:
    """Share of the dense program's latency that exits save in the C++ runner: the loop of an SDK, without Python."""
    with tempfile.TemporaryDirectory() as place:
        programs.write(Path(place) / "bundle")
        measured = run_bench(
            Path(place) / "bundle", images, configurations=["early", "dense"], rounds=5, loads=1, switches=0
        )
    # Each image in the median of its rounds, so that a pause of the machine in one of them does not count.
    mean = {one.id: np.median(np.array(one.rounds_ns), 0).mean() for one in measured.configurations}
    return float(1 - mean["early"] / mean["dense"])


@dataclass(frozen=True)
class _Row:
    """A configuration that a run chose, lowered: with the threshold of each exit's method, and the test images."""

    programs: Widths
    methods: dict[str, float]
    macs_cut: float
    test: Split


def _served_row(run: Run, number: int, scratch: Path, row: str) -> _Row | None:
    found = run.result()
    assert found is not None
    swap = found["swaps"][number]
    chosen = swap[row]
    if chosen is None:
        return None
    keys = [ExitKey.parse(text) for text in chosen["exits"]]
    model = trained_model(run, keys, scratch)
    if model is None:
        return None
    cut, exits = model
    thresholds = {ExitKey.parse(text).position: value for text, value in chosen["exits"].items()}
    programs, methods = _lowered(cut, exits, swap["temperatures"], thresholds, scratch / f"{run.name}.{number}.{row}")
    test = dataset("cifar10", scratch).test
    opened = test.open(FrozenChoices.of({"run": run.settings(), "half": number, "row": row}))
    return _Row(programs, methods, chosen["cut"], opened)


@dataclass(frozen=True)
class Streamed:
    """What a stream's mechanism does to frames of the half that it was not chosen on.

    Args:
        stopped: share of the frames that repeat the answer of their scene's first.
        macs_cut: share of the multiply-accumulates saved against the same frames without a stream.
        drop: points of accuracy lost against that.
    """

    stopped: float
    macs_cut: float
    drop: float


def stream(run: Run, scratch: Path, *, pictures: int = 400) -> dict[str, Streamed] | None:
    """By mechanism, what it gives on frames made from test images: 20 of each, noise 4 of 255, moved by up to a pixel.

    Thresholds are the cheapest that lose at most a point on frames of the half that the configuration was chosen on.

    Args:
        run: that has ended; its lean configuration of the first half is served.
        scratch: where the run was made; None comes back where its weights are there no more.
        pictures: of each half.
    """
    served = _served_row(run, 0, scratch, "within_lean")
    if served is None:
        return None
    programs = _with_input(served.programs, served.test.input)
    choosing, reporting = halves(served.test), ~halves(served.test)
    with Session(programs, ExecuTorchEngine(threads=1), configuration="early") as session:

        def recorded(part: NDArray[np.bool_]) -> StreamRecords:
            # Splits lie in an order that mixes the classes.
            rows = np.flatnonzero(part)[:pictures]
            frames, shown = frames_of(np.asarray(served.test.pixels[rows]), FramePlan(seed=run.seed))
            return record_stream(session, frames, scenes=shown, truth=np.asarray(served.test.labels)[rows][shown])

        chosen, other = choose(recorded(choosing), max_drop_points=1.0), recorded(reporting)
    plain, found = replay(other, None), {}
    for mechanism in ("difference", "patience"):
        good = [
            one for one in chosen.candidates
            if one.settings.mechanism == mechanism and one.accuracy >= chosen.accuracy_without - 0.01
        ]  # fmt: skip
        best = min(good, key=lambda one: one.mean_macs)
        after = replay(other, best.settings)
        found[mechanism] = Streamed(
            float(after.stopped.mean()),
            1 - after.mean_macs / plain.mean_macs,
            100 * (plain.accuracy - after.accuracy),
        )
    return found


def _with_input(programs: Widths, spec: InputSpec) -> Widths:
    """The same source where pictures become inputs as the network takes them."""
    manifest = programs.manifest
    entry = manifest.model.input.model_copy(update={"scale": spec.scale, "bias": spec.bias})
    model = manifest.model.model_copy(update={"input": entry})
    return Widths(manifest.model_copy(update={"model": model}), programs.folder)


def _lowered(
    cut: Cut,
    exits: Mapping[ExitKey, Any],
    temperatures: Mapping[str, float],
    thresholds: Mapping[int, float],
    place: Path,
) -> tuple[Widths, dict[str, float]]:
    """A source of a session with configurations early and dense, and the threshold of each exit's method."""
    place.mkdir(parents=True, exist_ok=True)
    staged = split(cut.graph, cut.names, clone=True)
    told = {"head": temperatures["head"], **{f"exit{key.position}": temperatures[str(key)] for key in exits}}
    whole = ProgramSpec(
        "early", staged.stages, {key.position: module for key, module in exits.items()}, staged.head, told,
        cut.graph.input_shape,
    )  # fmt: skip
    fused, moved = fuse(whole, list(thresholds))
    by_method = {f"exit{moved[position]}": value for position, value in thresholds.items()}
    lowered = lower_programs([fused, fused.dense("dense")], place)
    types = {f"exit{moved[key.position]}": key.type for key in exits}
    return Widths.of(lowered, {"early": by_method}, types), by_method


def _simulated(
    programs: Widths, thresholds: Mapping[str, float], images: list[NDArray[np.float32]]
) -> list[tuple[str, int]]:
    """Where each image leaves and with which label, from what all methods of the program say of it (D-7)."""
    loaded = ExecuTorchEngine(threads=1).load(programs.folder / "early.pte")
    count = len(thresholds)
    answers = []
    try:
        for image in images:
            value, left = image, None
            for position in range(count):
                (value,) = loaded.run(f"stage{position}", value)
                _, confidence, logits = loaded.run(f"exit{position}", value)
                sure = float(confidence.ravel()[0]) > np.float32(thresholds[f"exit{position}"])
                if left is None and sure:
                    left = (f"exit{position}", int(logits.argmax()))
            logits = loaded.run("head", value)[2]
            answers.append(left or ("head", int(logits.argmax())))
    finally:
        loaded.close()
    return answers


def _mean_us(
    early: Session, dense: Session, images: list[NDArray[np.float32]], left: NDArray[Any], part: NDArray[np.bool_]
) -> tuple[float, float]:
    """Mean latency of both over a part of the images: that of images that leave at each place, by their shares."""
    shares: dict[str, float] = {}
    cases: dict[str, Call] = {}
    for place in map(str, np.unique(left[part])):
        members = np.flatnonzero(part & (left == place))
        shares[place] = len(members) / int(part.sum())
        cases[place] = _predicting(early, [images[index] for index in members[:_OF_EACH]])
    cases["dense"] = _predicting(dense, [images[index] for index in np.flatnonzero(part)[:_OF_EACH]])
    times = {name: timing.p50_us for name, timing in time_interleaved(cases, _PLAN).items()}
    return sum(share * times[place] for place, share in shares.items()), times["dense"]


def _predicting(session: Session, images: list[NDArray[np.float32]]) -> Call:
    """A call that predicts one of the images, the next one each time."""
    turn = itertools.cycle(images)
    return lambda: session.predict_tensor(next(turn))
