"""Measured times of a model's layers, for widths that are searched by time instead of MACs.

The time of a whole network is taken as the sum of its layers' times. That leaves out additions, pooling and what the
runtime spends between layers; the report shows the measured time of every width beside what was searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import fx

from ebbtide.build.programs import THREADS
from ebbtide.model.coupling import OperatorMacs, Polynomial
from ebbtide.model.operators import argument
from ebbtide.profiling.layers import LayerGrid, LayerShape, LayerTimeTable, layer_latency_table
from ebbtide.steps import Progress

GRID = (0.25, 0.5, 0.75, 1.0)
"""Shares of a layer's full channels at which it is timed; between them times are interpolated."""


@dataclass(frozen=True)
class LayerCosts:
    """Times of a network's weighted operators at any widths; what `ebbtide.nesting.Rules.cost` takes.

    Args:
        tables: by kind of layer.
        us_per_mac: for operators that are not timed on their own, such as attention and grouped convolutions.
    """

    tables: Mapping[str, LayerTimeTable]
    us_per_mac: float

    def latency_us(self, operator: OperatorMacs, outputs: int, inputs: int) -> float:
        """Microseconds of a weighted operator.

        Args:
            operator: of the graph that was measured.
            outputs: channels that it puts out.
            inputs: channels that each of them sums over.
        """
        shape = shape_of(operator)
        table = self.tables.get(shape.key) if shape is not None else None
        if table is None:
            return outputs * inputs * operator.scale * self.us_per_mac
        return table.at(inputs, outputs)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        tables = {
            key: {"inputs": t.inputs.tolist(), "outputs": t.outputs.tolist(), "us": t.us.tolist()}
            for key, t in self.tables.items()
        }
        return {"tables": tables, "us_per_mac": self.us_per_mac}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], operators: Sequence[OperatorMacs]) -> LayerCosts:
        """What `to_json` gave, for a network with these operators."""
        shapes = {shape.key: shape for one in operators if (shape := shape_of(one)) is not None}
        tables = {}
        for key, found in value["tables"].items():
            if key in shapes:
                us = np.asarray(found["us"], np.float64)
                places = np.asarray(found["inputs"], np.int64), np.asarray(found["outputs"], np.int64)
                tables[key] = LayerTimeTable(shapes[key], *places, us, np.zeros_like(us))
        return cls(tables, float(value["us_per_mac"]))


def measure_layers(operators: Sequence[OperatorMacs], file: Path, *, multiple: int, progress: Progress) -> LayerCosts:
    """Time every kind of layer of a network at several widths on this machine.

    Args:
        operators: the network's weighted operators.
        file: where finished kinds are kept, for a run that is killed.
        multiple: channels that are timed are multiples of this.
        progress: told of the rounds.
    """
    places: dict[str, tuple[LayerShape, set[int], set[int]]] = {}
    for operator in operators:
        shape = shape_of(operator)
        if shape is None:
            continue
        inputs, outputs = _channels(operator)
        _, at_inputs, at_outputs = places.setdefault(shape.key, (shape, set(), set()))
        at_inputs |= _grid(operator.inputs, inputs, multiple)
        at_outputs |= _grid(operator.outputs, outputs, multiple)
    grids = [LayerGrid(shape, tuple(sorted(i)), tuple(sorted(o))) for shape, i, o in places.values()]
    tables = layer_latency_table(grids, file, threads=THREADS, progress=progress) if grids else {}
    rates = []
    for operator in operators:
        shape = shape_of(operator)
        if shape is not None:
            inputs, outputs = _channels(operator)
            rates.append(tables[shape.key].at(inputs, outputs) / (outputs * inputs * operator.scale))
    # Without a single layer that can be timed, shares of time are shares of MACs.
    return LayerCosts(tables, float(np.median(rates)) if rates else 1.0)


def shape_of(operator: OperatorMacs) -> LayerShape | None:
    """The kind of layer as it is timed; None for what is not timed on its own."""
    weight = operator.node.args[1] if len(operator.node.args) > 1 else None
    if not isinstance(weight, fx.Node) or weight.op != "get_attr":
        return None
    if operator.op == "linear":
        return LayerShape("linear") if len(_source(operator)) == 1 else None
    if operator.op != "conv2d":
        return None
    numbers = {name: _same(argument(operator.node, name)) for name in ("stride", "padding", "dilation")}
    groups = int(argument(operator.node, "groups"))
    inputs, outputs = _channels(operator)
    depthwise = groups > 1 and groups == outputs and inputs == 1
    if None in numbers.values() or numbers["dilation"] != 1 or (groups > 1 and not depthwise):
        return None
    kernel = tuple(int(n) for n in weight.meta["val"].shape[2:])
    return LayerShape(
        op="depthwise" if depthwise else "conv2d",
        kernel=kernel,
        stride=int(numbers["stride"] or 1),
        padding=int(numbers["padding"] or 0),
        size=_source(operator)[1:],
    )


def _same(values: Any) -> int | None:
    """The number that stands on all axes; None where they differ or are written in words."""
    numbers = set(values) if isinstance(values, list | tuple) else {values}
    (first, *rest) = numbers
    return first if not rest and isinstance(first, int) else None


def _channels(operator: OperatorMacs) -> tuple[int, int]:
    """Inputs that each output sums over (in the whole network), and output channels."""
    weight = operator.node.args[1]
    assert isinstance(weight, fx.Node)
    shape = weight.meta["val"].shape
    return int(shape[1]), int(shape[0])


def _source(operator: OperatorMacs) -> tuple[int, ...]:
    """Shape of what an operator reads, without the batch."""
    source = operator.node.args[0]
    assert isinstance(source, fx.Node)
    return tuple(int(n) for n in source.meta["val"].shape[1:])


def _grid(form: Polynomial, full: int, multiple: int) -> set[int]:
    if not set(form.terms) - {()}:
        return {full}
    step = min(multiple, full)
    return {full, *(max(step, round(full * share / step) * step) for share in GRID[:-1])}
