"""Which weights of a graph can carry the hybrid pattern, and the one two-dimensional order that all of it uses.

A weight (c_out, c_in, *kernel) is seen as a matrix: a row for each output channel, and columns (*kernel, c_in) with
c_in running fastest. Scores, blocks, groups of M and the packed format are all of this matrix. Method: CRISP, Aggarwal
et al., DATE 2024 (arXiv:2311.14272), with its two orders of indices made one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from ebbtide.errors import EbbtideError
from ebbtide.model import Graph, Widths, cost, coupling_groups
from ebbtide.model.graph import attribute
from ebbtide.model.operators import CONVOLUTIONS, WEIGHTED, argument, name_of

Carries = Literal["blocks", "groups", "nothing"]
Levels = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """Sizes of the pattern.

    Args:
        block: edge b of the square blocks, 1 or more, a multiple of M.
        n: weights kept of each M consecutive input channels, 1..M; n = m keeps all.
        m: M, 1 or more.

    Raises:
        EbbtideError: ``sparsity.shape`` for sizes that do not fit each other.
    """

    block: int = 16
    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if self.block < 1 or not 1 <= self.n <= self.m or self.block % self.m:
            raise EbbtideError(
                "sparsity.shape",
                "The sizes of the pattern do not fit each other",
                expected="1 <= n <= m, and a block edge that is a multiple of m",
                found=f"blocks of {self.block}, {self.n} of {self.m}",
                place="sparsity",
                hint="Blocks of 8, 16 or 32 with 2 of 4 are common.",
            )


@dataclass(frozen=True)
class Layer:
    """A weight, and how much of the pattern it carries.

    Args:
        name: of the weight in the graph's state.
        size: its shape.
        carries: "blocks": blocks and N:M inside them; "groups": N:M only; "nothing": it stays dense.
        reason: why it does not carry blocks; "" where it does.
        macs: true multiply-accumulates of all operators that read it, per sample.
        row_level: for each output channel the narrowest width level that has it, from 0; (c_out,).
        column_level: the same for each input channel; (c_in,).
    """

    name: str
    size: tuple[int, ...]
    carries: Carries
    reason: str
    macs: int
    row_level: Levels = field(repr=False)
    column_level: Levels = field(repr=False)

    @property
    def rows(self) -> int:
        """R: output channels."""
        return self.size[0]

    @property
    def inputs(self) -> int:
        """c_in: input channels."""
        return self.size[1]

    @property
    def places(self) -> int:
        """How many positions the kernel has."""
        return math.prod(self.size[2:])

    @property
    def weights(self) -> int:
        """How many numbers the weight has."""
        return math.prod(self.size)

    def grid(self, block: int) -> tuple[int, int]:
        """H and V: rows and columns of blocks."""
        return self.rows // block, self.places * self.inputs // block

    def bands(self, block: int) -> tuple[NDArray[np.int64], ...]:
        """For each width level that adds input channels, the block columns that it adds, ascending.

        All kernel positions of the same channels are in one band. Without width levels there is one band of all.
        """
        levels = np.tile(self.column_level[::block], self.places)
        return tuple(np.flatnonzero(levels == level) for level in np.unique(levels))


def matrix(weight: torch.Tensor) -> torch.Tensor:
    """A weight (c_out, c_in, *kernel) as (c_out, columns), columns (*kernel, c_in) with c_in running fastest."""
    return weight.movedim(1, -1).reshape(weight.shape[0], -1)


def tensor(rows: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The weight of that shape whose `matrix` is given; a view."""
    return rows.reshape(size[0], *size[2:], size[1]).movedim(-1, 1)


def layers_of(graph: Graph, shape: Shape, levels: Sequence[Widths] = ()) -> tuple[Layer, ...]:
    """Every weight of a graph's convolutions and products, in the order they run, and what it carries.

    Blocks and N:M go where both channel counts are multiples of the block edge. The layer that reads the input and
    grouped convolutions stay dense; the last layer, whose rows are classes, and layers that do not divide carry N:M
    only where their input channels are a multiple of M. With width levels, a layer in which a block (or a group of M)
    would lie on both sides of a level's edge does not carry blocks (or N:M).

    Args:
        graph: the model; with levels, its units in their final order.
        shape: of the pattern.
        levels: widths of the narrower levels, ascending, by coupling group; the whole graph is the last one.

    Raises:
        EbbtideError: ``sparsity.nothing_to_prune`` where no layer carries any of the pattern.
    """
    edges = _edges(graph, levels)
    macs = {node.name: node.macs for node in cost(graph.module, graph.input_shape).nodes}
    readers: dict[str, list[fx.Node]] = {}
    for node in graph.module.graph.nodes:
        for name in _weights(graph, node):
            readers.setdefault(name, []).append(node)
    first, last = _ends(graph)
    found = []
    for name, nodes in readers.items():
        size = tuple(attribute(graph.module, name).shape)
        level = [edges.get((name, axis), np.zeros(size[axis], np.int64)) for axis in (0, 1)]
        dense = next((reason for node in nodes if (reason := _stays_dense(node, name, first))), "")
        whole = "its rows are the classes" if any(node in last for node in nodes) else ""
        carries, reason = _fits(size, shape, level[0], level[1], dense, whole)
        total = sum(macs[node.name] for node in nodes)
        found.append(Layer(name, size, carries, reason, total, level[0], level[1]))
    if all(layer.carries == "nothing" for layer in found):
        raise EbbtideError(
            "sparsity.nothing_to_prune",
            "No layer of the model can carry blocks or N:M",
            found="; ".join(f"{layer.name}: {layer.reason}" for layer in found[:4]) or "no weights",
            place="sparsity",
            hint="Choose a smaller block or another m, or the pattern channels.",
        )
    return tuple(found)


def _weights(graph: Graph, node: fx.Node) -> Iterator[str]:
    """Names of the tensors of two and more axes that a weighted operator reads directly."""
    if name_of(node) not in WEIGHTED:
        return
    for source in node.all_input_nodes:
        if source.op == "get_attr":
            value = attribute(graph.module, str(source.target))
            if isinstance(value, torch.Tensor) and value.dim() >= 2:
                yield str(source.target)


def _stays_dense(node: fx.Node, name: str, first: set[fx.Node]) -> str:
    op = name_of(node)
    plain = op in CONVOLUTIONS or op == "linear"
    if not plain or str(getattr(argument(node, "weight"), "target", "")) != name:
        return f"it is read by {op}; only convolutions and linear layers carry the pattern"
    if op in ("convolution", "_convolution") and argument(node, "transposed"):
        return "it is a transposed convolution"
    if op in CONVOLUTIONS and argument(node, "groups") > 1:
        return f"it is a convolution of {argument(node, 'groups')} groups"
    return "it reads the model's input" if node in first else ""


def _fits(
    size: Sequence[int], shape: Shape, rows: Levels, columns: Levels, dense: str, whole: str
) -> tuple[Carries, str]:
    """What a weight carries by what was said against it, its sizes and level edges; and why not blocks."""
    if dense:
        return "nothing", dense
    if size[1] % shape.m:
        return "nothing", f"{size[1]} input channels are no multiple of {shape.m}"
    if _straddles(columns, shape.m):
        return "nothing", f"a group of {shape.m} input channels would lie on both sides of a width's edge"
    if whole:
        return "groups", whole
    for count, what in ((size[1], "input"), (size[0], "output")):
        if count % shape.block:
            return "groups", f"{count} {what} channels are no multiple of {shape.block}"
    for level, what in ((columns, "input"), (rows, "output")):
        if _straddles(level, shape.block):
            return "groups", f"a block of {shape.block} {what} channels would lie on both sides of a width's edge"
    return "blocks", ""


def _straddles(levels: Levels, edge: int) -> bool:
    chunks = levels.reshape(-1, edge)
    return bool((chunks != chunks[:, :1]).any())


def _edges(graph: Graph, levels: Sequence[Widths]) -> dict[tuple[str, int], Levels]:
    """(tensor, axis) -> for each place along it the narrowest level that keeps it."""
    found: dict[tuple[str, int], Levels] = {}
    if not levels:
        return found
    coupling = coupling_groups(graph)
    state: Mapping[str, torch.Tensor] = graph.state()
    for level in reversed(range(len(levels))):
        kept = coupling.places(levels[level])
        for name, axis in coupling.axes():
            place = found.setdefault((name, axis), np.full(state[name].shape[axis], len(levels), np.int64))
            place[kept.get((name, axis), slice(None))] = level
    return found


def _ends(graph: Graph) -> tuple[set[fx.Node], set[fx.Node]]:
    """Operators with a weight that no other such operator comes before on the way from the input, or after."""
    first: set[fx.Node] = set()
    raw: set[fx.Node] = set()
    for node in graph.module.graph.nodes:
        if node.op == "placeholder":
            raw.add(node)
        elif any(source in raw for source in node.all_input_nodes):
            if any(_weights(graph, node)):
                first.add(node)
            elif node.op == "call_function" and name_of(node) != "sym_size":
                raw.add(node)
    last: set[fx.Node] = set()
    waiting, seen = [graph.logits], set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if any(_weights(graph, node)):
            last.add(node)
        else:
            waiting += node.all_input_nodes
    return first, last
