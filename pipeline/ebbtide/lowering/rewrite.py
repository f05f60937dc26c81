"""Exact rewrites of a captured graph that make it cheaper or let the delegate take more of it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

_aten = torch.ops.aten
_CONVOLUTIONS = {
    _aten.conv1d.default,
    _aten.conv2d.default,
    _aten.conv1d.padding,
    _aten.conv2d.padding,
}


def fold_batch_norm(module: fx.GraphModule) -> int:
    """Fold every batch norm that directly follows a convolution or a linear layer into its weights.

    Scales are computed in float64 with correctly rounded operations and rounded once, so a channel's folded weights
    depend on that channel alone: a prefix of the channels folds to a prefix of the bytes, on every machine.

    Returns:
        How many were folded.
    """
    folded = 0
    for norm in list(module.graph.nodes):
        if norm.target is not _aten.batch_norm.default or norm.args[5]:
            continue
        layer = norm.args[0]
        if not isinstance(layer, fx.Node) or len(layer.users) != 1 or not _takes_norm(layer):
            continue
        weight, bias = _constant(module, layer.args[1]), None
        has_bias = len(layer.args) > 2 and layer.args[2] is not None
        if has_bias:
            bias = _constant(module, layer.args[2])
        norms = [None if value is None else _constant(module, value) for value in norm.args[1:5]]
        if weight is None or (has_bias and bias is None) or norms[2] is None or norms[3] is None:
            continue
        new_weight, new_bias = _folded(weight, bias, norms=norms, epsilon=_number(norm.args[7]))
        with module.graph.inserting_before(layer):
            weight_node = _attribute(module, f"folded_weight_{folded}", new_weight)
            bias_node = _attribute(module, f"folded_bias_{folded}", new_bias)
        layer.args = (layer.args[0], weight_node, bias_node, *layer.args[3:])
        norm.replace_all_uses_with(layer)
        module.graph.erase_node(norm)
        folded += 1
    _clean(module)
    return folded


def rewrite_for_delegate(module: fx.GraphModule) -> None:
    """Rewrite, bit for bit, what XNNPACK would leave to slow portable kernels.

    Strided slices over space (option A shortcuts) become a depthwise convolution with weights 1; a mean over space
    becomes one that keeps its dimensions, then a view; pooling to 1 x 1 becomes that mean.
    """
    for node in list(module.graph.nodes):
        # A slice that an earlier one took along has lost its arguments.
        if _is_slice(node) and isinstance(node.args[0], fx.Node) and not _is_slice(node.args[0]):
            _subsample(module, node)
        elif node.target is _aten.mean.dim:
            _keep_mean(module, node)
        elif node.target is _aten.adaptive_avg_pool2d.default and _pools_to_one(node):
            node.target, node.args = _aten.mean.dim, (node.args[0], [2, 3], True)
    _clean(module)


def _takes_norm(layer: fx.Node) -> bool:
    # A linear layer's batch norm is over its last dimension only if it puts out (n, features).
    return layer.target in _CONVOLUTIONS or (layer.target is _aten.linear.default and len(_shape(layer)) == 2)


def _folded(
    weight: torch.Tensor, bias: torch.Tensor | None, *, norms: Sequence[torch.Tensor | None], epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    gain, shift, mean, variance = (None if value is None else value.double() for value in norms)
    assert mean is not None
    assert variance is not None
    scale = 1.0 / torch.sqrt(variance + epsilon)
    if gain is not None:
        scale = gain * scale
    new_bias = (-mean if bias is None else bias.double() - mean) * scale
    if shift is not None:
        new_bias = new_bias + shift
    new_weight = weight.double() * scale.reshape(-1, *[1] * (weight.dim() - 1))
    return new_weight.float().contiguous(), new_bias.float().contiguous()


def _subsample(module: fx.GraphModule, first: fx.Node) -> None:
    source = first.args[0]
    shape = _shape(source)
    if len(shape) not in (3, 4) or first.meta["val"].dtype != torch.float32:
        return
    steps, last = [1] * len(shape), first
    chain = [first]
    while len(last.users) == 1 and _is_slice(user := next(iter(last.users))):
        last = user
        chain.append(last)
    for node in chain:
        dim, start, end, step = _slice_arguments(node)
        if start not in (None, 0) or (end is not None and end < shape[dim]) or steps[dim] != 1:
            return
        steps[dim] = step
    if steps[:2] != [1, 1] or max(steps) == 1:
        return
    space = len(shape) - 2
    convolution = _aten.conv2d.default if space == 2 else _aten.conv1d.default
    with module.graph.inserting_before(first):
        ones = _attribute(module, f"ones_{first.name}", torch.ones(shape[1], 1, *[1] * space))
        args = (source, ones, None, steps[2:], [0] * space, [1] * space, shape[1])
        picked = module.graph.call_function(convolution, args)
    picked.meta["val"] = last.meta["val"]
    last.replace_all_uses_with(picked)
    for node in reversed(chain):
        module.graph.erase_node(node)


def _keep_mean(module: fx.GraphModule, node: fx.Node) -> None:
    shape = _shape(node.args[0])
    keeps = len(node.args) > 2 and node.args[2]
    if keeps or node.kwargs or len(shape) != 4 or node.args[1] is None:
        return
    if sorted(dim % 4 for dim in _integers(node.args[1])) != [2, 3]:
        return
    with module.graph.inserting_after(node):
        flat = module.graph.call_function(_aten.flatten.using_ints, (node, 1))
    flat.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(flat, delete_user_cb=lambda user: user is not flat)
    node.args = (node.args[0], [2, 3], True)


def _pools_to_one(node: fx.Node) -> bool:
    return len(_shape(node.args[0])) == 4 and set(_integers(node.args[1])) == {1}


def _slice_arguments(node: fx.Node) -> tuple[int, int | None, int | None, int]:
    values: tuple[Any, ...] = (*node.args, *(None, 0, None, None, 1)[len(node.args) :])
    return values[1], values[2], values[3], values[4]


def _number(value: Any) -> float:
    return float(value)


def _integers(value: Any) -> list[int]:
    return [int(item) for item in value]


def _is_slice(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.target is _aten.slice.Tensor


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _constant(module: fx.GraphModule, node: Any) -> torch.Tensor | None:
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    value = operator.attrgetter(str(node.target))(module)
    return value.detach() if isinstance(value, torch.Tensor) else None


def _attribute(module: fx.GraphModule, name: str, value: torch.Tensor) -> fx.Node:
    module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    node = module.graph.get_attr(name)
    node.meta["val"] = value
    return node


def _clean(module: fx.GraphModule) -> None:
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.graph.lint()
    module.recompile()
