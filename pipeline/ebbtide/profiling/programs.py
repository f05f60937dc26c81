"""Time the methods and paths of loaded programs on any engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ebbtide.engine import Array, Loaded
from ebbtide.errors import EbbtideError
from ebbtide.profiling.machine import machine_facts
from ebbtide.profiling.record import Measurement, MeasurementRecord, PathMeasurement
from ebbtide.profiling.timing import Call, Plan, time_interleaved
from ebbtide.steps import Progress, silent

_NUMBERED = re.compile(r"^(stage|exit)(\d+)")


@dataclass(frozen=True)
class Target:
    """A loaded program to time, known by the SHA-256 (hex) of its file."""

    loaded: Loaded
    program_sha256: str


@dataclass(frozen=True)
class PathTarget:
    """Methods to time one after the other, each with the program it belongs to."""

    id: str
    steps: tuple[tuple[Target, str], ...]


def chain_inputs(loaded: Loaded, sample: Array) -> dict[str, Array]:
    """The tensor that each method of a program gets when `sample` runs through all of it.

    Args:
        loaded: a program with methods ``stage{n}``, ``exit{n}``, ``head``, or any others that take the sample itself.
        sample: a preprocessed input, float32, batch 1.

    Returns:
        Inputs by method, in the order in which a prediction would run them. A stage takes what the stage before it
        put out, an exit what the stage of its number put out, the head what the last stage put out.

    Real activations, not noise: zeros after a ReLU and denormal values change how long a kernel runs.
    """
    stages = sorted((name for name in loaded.methods if _kind(name) == "stage"), key=_number)
    exits = [name for name in loaded.methods if _kind(name) == "exit"]
    inputs: dict[str, Array] = {}
    tensor = sample
    for stage in stages:
        inputs[stage] = tensor
        (tensor,) = loaded.run(stage, tensor)
        inputs.update({name: tensor for name in exits if _number(name) == _number(stage)})
    lost = sorted(set(exits) - set(inputs))
    if lost:
        raise EbbtideError(
            "profiling.methods",
            f"Exit {lost[0]!r} has no stage of its number to follow.",
            expected="stage{n} for each exit{n}",
            found=", ".join(loaded.methods),
            place=lost[0],
        )
    inputs.update({name: tensor if _kind(name) == "head" else sample for name in loaded.methods if name not in inputs})
    return inputs


def measure(
    targets: Sequence[Target],
    *,
    sample: Array,
    engine: str,
    paths: Sequence[PathTarget] = (),
    plan: Plan | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> MeasurementRecord:
    """Time every method of every target, and whole paths, all in one interleaved run.

    Args:
        targets: programs whose methods are timed one by one; equal programs are timed once.
        sample: a real preprocessed input, float32, the shape that the programs take (batch 1 first).
        engine: the engine's name, for the record.
        paths: timed as wholes beside the methods; their targets need not be among `targets`.
        plan: how often; the default makes 115 calls of each.
        threads: the thread count that the engine was told to use, for the record only: a process has one, fixed
            before its first program is loaded.
        progress: shows the rounds.

    Returns:
        A record with the facts of this machine.
    """
    cases: dict[str, Call] = {}
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    for target in targets:
        for method, tensor in chain_inputs(target.loaded, sample).items():
            shapes[target.program_sha256, method] = tensor.shape
            cases[f"{target.program_sha256}/{method}"] = method_call(target.loaded, method, tensor)
    for path in paths:
        steps = [(target.loaded, method) for target, method in path.steps]
        cases[f"path {path.id}"] = path_call(steps, sample)
    machine = machine_facts()
    timings = time_interleaved(cases, plan or Plan(), progress=progress, label="timing methods")
    return MeasurementRecord(
        machine=machine,
        measurements=tuple(
            Measurement(
                program_sha256=sha256,
                method=method,
                engine=engine,
                threads=threads,
                input_shape=shape,
                timing=timings[f"{sha256}/{method}"],
            )
            for (sha256, method), shape in shapes.items()
        ),
        paths=tuple(
            PathMeasurement(
                id=path.id,
                steps=tuple((target.program_sha256, method) for target, method in path.steps),
                engine=engine,
                threads=threads,
                timing=timings[f"path {path.id}"],
            )
            for path in paths
        ),
    )


def method_call(loaded: Loaded, method: str, tensor: Array) -> Call:
    """One bare call of a method, as a case for `time_interleaved`."""
    run: Callable[[str, Array], object] = loaded.run
    return lambda: run(method, tensor)


def path_call(steps: Sequence[tuple[Loaded, str]], sample: Array) -> Call:
    """Bare calls of several methods in a row, a stage's output feeding the next, as a case for `time_interleaved`."""
    calls = [(loaded.run, method, _kind(method) == "stage") for loaded, method in steps]

    def call() -> None:
        tensor = sample
        for run, method, is_stage in calls:
            outputs = run(method, tensor)
            if is_stage:
                tensor = outputs[0]

    return call


def path_targets(programs: Mapping[str, Target], paths: Mapping[str, Sequence[str]]) -> tuple[PathTarget, ...]:
    """Turn paths written as ``program/method`` steps, as in a manifest, into what `measure` takes.

    Raises:
        EbbtideError: ``profiling.methods`` if a step names a program that is not among `programs`.
    """
    made = []
    for path_id, steps in paths.items():
        pairs = []
        for step in steps:
            program, _, method = step.rpartition("/")
            if program not in programs:
                raise EbbtideError(
                    "profiling.methods",
                    f"Path {path_id!r} names a program that is not loaded: {step!r}.",
                    expected=f"program/method with a program of {', '.join(programs)}",
                    place=path_id,
                )
            pairs.append((programs[program], method))
        made.append(PathTarget(id=path_id, steps=tuple(pairs)))
    return tuple(made)


def _kind(method: str) -> str:
    found = _NUMBERED.match(method)
    return found.group(1) if found else "head" if method == "head" else "model"


def _number(method: str) -> int:
    found = _NUMBERED.match(method)
    return int(found.group(2)) if found else -1
