"""The kinds of operators that the rest of this package tells apart, by their aten names."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d", "convolution", "_convolution"})
TRANSPOSED = frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
PRODUCTS = frozenset({"linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "mv", "dot", "einsum"})
ATTENTION = frozenset({"scaled_dot_product_attention"})
WEIGHTED = CONVOLUTIONS | TRANSPOSED | PRODUCTS | ATTENTION
"""Operators that have MACs."""

NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "native_layer_norm"})
DROPOUTS = frozenset({"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"})
SPLITTERS = frozenset({"chunk", "split", "split_with_sizes", "tensor_split", "unbind"})
REARRANGING = SPLITTERS | frozenset(
    {
        "alias", "channel_shuffle", "clone", "contiguous", "detach", "expand", "expand_as", "flatten", "getitem",
        "movedim", "narrow", "permute", "pixel_shuffle", "pixel_unshuffle", "reshape", "select", "slice", "squeeze",
        "swapaxes", "t", "transpose", "unflatten", "unsqueeze", "view", "view_as",
    }
)  # fmt: skip
"""Operators that move or rename elements and compute nothing."""

REDUCTIONS = frozenset(
    {"adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "amax", "mean", "sum"}
)
RECURRENT = frozenset(
    {"gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell"}
)
DATA_TO_PYTHON = frozenset({"item", "_local_scalar_dense", "is_nonzero", "equal"})
CHECKS = frozenset(
    {
        "_assert_async",
        "_assert_scalar",
        "_assert_tensor_metadata",
        "sym_constrain_range",
        "sym_constrain_range_for_size",
    }
)


def name_of(node: fx.Node) -> str:
    """The operator's name without namespace and overload (``conv2d``), or "" for a node that is no call."""
    if node.op != "call_function":
        return ""
    if node.target is operator.getitem:
        return "getitem"
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.name.split("::")[1]
    return str(getattr(node.target, "__name__", node.target))


def reads_batch_size(node: fx.Node) -> bool:
    """Whether a node reads the batch size from the graph's input, which every stage can read from its own."""
    source = node.args[0] if name_of(node) == "sym_size" else None
    return isinstance(source, fx.Node) and source.op == "placeholder" and node.args[1:] == (0,)


def argument(node: fx.Node, name: str) -> Any:
    """The value of an aten call's argument by its name in the schema, its default where it is not given."""
    assert isinstance(node.target, torch._ops.OpOverload)
    for position, slot in enumerate(node.target._schema.arguments):
        if slot.name == name:
            if position < len(node.args):
                return node.args[position]
            return node.kwargs.get(name, slot.default_value)
    raise KeyError(name)


def set_argument(node: fx.Node, name: str, value: Any) -> None:
    """Change one argument of an aten call; arguments before it are written out."""
    assert isinstance(node.target, torch._ops.OpOverload)
    slots = node.target._schema.arguments
    position = next(i for i, slot in enumerate(slots) if slot.name == name)
    if name in node.kwargs or slots[position].kwarg_only:
        node.kwargs = {**node.kwargs, name: value}
        return
    args = [*node.args, *(slot.default_value for slot in slots[len(node.args) : position + 1])]
    args[position] = value
    node.args = tuple(args)


def source_place(node: fx.Node) -> str:
    """Where a node comes from: its name, and the line of model code that made it if export kept one."""
    from ebbtide.model.origin import line_of_trace

    line = line_of_trace(node.meta.get("stack_trace"))
    path = module_path(node)
    where = ", ".join(part for part in (path, line) if part)
    return f"node {node.name}" + (f" ({where})" if where else "")


def module_path(node: fx.Node) -> str:
    """The path of the innermost source module that made a node (``layer1.0.relu``), or ""."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(value[0]) for key, value in stack.items() if "_empty_nn_module_stack" not in key]
    return paths[-1].removeprefix("L['self'].").removeprefix("L['self']") if paths else ""
