"""One walk over a graph that finds out which unit every element of every tensor belongs to.

Operators that move elements are simply applied to the labels, so every index map (flatten, shuffle, chunk, windows) is
exact by construction. Operators that compute have a rule (`rules_*.py`) that says what must be the same unit, what must
go together, and what must stay. A new operator is a line in the tables below, or a rule of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from ebbtide.model.coupling.rules_moving import cat, move, pad, stack
from ebbtide.model.coupling.rules_plain import pointwise, pool, reduce, same_shape, unknown
from ebbtide.model.coupling.rules_products import attention, product
from ebbtide.model.coupling.rules_weighted import convolution, linear, norm
from ebbtide.model.coupling.values import Value
from ebbtide.model.coupling.walk import Labelling, Walk, is_value, leaves
from ebbtide.model.graph import Graph
from ebbtide.model.operators import CONVOLUTIONS, DROPOUTS, NORMS, REARRANGING, name_of

Rule = Callable[..., Any]

_POOLS = frozenset(
    f"{kind}_pool{n}d" for kind in ("avg", "max", "adaptive_avg", "adaptive_max", "lp") for n in (1, 2, 3)
) | frozenset(f"upsample_{kind}{n}d" for kind in ("nearest", "_nearest_exact", "bilinear") for n in ("", 1, 2, 3))
_REDUCING = frozenset({"mean", "sum", "amax", "amin", "prod", "var", "std", "logsumexp", "norm"})
_SOFT = frozenset({"softmax", "_softmax", "log_softmax", "_log_softmax"})
_PASSING = DROPOUTS | {"to", "_to_copy", "type_as", "lift_fresh_copy", "celu", "selu", "prelu"}
_MOVING = REARRANGING | {"roll", "flip", "repeat", "tile", "index", "index_select", "unsafe_chunk", "_unsafe_view"}
_ACTIVATIONS = frozenset(
    {"elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_sigmoid", "mish", "relu6"}
    | {"silu", "softplus", "softshrink", "threshold"}
)
"""Element by element, whether or not torch tags them so."""

_INNER = frozenset({"matmul", "bmm", "mm"})

_SPECIAL: dict[str, Rule] = {
    "linear": linear,
    "cat": cat,
    "stack": stack,
    "constant_pad_nd": pad,
    "pad": pad,
    "scaled_dot_product_attention": attention,
    "clone": same_shape,
    "contiguous": same_shape,
}
_FAMILIES: tuple[tuple[frozenset[str], Rule], ...] = (
    (CONVOLUTIONS, convolution),
    (NORMS, norm),
    (_POOLS, pool),
    (_REDUCING, reduce),
    (_SOFT | _ACTIVATIONS, same_shape),
    (frozenset(_PASSING), same_shape),
    (_INNER, product),
    (_MOVING, move),
)


def label(graph: Graph) -> Labelling:
    """Walk over a graph."""
    walk = Walk(graph)
    for node in graph.module.graph.nodes:
        if node.op == "output":
            _keep_classes(walk, node)
            continue
        result = walk.env[node] = _result(walk, node)
        values = tuple(v for v in (result if isinstance(result, (tuple, list)) else (result,)) if isinstance(v, Value))
        if values:
            walk.found.values[node.name] = values
    return walk.found


def _keep_classes(walk: Walk, output: fx.Node) -> None:
    for value in walk.found.values.get(output.all_input_nodes[0].name, ()):
        for labels in value.fields:
            walk.slots.freeze(labels, "the classifier's outputs are the classes")


def _result(walk: Walk, node: fx.Node) -> Any:
    if node.op == "placeholder":
        return Value(walk.shape(node))
    if node.op == "get_attr":
        return walk.parameter(node)
    given: Any = fx.node.map_arg((node.args, node.kwargs), lambda source: walk.env[source])
    args, kwargs = given
    if not any(is_value(value) for value in leaves(args, kwargs)):
        return node.target(*args, **kwargs)  # type: ignore[operator]  # sizes, constants, index tables
    name = name_of(node)
    if name == "sym_size":
        return args[0].shape[args[1]]
    return _rule(node, name)(walk, node, *args, **kwargs)


def _rule(node: fx.Node, name: str) -> Rule:
    if name in _SPECIAL:
        return _SPECIAL[name]
    for names, rule in _FAMILIES:
        if name in names:
            return rule
    if isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags:
        return pointwise
    if node.target in (operator.add, operator.sub, operator.mul, operator.truediv):
        return pointwise
    return unknown
