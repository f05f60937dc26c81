"""Cutting a graph into stages and a head, each a graph of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from ebbtide.model.cuts import cut_points, find
from ebbtide.model.graph import Graph, own_copy, set_training
from ebbtide.model.operators import reads_batch_size
from ebbtide.model.shapes import propagate


@dataclass(frozen=True)
class StagedGraph:
    """A model as stages and a head; called, it is bit-equal to the graph it was cut from.

    Args:
        stages: each takes one tensor and puts out one: the input, or what the stage before put out.
        head: takes what the last stage puts out (the input, where there is no stage) and puts out the logits.
        input_shape: shape of a sample.
        boundaries: shape of what each stage puts out, without the batch.
        layouts: order of its elements in memory, "contiguous" or "channels_last".
        cuts: the names of the cut points.
    """

    stages: list[fx.GraphModule]
    head: fx.GraphModule
    input_shape: tuple[int, ...]
    boundaries: list[tuple[int, ...]]
    layouts: list[str]
    cuts: tuple[str, ...]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The logits (N, classes) of a batch (N, *input_shape)."""
        for stage in self.stages:
            x = stage(x)
        result: torch.Tensor = self.head(x)
        return result

    def eval(self) -> StagedGraph:
        """Switch every part to evaluation."""
        for part in (*self.stages, self.head):
            set_training(part, False)
        return self

    def inputs_of(self, position: int) -> tuple[int, ...]:
        """Shape of what stage `position` takes, without the batch; ``len(stages)`` asks for the head's."""
        return self.input_shape if position == 0 else self.boundaries[position - 1]

    def example(self, position: int, *, batch: int = 1) -> torch.Tensor:
        """Zeros as stage `position` takes them, in the memory order that they arrive in; for export."""
        zeros = torch.zeros(batch, *self.inputs_of(position))
        if position and self.layouts[position - 1] == "channels_last":
            return zeros.contiguous(memory_format=torch.channels_last)
        return zeros


def split(graph: Graph, cuts: Sequence[str], *, clone: bool = False) -> StagedGraph:
    """Cut a graph at cut points.

    Nodes are copied; parameters are the graph's own tensors, so training one trains the other. A batch size that
    crosses a cut is read again from the stage's own input, and what follows from parameters only is computed again
    where it is used.

    Args:
        graph: the model, in the mode (training or evaluation) that the parts shall have.
        cuts: names of cut points in any order; none leaves the whole model as the head.
        clone: give every part contiguous tensors of its own, as lowering needs them.

    Raises:
        EbbtideError: ``model.cut_point`` for an unknown name.
    """
    points = cut_points(graph) if cuts else ()
    chosen = sorted({find(points, name) for name in cuts}, key=lambda point: point.index)
    nodes = {node.name: node for node in graph.module.graph.nodes}
    source = next(node for node in graph.module.graph.nodes if node.op == "placeholder")
    parts, start, shape = [], source, graph.input_shape
    for end, out in [*((nodes[point.node], point.shape) for point in chosen), (graph.logits, ())]:
        part = _part(graph.module, start, end)
        part.training = graph.module.training
        for node, value in propagate(part, shape).items():
            node.meta["val"] = value
        parts.append(own_copy(part) if clone else part)
        start, shape = end, out
    return StagedGraph(
        stages=parts[:-1],
        head=parts[-1],
        input_shape=graph.input_shape,
        boundaries=[point.shape for point in chosen],
        layouts=[point.layout for point in chosen],
        cuts=tuple(point.name for point in chosen),
    )


def _part(module: fx.GraphModule, start: fx.Node, end: fx.Node) -> fx.GraphModule:
    """The graph from the tensor `start` (its input) to the tensor `end`."""
    graph = fx.Graph()
    entry = graph.placeholder("x")
    copies = {start: entry}
    for node in _needed(start, end, module.graph):
        if reads_batch_size(node):
            copies[node] = graph.call_function(torch.ops.aten.sym_size.int, (entry, 0))
        else:
            copies[node] = graph.node_copy(node, lambda source: copies[source])
    graph.output(copies[end])
    part = fx.GraphModule(module, graph)
    graph.lint()
    return part


def _needed(start: fx.Node, end: fx.Node, graph: fx.Graph) -> list[fx.Node]:
    """The nodes that `end` follows from, without `start` and what lies before it; in the graph's order."""
    found: set[fx.Node] = set()
    open_nodes = [end]
    while open_nodes:
        node = open_nodes.pop()
        if node in found or node is start:
            continue
        found.add(node)
        if not reads_batch_size(node):
            open_nodes.extend(node.all_input_nodes)
    return [node for node in graph.nodes if node in found]
