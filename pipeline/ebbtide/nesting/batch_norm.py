"""Batch norm of nested levels: folded into the layer before it, or with statistics of each level's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import fx

from ebbtide.model.graph import Graph
from ebbtide.model.operators import CONVOLUTIONS, argument, name_of, set_argument


@dataclass(frozen=True)
class Fold:
    """A convolution or linear layer that only a batch norm with running statistics reads, by names.

    Args:
        layer: its node.
        norm: the batch norm's node.
        weight: its weight, which nothing else uses.
        bias: its bias.
        scale: the batch norm's weight.
        shift: the batch norm's bias.
        mean: the running mean; the folded bias goes by this name, since every batch norm here has one.
        variance: the running variance.
        eps: what is added to the variance.
    """

    layer: str
    norm: str
    weight: str
    bias: str | None
    scale: str | None
    shift: str | None
    mean: str
    variance: str
    eps: float


def foldable(graph: Graph) -> tuple[Fold, ...]:
    """Every layer that a batch norm in evaluation form can be folded into."""
    nodes = list(graph.module.graph.nodes)
    readers = Counter(
        str(source.target) for node in nodes for source in node.all_input_nodes if source.op == "get_attr"
    )
    found = []
    for norm in nodes:
        if name_of(norm) != "batch_norm" or argument(norm, "running_mean") is None:
            continue
        layer = norm.args[0]
        names = {name: _target(argument(norm, name)) for name in ("weight", "bias", "running_mean", "running_var")}
        if not _takes_norm(layer, norm) or readers[str(names["running_mean"])] != 1:
            continue
        weight = _target(argument(layer, "weight"))
        if weight is None or readers[weight] != 1:
            continue
        found.append(
            Fold(
                layer=layer.name,
                norm=norm.name,
                weight=weight,
                bias=_target(argument(layer, "bias")),
                scale=names["weight"],
                shift=names["bias"],
                mean=str(names["running_mean"]),
                variance=str(names["running_var"]),
                eps=float(argument(norm, "eps")),
            )
        )
    return tuple(found)


def _takes_norm(layer: fx.Node, norm: fx.Node) -> bool:
    """Whether the channels of a layer's result, which the norm alone reads, are the rows of its weight."""
    name = name_of(layer)
    rows = name in CONVOLUTIONS or (name == "linear" and layer.meta["val"].dim() == 2)
    transposed = name in ("convolution", "_convolution") and bool(argument(layer, "transposed"))
    return rows and not transposed and list(layer.users) == [norm]


def _target(node: object) -> str | None:
    return str(node.target) if isinstance(node, fx.Node) and node.op == "get_attr" else None


def fold_nodes(module: fx.GraphModule, folds: Iterable[Fold]) -> None:
    """Take the batch norms out of a graph, in place; it then computes with the tensors of `fold_tensors`."""
    nodes = {node.name: node for node in module.graph.nodes}
    for fold in folds:
        layer, norm = nodes[fold.layer], nodes[fold.norm]
        with module.graph.inserting_before(layer):
            set_argument(layer, "bias", module.graph.get_attr(fold.mean))
        norm.replace_all_uses_with(layer)
        module.graph.erase_node(norm)
    for node in module.graph.nodes:
        if node.op == "get_attr" and not node.users:
            module.graph.erase_node(node)
    module.recompile()


def lift_tensors(module: fx.GraphModule, names: Container[str]) -> tuple[str, ...]:
    """Make those tensors that a graph reads by name inputs after its own, in place; their names in that order."""
    lifted: dict[str, fx.Node] = {}
    entry = next(node for node in module.graph.nodes if node.op == "placeholder")
    for node in list(module.graph.nodes):
        if node.op != "get_attr" or node.target not in names:
            continue
        name = str(node.target)
        if name not in lifted:
            with module.graph.inserting_after(next(reversed(lifted.values()), entry)):
                lifted[name] = module.graph.placeholder(f"tensor_{len(lifted)}")
        node.replace_all_uses_with(lifted[name])
        module.graph.erase_node(node)
    # Written as a plain function: export's own signature knows of one input only.
    module.graph.set_codegen(fx.graph.CodeGen())
    module.recompile()
    return tuple(lifted)


def fold_tensors(folds: Iterable[Fold], tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights and biases of layers with their batch norms folded in, differentiable.

    A prefix of a folded tensor is the folded prefix, so that folding once serves every level.

    Args:
        folds: what `foldable` found.
        tensors: parameters and buffers of the same graph by name.

    Returns:
        By name, the folded weights, and the folded biases under the running means' names.
    """
    found = {}
    for fold in folds:
        weight = tensors[fold.weight]
        factor = (tensors[fold.variance] + fold.eps).rsqrt()
        if fold.scale is not None:
            factor = factor * tensors[fold.scale]
        bias = -tensors[fold.mean] if fold.bias is None else tensors[fold.bias] - tensors[fold.mean]
        bias = bias * factor
        found[fold.mean] = bias if fold.shift is None else bias + tensors[fold.shift]
        found[fold.weight] = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
    return found


def statistics_names(graph: Graph) -> tuple[str, ...]:
    """The running means and variances of a graph by their names in its state."""
    names = (
        _target(argument(node, name))
        for node in graph.module.graph.nodes
        if name_of(node) == "batch_norm"
        for name in ("running_mean", "running_var")
    )
    return tuple(dict.fromkeys(name for name in names if name is not None))


def never_collected(graph: Graph) -> tuple[str, ...]:
    """The running means of batch norms whose statistics are still what they began as: zeros and ones."""
    state = graph.state()
    found = []
    for node in graph.module.graph.nodes:
        mean = _target(argument(node, "running_mean")) if name_of(node) == "batch_norm" else None
        if mean is None:
            continue
        variance = state[str(_target(argument(node, "running_var")))]
        if bool((state[mean] == 0).all()) and bool((variance == 1).all()):
            found.append(mean)
    return tuple(found)


def set_norms(module: fx.GraphModule, *, training: bool, momentum: float | None = None) -> None:
    """Let batch norms that have running statistics use the batch's, or the running ones, in place.

    Args:
        module: the graph; dropout stays as it is.
        training: whether they use the batch's statistics and update the running ones.
        momentum: how fast they update; None leaves that.
    """
    for node in module.graph.nodes:
        if name_of(node) == "batch_norm" and argument(node, "running_mean") is not None:
            set_argument(node, "training", training)
            if momentum is not None:
                set_argument(node, "momentum", momentum)
    module.recompile()
