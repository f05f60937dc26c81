"""What a walk over a graph has found so far, and what every rule of an operator needs to read and say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from ebbtide.model.coupling.slots import Labels, Slots, varying
from ebbtide.model.coupling.values import Value
from ebbtide.model.graph import Graph, attribute
from ebbtide.model.operators import source_place
from ebbtide.model.shapes import propagate

_LARGEST_LOOSE = 1 << 22
"""Elements of a parameter that takes its units from what it meets; a larger one stays whole."""


@dataclass
class Labelling:
    """What the walk found.

    Attributes:
        slots: every slot with what is the same, tied and frozen.
        nodes: of the graph that was walked over, by name.
        values: of each node that carries tensors, one for each of its outputs; by name, so that they hold for copies
            of the graph too.
        axes: (parameter, axis) -> the slot at each index of that axis.
        elements: loose parameters -> the slot of each element.
        made: the weights that compute units, in order of use.
    """

    slots: Slots
    nodes: dict[str, fx.Node]
    values: dict[str, tuple[Value, ...]]
    axes: dict[tuple[str, int], Labels]
    elements: dict[str, Labels]
    made: list[str]


class Walk:
    """The state of the walk.

    Attributes:
        module: the graph's.
        slots: all slots.
        found: what is kept when the walk has ended.
        fakes: of each node, a tensor without data that has its shape at batch 1.
        env: what each node visited so far gave.
    """

    def __init__(self, graph: Graph) -> None:
        self.module = graph.module
        self.slots = Slots()
        self.found = Labelling(self.slots, {node.name: node for node in graph.module.graph.nodes}, {}, {}, {}, [])
        self.fakes = propagate(graph.module, graph.input_shape, batch=1)
        self.env: dict[fx.Node, Any] = {}

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The shape of a node's tensor at batch 1."""
        return tuple(int(size) for size in self.fakes[node].shape)

    def parameter(self, node: fx.Node) -> Any:
        """A node that reads a parameter: as a value if units can lie in it, else as it is."""
        tensor = attribute(self.module, str(node.target))
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            return tensor
        return Value(tuple(tensor.shape), parameter=str(node.target))

    def opened(self, value: Any) -> Value:
        """An operand of an operator that is not made for parameters: these come as loose elements."""
        if not isinstance(value, Value):
            return Value(tuple(value.shape)) if isinstance(value, torch.Tensor) else Value(())
        if value.parameter is None:
            return value
        name, shape = value.parameter, value.shape
        if math.prod(shape) > _LARGEST_LOOSE:
            return Value(shape)
        if name not in self.found.elements:
            self.found.elements[name] = self.slots.fresh(math.prod(shape)).reshape(shape)
        labels = self.found.elements[name]
        return Value(shape, (labels,) if varying(labels) else (), loose=True)

    def bare(self, node: fx.Node) -> Value:
        """A node's tensor without units."""
        return Value(self.shape(node))

    def freeze(self, labels: Labels, node: fx.Node, why: str) -> None:
        """Units that always stay, with the place and the reason."""
        self.slots.freeze(labels, f"{source_place(node)}: {why}")

    def attach(self, parameter: Any, axis: int, labels: Labels) -> None:
        """An axis of a parameter carries these units."""
        if not isinstance(parameter, Value):
            return
        if parameter.parameter is None:
            self.slots.freeze(labels, "weights are computed in the graph from other parameters")
            return
        key = (parameter.parameter, axis)
        if key in self.found.axes:
            self.slots.same(self.found.axes[key], labels)
        else:
            self.found.axes[key] = labels.contiguous()

    def units_of(self, weight: Value) -> Labels:
        """The slots of a producer's output channels; the same ones wherever that weight is used again."""
        assert weight.parameter is not None
        key = (weight.parameter, 0)
        if key not in self.found.axes:
            self.found.axes[key] = self.slots.fresh(weight.shape[0])
            self.found.made.append(weight.parameter)
        return self.found.axes[key]


def is_value(value: Any) -> bool:
    """Whether this is a tensor that the walk follows."""
    return isinstance(value, Value)


def leaves(*structures: Any) -> list[Any]:
    """Everything in nested arguments, values whole."""
    return list(torch.utils._pytree.tree_leaves(structures, is_leaf=is_value))
