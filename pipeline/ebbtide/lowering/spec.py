"""What one program is to hold: stages, exits and head of one width, and how boundaries are fused away."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.lowering.scoring import Scored

Kind = Literal["stage", "exit", "head", "model"]


@dataclass(frozen=True)
class ProgramSpec:
    """One program before it is lowered. Modules are in eval mode and are not changed by anything here.

    Args:
        id: the program's name, for example ``w100-f32-cpu``; also the name of its file.
        stages: from the input on; each takes and puts out one float32 tensor, batch first.
        exits: by position, the index of the stage whose output they take; they put out logits.
        head: takes the last stage's output (the input, if there are no stages) and puts out logits.
        temperatures: of every exit and of the head, by method name (``exit0``, ``head``); > 0.
        input_shape: one sample's shape, without batch.
        single: lower everything from the input to the head's scores as one method ``forward``; then there are no exits.

    Raises:
        EbbtideError: ``lowering.spec``.
    """

    id: str
    stages: Sequence[nn.Module]
    exits: Mapping[int, nn.Module]
    head: nn.Module
    temperatures: Mapping[str, float]
    input_shape: tuple[int, ...]
    single: bool = field(default=False)

    def __post_init__(self) -> None:
        for position in self.exits:
            if not 0 <= position < len(self.stages):
                raise _bad(self, f"There is no stage {position} for the exit there.", f"0 to {len(self.stages) - 1}")
        if self.single and self.exits:
            raise _bad(self, "A program of a single method cannot have exits.", "no exits")
        for name in [*(f"exit{position}" for position in self.exits), "head"]:
            value = self.temperatures.get(name)
            if value is None or not math.isfinite(value) or value <= 0:
                raise _bad(self, f"The temperature of {name!r} is {value}.", "a finite number > 0")

    def dense(self, program: str) -> ProgramSpec:
        """The same model without exits as one method ``forward``: the reference that reports compare with."""
        return replace(self, id=program, exits={}, single=True)


@dataclass(frozen=True)
class MethodSpec:
    """One method of a program.

    Args:
        name: ``stage{s}``, ``exit{s}``, ``head`` or ``forward``.
        kind: what it is.
        position: index of the stage that it is or comes after; the number of stages for head and model.
        module: a stage puts out one tensor, the others logits.
        temperature: None for a stage.
    """

    name: str
    kind: Kind
    position: int
    module: nn.Module
    temperature: float | None

    def eager(self) -> nn.Module:
        """A module with the method's own outputs: ``(probabilities, confidence, logits)`` unless it is a stage."""
        return self.module if self.temperature is None else Scored(self.module, self.temperature)


def methods_of(spec: ProgramSpec) -> Iterator[MethodSpec]:
    """The program's methods in the order in which a prediction meets them."""
    last, temperature = len(spec.stages), float(spec.temperatures["head"])
    if spec.single:
        yield MethodSpec("forward", "model", last, nn.Sequential(*spec.stages, spec.head), temperature)
        return
    for position, stage in enumerate(spec.stages):
        yield MethodSpec(f"stage{position}", "stage", position, stage, None)
        if position in spec.exits:
            name = f"exit{position}"
            yield MethodSpec(name, "exit", position, spec.exits[position], float(spec.temperatures[name]))
    yield MethodSpec("head", "head", last, spec.head, temperature)


def eager_methods(spec: ProgramSpec) -> dict[str, nn.Module]:
    """The program as modules by method name, for `EagerEngine` and the gate; nothing is copied."""
    return {method.name: method.eager() for method in methods_of(spec)}


def fuse(spec: ProgramSpec, keep: Collection[int]) -> tuple[ProgramSpec, dict[int, int]]:
    """Join stages so that a boundary remains only where an exit in use stands.

    A boundary costs a call and two copies even if its exit is off. What follows the last exit in
    use becomes part of the head.

    Args:
        spec: a program with its boundaries.
        keep: the positions whose exits are in use; each must have an exit.

    Returns:
        The fused program and, for each kept position, its new position.

    Raises:
        EbbtideError: ``lowering.spec`` if an exit is to be kept that is not there.
    """
    kept = sorted(set(keep))
    for position in kept:
        if position not in spec.exits:
            raise _bad(spec, f"There is no exit at position {position} to keep.", f"some of {sorted(spec.exits)}")
    starts = [0, *(position + 1 for position in kept)]
    stages = [_joined(spec.stages[start : end + 1]) for start, end in zip(starts, kept, strict=False)]
    moved = {position: index for index, position in enumerate(kept)}
    temperatures = {f"exit{moved[position]}": spec.temperatures[f"exit{position}"] for position in kept}
    fused = replace(
        spec,
        stages=stages,
        exits={moved[position]: spec.exits[position] for position in kept},
        head=_joined([*spec.stages[starts[-1] :], spec.head]),
        temperatures={**temperatures, "head": spec.temperatures["head"]},
    )
    return fused, moved


def sample_inputs(spec: ProgramSpec) -> dict[str, torch.Tensor]:
    """For every method an input of batch 1, contiguous, made by the stages before it from zeros.

    Raises:
        EbbtideError: ``lowering.spec`` if a module does not run or puts out something else than one tensor.
    """
    value, before, inputs = torch.zeros(1, *spec.input_shape), "the input", {}
    for method in methods_of(spec):
        inputs[method.name] = value
        try:
            with torch.inference_mode():
                output = method.module(value)
        except (RuntimeError, TypeError, IndexError) as error:
            raise _bad(spec, f"{method.name!r} does not take what {before} puts out: {error}.", None) from error
        if not isinstance(output, torch.Tensor) or output.dtype != torch.float32:
            raise _bad(spec, f"{method.name!r} does not put out one float32 tensor.", None)
        if method.kind == "stage":
            value, before = output.clone(memory_format=torch.contiguous_format), repr(method.name)
        elif output.dim() != 2 or output.shape[1] < 2:
            raise _bad(spec, f"{method.name!r} puts out {list(output.shape)}.", "logits (1, k), at least two classes")
    return inputs


def _joined(modules: Sequence[nn.Module]) -> nn.Module:
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def _bad(spec: ProgramSpec, message: str, expected: str | None) -> EbbtideError:
    return EbbtideError("lowering.spec", message, expected=expected, place=spec.id)
