"""How long single layers take at different numbers of channels, so that widths can be chosen by time and not by MACs.

MACs are a poor guide to time: a kernel works on blocks of output channels, so that 8 may cost as much as 16, and 24
more than 32 (both seen with AVX-512). Here each layer is lowered and run by the runtime itself.

A layer's time is that of a method of this layer alone, less that of methods which only take and give tensors of the
same sizes (the call and the copies at its border, which a whole network pays once), all from the same interleaved run.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ebbtide.engine import Array, ExecuTorchEngine, Loaded
from ebbtide.errors import EbbtideError
from ebbtide.lowering import CapturedMethod, MethodSpec, backend
from ebbtide.lowering.layout import Boundaries, in_layout
from ebbtide.profiling.machine import machine_facts
from ebbtide.profiling.timing import Call, Plan, Timing, time_interleaved
from ebbtide.steps import Progress, digest_json, silent, write_json

_FORMAT = 1
# Methods lowered into one program: many share the exporter's fixed cost, too many its memory.
_METHODS = 24


@dataclass(frozen=True)
class LayerShape:
    """A kind of layer, whatever its channels.

    Args:
        op: a convolution with a ReLU, dense over channels or depthwise, or a linear layer without one.
        kernel: side lengths; () for linear.
        stride: the same on all axes.
        padding: the same on all axes.
        size: height and width of the input; () for linear.
    """

    op: Literal["conv2d", "depthwise", "linear"]
    kernel: tuple[int, ...] = ()
    stride: int = 1
    padding: int = 0
    size: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """One word: ``conv2d 3x3 s1 p1 32x32``."""
        if self.op == "linear":
            return self.op
        sides = ("x".join(map(str, numbers)) for numbers in (self.kernel, self.size))
        kernel, size = sides
        return f"{self.op} {kernel} s{self.stride} p{self.padding} {size}"


@dataclass(frozen=True)
class LayerGrid:
    """Which numbers of channels of a layer to time: all pairs of `inputs` and `outputs`, ascending, >= 1.

    A depthwise layer has as many of both; its `outputs` count.
    """

    shape: LayerShape
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(input channels, output channels) of everything to time."""
        if self.shape.op == "depthwise":
            return tuple((channels, channels) for channels in self.outputs)
        return tuple((i, o) for i in self.inputs for o in self.outputs)


@dataclass(frozen=True)
class LayerTimeTable:
    """Times of one kind of layer: `us[i, o]` at `inputs[i]` and `outputs[o]` channels, `spread_us` the distance of the
    quartiles over rounds."""

    shape: LayerShape
    inputs: NDArray[np.int64]
    outputs: NDArray[np.int64]
    us: NDArray[np.float64]
    spread_us: NDArray[np.float64] = field(repr=False)

    def at(self, inputs: int, outputs: int) -> float:
        """The time in between, linear along both axes; beyond the last one in proportion to channels.

        Below the first, that of the first: fewer channels than a kernel's block do not run faster. A depthwise layer's
        time depends on its outputs alone.
        """
        if self.shape.op == "depthwise":
            return _along(self.outputs, self.us[0], outputs)
        rows = np.array([_along(self.outputs, row, outputs) for row in self.us])
        return _along(self.inputs, rows, inputs)


def layer_latency_table(
    grids: Sequence[LayerGrid],
    file: Path,
    *,
    threads: int = 1,
    plan: Plan | None = None,
    progress: Progress = silent,
) -> dict[str, LayerTimeTable]:
    """Time layers at all their numbers of channels through ExecuTorch.

    Layers of one kind are timed in one interleaved run; each kind is written to `file` when it is done, and a kind that
    the file has with the same grid, plan and machine is not timed again.

    Args:
        grids: kinds of layers; their shapes differ.
        file: a JSON file, made if need be.
        threads: of this process, see `fix_threads`.
        plan: how often; the default makes 124 calls of each.
        progress: told of each layer that is lowered and of each round.

    Returns:
        A table for each kind, by its key.

    Raises:
        EbbtideError: ``profiling.record`` if `file` is something else, and what lowering and loading raise.
    """
    plan = plan or Plan(warm_up=4, rounds=20, repeats=5, settle=1)
    engine = ExecuTorchEngine(threads)
    machine = machine_facts()
    known = _read(file)
    tables = {}
    for grid in grids:
        wanted = digest_json(
            {
                "format": _FORMAT,
                "shape": grid.shape.key,
                "pairs": [list(pair) for pair in grid.pairs],
                "plan": [plan.warm_up, plan.rounds, plan.repeats, plan.settle],
                "threads": engine.threads,
                "machine": [machine.cpu_model, machine.versions],
            }
        )
        entry = known.get(grid.shape.key)
        if entry is None or entry["key"] != wanted:
            entry = {"key": wanted, **_measured(grid, engine, plan, progress)}
            known[grid.shape.key] = entry
            facts = machine.model_dump(mode="json")
            write_json(file, {"format": _FORMAT, "machine": facts, "threads": engine.threads, "layers": known})
        tables[grid.shape.key] = _table(grid, entry)
    return tables


def _measured(grid: LayerGrid, engine: ExecuTorchEngine, plan: Plan, progress: Progress) -> dict[str, Any]:
    shape = grid.shape
    borders = sorted({border for pair in grid.pairs for border in _borders(shape, *pair)})
    modules: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}
    for inputs, outputs in grid.pairs:
        modules[f"layer_{inputs}_{outputs}"] = (_layer(shape, inputs, outputs), (inputs, *shape.size))
    for border in borders:
        modules[_name(border)] = (nn.ReLU(), border)
    cases: dict[str, Call] = {}
    opened: list[Loaded] = []
    names = list(modules)
    try:
        with progress.task(f"lowering {shape.key}", len(names)) as task:
            for start in range(0, len(names), _METHODS):
                some = {name: modules[name] for name in names[start : start + _METHODS]}
                loaded = _lowered(some, engine)
                opened.append(loaded)
                cases |= {name: _call(loaded, name, sizes) for name, (_, sizes) in some.items()}
                task.advance(len(some))
        times = time_interleaved(cases, plan, progress=progress, label=f"timing {shape.key}")
    finally:
        for one in opened:
            one.close()
    found = []
    for inputs, outputs in grid.pairs:
        ends = [times[_name(border)] for border in _borders(shape, inputs, outputs)]
        found.append([inputs, outputs, *_less(times[f"layer_{inputs}_{outputs}"], ends)])
    return {"times_us": found}


def _less(layer: Timing, ends: Sequence[Timing]) -> tuple[float, float]:
    """The median over rounds of the layer without its border, half of that of each end; the quartiles' distance."""
    border = np.mean([end.round_p50_us for end in ends], axis=0)
    lower, middle, upper = np.percentile(np.array(layer.round_p50_us) - border, [25, 50, 75])
    return round(max(float(middle), 0.0), 3), round(float(upper - lower), 3)


def _layer(shape: LayerShape, inputs: int, outputs: int) -> nn.Module:
    if shape.op == "linear":
        return nn.Linear(inputs, outputs)
    groups = inputs if shape.op == "depthwise" else 1
    kernel = (shape.kernel[0], shape.kernel[-1])
    convolution = nn.Conv2d(inputs, outputs, kernel, shape.stride, shape.padding, groups=groups)
    return nn.Sequential(convolution, nn.ReLU())


def _borders(shape: LayerShape, inputs: int, outputs: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes of what a layer takes and of what it gives, without batch."""
    sides = [
        (side + 2 * shape.padding - kernel) // shape.stride + 1
        for side, kernel in zip(shape.size, shape.kernel, strict=True)
    ]
    return (inputs, *shape.size), (outputs, *sides)


def _name(border: tuple[int, ...]) -> str:
    return "border_" + "_".join(map(str, border))


def _lowered(modules: dict[str, tuple[nn.Module, tuple[int, ...]]], engine: ExecuTorchEngine) -> Loaded:
    """A program with a method for each module."""
    methods = [_captured(name, module.eval(), sizes) for name, (module, sizes) in modules.items()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "layers.pte"
        backend("xnnpack").lower(methods, file)
        # What is loaded stays mapped, so the file may go.
        return engine.load(file)


def _captured(name: str, module: nn.Module, sizes: tuple[int, ...]) -> CapturedMethod:
    example = torch.zeros(1, *sizes)
    if len(sizes) == 3:
        # XNNPACK's own order, so that nothing is transposed; a ReLU keeps the order that it is given.
        example = in_layout(example, "channels_last")
        if not isinstance(module, nn.ReLU):
            module = Boundaries(module, takes="channels_last", gives="channels_last")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,), strict=False)
    return CapturedMethod(MethodSpec(name, "stage", 0, module, None), program, macs=0, peak_bytes=0)


def _call(loaded: Loaded, method: str, sizes: tuple[int, ...]) -> Call:
    values: Array = np.random.default_rng(0).random((1, *sizes), dtype=np.float32)
    if len(sizes) == 3:
        values = np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return lambda: loaded.run(method, values)


def _along(places: NDArray[np.int64], times: NDArray[np.float64], channels: int) -> float:
    if channels > places[-1]:
        return float(times[-1]) * channels / int(places[-1])
    return float(np.interp(channels, places, times))


def _table(grid: LayerGrid, entry: dict[str, Any]) -> LayerTimeTable:
    measured = {(int(i), int(o)): (float(us), float(spread)) for i, o, us, spread in entry["times_us"]}
    if grid.shape.op == "depthwise":
        channels = np.array(grid.outputs)
        column = np.array([measured[c, c] for c in grid.outputs])
        # One axis of channels: the same time at any number of inputs.
        return LayerTimeTable(grid.shape, channels[:1], channels, column[None, :, 0], column[None, :, 1])
    both = np.array([[measured[i, o] for o in grid.outputs] for i in grid.inputs])
    return LayerTimeTable(grid.shape, np.array(grid.inputs), np.array(grid.outputs), both[..., 0], both[..., 1])


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_bytes())
        layers = content["layers"]
        if content["format"] != _FORMAT or not isinstance(layers, dict):
            raise ValueError(f"format {content['format']}")
        for entry in layers.values():
            _ = entry["key"], [(i, o, us, spread) for i, o, us, spread in entry["times_us"]]
    except (ValueError, KeyError, TypeError) as error:
        raise EbbtideError(
            "profiling.record",
            f"This is not a table of layer times: {error}.",
            place=str(file),
            hint="measure again into another file, or remove this one",
        ) from error
    return layers
