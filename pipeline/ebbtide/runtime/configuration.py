"""A configuration bound to loaded programs, and the one loop that every prediction runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ebbtide.bundle.manifest import ConfigurationEntry, Manifest, MethodEntry
from ebbtide.engine import Array, Loaded
from ebbtide.errors import EbbtideError

_clock = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a path.

    `threshold` is None for stages and for the last step, which is always left at. `macs` counts from the start of the
    path to the end of this step.
    """

    reference: str
    method: str
    run: Callable[[str, Array], tuple[Array, ...]]
    is_stage: bool
    threshold: float | None
    position: int
    macs: int


@dataclass(frozen=True, slots=True)
class Configuration:
    """A path that can be run: never changed, only replaced by another one, so a prediction sees one or the other.

    `tier` is None for a configuration that no tier names; `reason` says why it is in force.
    """

    id: str
    tier: int | None
    reason: str
    steps: tuple[Step, ...]
    programs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Visit:
    """What a walk along a path gave: the outputs of the step that it was left at, and the time of each step run."""

    step: Step
    probabilities: Array
    confidence: float
    logits: Array
    times_ns: tuple[int, ...]


def walk(steps: tuple[Step, ...], tensor: Array) -> Visit:
    """Run a path until an exit is sure enough or its end is reached.

    An exit is left at when ``confidence > threshold``. Both are float32 values held in doubles, so the comparison is
    the float32 one. A confidence that is not a number is greater than nothing, so it never leaves early.

    Args:
        steps: a configuration's, ending with a head or a whole model.
        tensor: a preprocessed input, float32, batch 1.

    Raises:
        EbbtideError: ``runtime.output`` if the path was left with a confidence that is not a number, and what the
            engine raises.
    """
    times = []
    for step in steps:
        start = _clock()
        outputs = step.run(step.method, tensor)
        times.append(_clock() - start)
        if step.is_stage:
            tensor = outputs[0]
            continue
        probabilities, scores, logits = outputs
        confidence = scores.item()
        if step.threshold is None or confidence > step.threshold:
            if confidence != confidence:
                raise _not_a_number(step)
            return Visit(step, probabilities.reshape(-1), confidence, logits.reshape(-1), tuple(times))
    raise EbbtideError("runtime.configuration", "A path ended without a head.", place=steps[-1].reference)


def bind(
    manifest: Manifest, entry: ConfigurationEntry, programs: Mapping[str, Loaded], *, reason: str
) -> Configuration:
    """Bind a configuration of a checked manifest to loaded programs.

    Args:
        manifest: the bundle's.
        entry: one of its configurations.
        programs: at least the programs that its path names, by id.
        reason: why it is chosen.
    """
    methods = method_entries(manifest)
    steps = []
    macs = 0
    for step in entry.path:
        program, _, name = step.method.rpartition("/")
        method = methods[step.method]
        macs += method.macs
        steps.append(
            Step(
                reference=step.method,
                method=name,
                run=programs[program].run,
                is_stage=method.kind == "stage",
                threshold=step.threshold,
                position=method.position,
                macs=macs,
            )
        )
    return Configuration(
        id=entry.id,
        tier=manifest.tiers.index(entry.id) if entry.id in manifest.tiers else None,
        reason=reason,
        steps=tuple(steps),
        programs=programs_of(entry),
    )


def programs_of(entry: ConfigurationEntry) -> tuple[str, ...]:
    """The ids of the programs that a path runs, each once, in the order of their first call."""
    return tuple(dict.fromkeys(step.method.rpartition("/")[0] for step in entry.path))


def method_entries(manifest: Manifest) -> dict[str, MethodEntry]:
    """A manifest's methods by ``program/method``."""
    return {f"{program.id}/{method.name}": method for program in manifest.programs for method in program.methods}


def _not_a_number(step: Step) -> EbbtideError:
    return EbbtideError(
        "runtime.output",
        f"{step.reference} put out a confidence that is not a number.",
        expected="a finite input and a model with finite weights",
        hint="look for NaN or infinite values in the input",
        place=step.reference,
    )
