"""What a graph costs: multiply-accumulates, parameters, weight bytes, peak activation. Per sample, at batch 1.

A multiply-accumulate (MAC) is counted for every product in a convolution, linear layer, matrix product or attention;
biases, norms (folded into their convolutions when lowered), activations, pooling and softmax are not counted.
torch.utils.flop_counter.FlopCounterMode counts twice these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from ebbtide.model.graph import attribute
from ebbtide.model.operators import REARRANGING, name_of
from ebbtide.model.shapes import propagate


@dataclass(frozen=True)
class NodeCost:
    """The cost of one operator.

    Args:
        name: the node's name in the graph.
        op: the operator's aten name, such as conv2d.
        macs: multiply-accumulates per sample.
        parameters: trained numbers that this operator is the first to use; a shared tensor counts once.
        weight_bytes: bytes of those and of buffers, such as running statistics.
        peak_bytes: bytes of the activations it reads and of the one it writes; 0 where no memory moves.
    """

    name: str
    op: str
    macs: int
    parameters: int
    weight_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Cost:
    """The cost of a graph: sums over its operators, and the largest peak among them. Per sample."""

    nodes: tuple[NodeCost, ...]
    macs: int
    parameters: int
    weight_bytes: int
    peak_bytes: int

    def to_json(self) -> dict[str, int]:
        """The sums as JSON values."""
        return {
            "macs": self.macs,
            "parameters": self.parameters,
            "weight_bytes": self.weight_bytes,
            "peak_bytes": self.peak_bytes,
        }


def cost(module: fx.GraphModule, input_shape: Sequence[int]) -> Cost:
    """Count a graph: a whole model, a stage, an exit or a head.

    Args:
        module: a graph of aten operators with one tensor in.
        input_shape: shape of what goes in, without the batch.
    """
    values = propagate(module, input_shape, batch=1)
    activations = depends_on_input(module.graph)
    counted: set[int] = set()
    nodes = []
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        weights = _first_used(module, node, counted)
        nodes.append(
            NodeCost(
                name=node.name,
                op=name_of(node),
                macs=_macs(node, values),
                parameters=sum(tensor.numel() for tensor, trained in weights if trained),
                weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor, _ in weights),
                peak_bytes=_peak_bytes(node, values, activations),
            )
        )
    return Cost(
        nodes=tuple(nodes),
        macs=sum(node.macs for node in nodes),
        parameters=sum(node.parameters for node in nodes),
        weight_bytes=sum(node.weight_bytes for node in nodes),
        peak_bytes=max((node.peak_bytes for node in nodes), default=0),
    )


def depends_on_input(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose tensors follow from the input's values, not only from parameters and the batch size."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        reads = any(source in found for source in node.all_input_nodes) and name_of(node) != "sym_size"
        if node.op == "placeholder" or (node.op != "output" and reads):
            found.add(node)
    return found


def _first_used(module: fx.GraphModule, node: fx.Node, counted: set[int]) -> list[tuple[torch.Tensor, bool]]:
    found = []
    for source in node.all_input_nodes:
        if source.op != "get_attr":
            continue
        tensor = attribute(module, str(source.target))
        if isinstance(tensor, torch.Tensor) and id(tensor) not in counted:
            counted.add(id(tensor))
            found.append((tensor, isinstance(tensor, torch.nn.Parameter)))
    return found


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(_bytes(part) for part in value) if isinstance(value, (tuple, list)) else 0


def _peak_bytes(node: fx.Node, values: Mapping[fx.Node, Any], activations: set[fx.Node]) -> int:
    if name_of(node) in REARRANGING and name_of(node) not in {"clone", "contiguous"}:
        return 0
    if node not in activations:
        return 0
    return _bytes(values[node]) + sum(
        _bytes(values[source]) for source in node.all_input_nodes if source in activations
    )


def _macs(node: fx.Node, values: Mapping[fx.Node, Any]) -> int:
    count = _COUNTERS.get(name_of(node))
    if count is None:
        return 0
    args = fx.node.map_arg(node.args, lambda source: values[source])
    return int(count(args, values[node]))


def _convolution(args: Any, out: torch.Tensor) -> int:
    # Every output value takes one product for each weight of its filter; weight: (out, in / groups, *kernel).
    return int(out.numel() * math.prod(args[1].shape[1:]))


def _general_convolution(args: Any, out: torch.Tensor) -> int:
    transposed = bool(args[6])
    return _transposed(args, out) if transposed else _convolution(args, out)


def _transposed(args: Any, _out: torch.Tensor) -> int:
    # Every input value meets one product for each weight of its filter; weight: (in, out / groups, *kernel).
    return int(args[0].numel() * math.prod(args[1].shape[1:]))


def _product(left: int) -> Callable[[Any, torch.Tensor], int]:
    return lambda args, out: out.numel() * args[left].shape[-1]


def _attention(args: Any, out: torch.Tensor) -> int:
    # softmax(Q K^T) V: (.., L, E) x (.., E, S), then (.., L, S) x (.., S, Ev).
    query, key = args[0], args[1]
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return int(pairs * (query.shape[-1] + out.shape[-1]))


def _einsum(args: Any, out: torch.Tensor) -> int:
    """Pairs from left to right, as torch contracts them; each pair costs the product of all its indices' sizes."""
    equation, operands = args[0].replace(" ", ""), args[1]
    inputs, _, result = equation.partition("->")
    terms = inputs.split(",")
    if "..." in equation:
        terms, result = _spell_out(terms, result, operands, out)
    size = {
        letter: int(n) for term, t in zip(terms, operands, strict=True) for letter, n in zip(term, t.shape, strict=True)
    }
    total, left = 0, set(terms[0])
    for position, term in enumerate(terms[1:], start=1):
        total += math.prod(size[letter] for letter in left | set(term))
        left = (left | set(term)) & set("".join([result, *terms[position + 1 :]]))
    return total


def _spell_out(terms: list[str], result: str, operands: Any, out: torch.Tensor) -> tuple[list[str], str]:
    free = [letter for letter in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if letter not in "".join([*terms, result])]

    def spell(term: str, rank: int) -> str:
        count = rank - len(term.replace("...", ""))
        return term.replace("...", "".join(reversed(free[:count])))

    return [spell(t, o.dim()) for t, o in zip(terms, operands, strict=True)], spell(result, out.dim())


_COUNTERS: dict[str, Callable[[Any, torch.Tensor], int]] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "convolution": _general_convolution,
    "_convolution": _general_convolution,
    "conv_transpose1d": _transposed,
    "conv_transpose2d": _transposed,
    "conv_transpose3d": _transposed,
    "linear": _product(0),
    "matmul": _product(0),
    "mm": _product(0),
    "bmm": _product(0),
    "mv": _product(0),
    "dot": _product(0),
    "addmm": _product(1),
    "baddbmm": _product(1),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
}
