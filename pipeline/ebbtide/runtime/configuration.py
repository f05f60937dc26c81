"""A configuration bound to loaded programs, and the one loop that every prediction runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ebbtide.bundle.manifest import ConfigurationEntry, Manifest, MethodEntry
from ebbtide.engine import Array, Loaded
from ebbtide.errors import EbbtideError
from ebbtide.runtime.result import Served

_clock = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a path.

    `threshold` is None for stages and for the last step, which is always left at. `macs` counts from the start of the
    path to the end of this step. `outside` is the score above which an answer given here is about none of the classes.
    """

    reference: str
    method: str
    run: Callable[[str, Array], tuple[Array, ...]]
    is_stage: bool
    threshold: float | None
    position: int
    macs: int
    outside: float | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """A path that can be run: never changed, only replaced by another one, so a prediction sees one or the other.

    `tier` is None for a configuration that no tier names; `reason` says why it is in force. `handover` is the index of
    the first step that a server may run, None if there is none.
    """

    id: str
    tier: int | None
    reason: str
    steps: tuple[Step, ...]
    programs: tuple[str, ...]
    handover: int | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """What a walk along a path gave: the outputs of the step that it was left at, and the time of each step run here.

    `served` says what became of the steps that a server may run, None if the walk did not come to them.
    """

    step: Step
    probabilities: Array
    confidence: float
    logits: Array
    times_ns: tuple[int, ...]
    served: Served | None = None


class Watch(Protocol):
    """Sees a prediction pass its exits and may end it at one of them; see `ebbtide.runtime.streams`."""

    def begin(self, configuration: Configuration) -> None:
        """The configuration that the prediction uses, before its first step."""
        ...

    def ends_at(self, step: Step, logits: Array) -> bool:
        """Whether the prediction ends at an exit, whatever its confidence; called for each exit that runs here."""
        ...


def walk(steps: tuple[Step, ...], tensor: Array, watch: Watch | None = None) -> Visit:
    """Run a path until an exit is sure enough or its end is reached.

    An exit is left at when ``confidence > threshold``. Both are float32 values held in doubles, so the comparison is
    the float32 one. A confidence that is not a number is greater than nothing, so it never leaves early.

    Args:
        steps: a configuration's, ending with a head or a whole model.
        tensor: a preprocessed input, float32, batch 1.
        watch: may end the walk at an exit; None, and nothing does.

    Raises:
        EbbtideError: ``runtime.output`` if the path was left with a confidence that is not a number, and what the
            engine raises.
    """
    found = advance(steps, tensor, [], watch)
    if isinstance(found, Visit):
        return found
    raise EbbtideError("runtime.configuration", "A path ended without a head.", place=steps[-1].reference)


def advance(steps: tuple[Step, ...], tensor: Array, times: list[int], watch: Watch | None = None) -> Visit | Array:
    """Run a part of a path; see `walk`.

    Args:
        steps: the part.
        tensor: what its first step takes.
        times: gets the nanoseconds of every step that is run.
        watch: as in `walk`.

    Returns:
        The visit if the path was left, else what the step after the part takes.
    """
    for step in steps:
        start = _clock()
        outputs = step.run(step.method, tensor)
        times.append(_clock() - start)
        if step.is_stage:
            tensor = outputs[0]
            continue
        probabilities, scores, logits = outputs
        confidence = scores.item()
        leaves = step.threshold is None or confidence > step.threshold
        if watch is not None and step.threshold is not None and watch.ends_at(step, logits.reshape(-1)):
            leaves = True
        if leaves:
            if confidence != confidence:
                raise _not_a_number(step)
            return Visit(step, probabilities.reshape(-1), confidence, logits.reshape(-1), tuple(times))
    return tensor


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
                outside=step.outside,
            )
        )
    return Configuration(
        id=entry.id,
        tier=manifest.tiers.index(entry.id) if entry.id in manifest.tiers else None,
        reason=reason,
        steps=tuple(steps),
        programs=programs_of(entry),
        handover=next((index for index, step in enumerate(entry.path) if step.at == "server"), None),
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
