"""Reordering the units of a graph, and the plain smaller graph that keeps a prefix of each group."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from ebbtide.errors import EbbtideError
from ebbtide.model.coupling.groups import Coupling, Widths
from ebbtide.model.coupling.slots import varying
from ebbtide.model.coupling.values import along
from ebbtide.model.graph import Graph, attribute, replace_parameter
from ebbtide.model.operators import CONVOLUTIONS, argument, name_of, reads_batch_size, set_argument

_RESHAPING = {"view": "size", "reshape": "shape", "_unsafe_view": "size", "expand": "size", "unflatten": "sizes"}


def permute(graph: Graph, coupling: Coupling, orders: Mapping[str, NDArray[np.int64]]) -> None:
    """Reorder units in place; the function stays.

    Args:
        graph: the graph that the coupling was found in.
        coupling: its groups.
        orders: by group, (size,): the unit that comes to stand first, second, ...

    Raises:
        EbbtideError: ``model.order`` for an order that is no permutation of its group.
    """
    state = graph.state()
    places = {key: np.arange(len(atoms)) for key, atoms in coupling.axes().items()}
    for name, order in orders.items():
        group = coupling.group(name)
        if sorted(order) != list(range(group.size)):
            raise EbbtideError(
                "model.order",
                f"The order of {name} is no permutation of its {group.size} units",
                place=name,
                hint="Give each unit once.",
            )
        for member in group.members:
            places[member.tensor, member.axis][member.positions] = member.positions[order]
    with torch.no_grad():
        for (tensor, axis), index in places.items():
            if (index != np.arange(len(index))).any():
                state[tensor].copy_(state[tensor].index_select(axis, torch.from_numpy(index).to(state[tensor].device)))


def slice_state(coupling: Coupling, state: Mapping[str, torch.Tensor], widths: Widths) -> dict[str, torch.Tensor]:
    """Every tensor of a state at these widths.

    Views of the same storage where what stays lies side by side (a prefix, after ordering), else copies; gradients
    flow back to the whole tensors either way.
    """
    return Slices(coupling, widths)(state)


class Slices:
    """`slice_state` at fixed widths, worked out once for many states.

    Args:
        coupling: the groups.
        widths: units to keep by group.
    """

    def __init__(self, coupling: Coupling, widths: Widths) -> None:
        self._cuts: dict[str, list[tuple[int, int, int, torch.Tensor | None]]] = {}
        for (tensor, axis), index in coupling.places(widths).items():
            start, count = int(index[0]), len(index)
            gaps = None if index[-1] - start + 1 == count else torch.from_numpy(index)
            self._cuts.setdefault(tensor, []).append((axis, start, count, gaps))

    def __call__(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Every tensor of a state."""
        return {name: self._sliced(name, tensor) for name, tensor in state.items()}

    def _sliced(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        for axis, start, count, gaps in self._cuts.get(name, ()):
            if gaps is None:
                tensor = tensor.narrow(axis, start, count)
            else:
                tensor = tensor.index_select(axis, gaps.to(tensor.device))
        return tensor


def narrow(graph: Graph, coupling: Coupling, widths: Widths) -> Graph:
    """The plain graph that computes with a prefix of each group: its own contiguous tensors, sizes written anew.

    Args:
        graph: the whole graph, units ordered.
        coupling: its groups, found in it or in a copy of it.
        widths: units to keep by group.

    Raises:
        EbbtideError: ``model.width`` for an unknown group or a width out of its range.
    """
    _check(coupling, widths)
    small = graph.copy()
    for name, tensor in slice_state(coupling, graph.state(), widths).items():
        if tensor.shape != attribute(small.module, name).shape:
            replace_parameter(small.module, name, tensor.detach().clone(memory_format=torch.contiguous_format))
    stays = coupling.kept(widths)
    twins = dict(zip(graph.module.graph.nodes, small.module.graph.nodes, strict=True))
    for node, twin in twins.items():
        if node.op == "call_function":
            _rewrite(_Sizes(coupling, stays), node, twin)
    small.refresh()
    return small


def _check(coupling: Coupling, widths: Widths) -> None:
    known = {group.name: group.size for group in coupling.groups}
    for name, width in widths.items():
        if name not in known or not 1 <= width <= known[name]:
            raise EbbtideError(
                "model.width",
                f"Group {name} cannot have {width} units" if name in known else f"There is no group {name}",
                expected=f"1 to {known[name]}" if name in known else f"one of {', '.join(known)}",
                found=str(width),
                place=name,
                hint="`ebb inspect --groups` lists the groups and their sizes.",
            )


class _Sizes:
    """What stays along the axes of the graph's tensors."""

    def __init__(self, coupling: Coupling, stays: NDArray[np.bool_]) -> None:
        self.coupling = coupling
        self.stays = stays

    def masks(self, node: fx.Node, index: int = 0) -> dict[int, NDArray[np.bool_]]:
        """For each axis of a node's tensor that loses something, what stays along it."""
        values = self.coupling.labelling.values.get(node.name, ())
        found: dict[int, NDArray[np.bool_]] = {}
        for labels in values[index].fields if index < len(values) else ():
            atoms = self.coupling.atoms(labels)
            for axis in varying(atoms):
                mask = self.stays[along(atoms, axis).numpy()]
                if not mask.all():
                    found[axis] = found[axis] & mask if axis in found else mask
        return found


def _rewrite(sizes: _Sizes, node: fx.Node, twin: fx.Node) -> None:
    name = name_of(node)
    source = node.args[0] if node.args else None
    before = sizes.masks(source) if isinstance(source, fx.Node) else {}
    if name in CONVOLUTIONS:
        _rewrite_groups(node, twin, before)
    elif name in _RESHAPING:
        after = sizes.masks(node)
        key = _RESHAPING[name]
        asked = list(argument(twin, key))
        first = int(argument(node, "dim")) % len(_shape(source)) if name == "unflatten" else 0
        for axis, mask in after.items():
            if 0 <= axis - first < len(asked):
                asked[axis - first] = _count(twin, asked[axis - first], mask)
        set_argument(twin, key, asked)
    elif name == "layer_norm" and before:
        shape = list(argument(node, "normalized_shape"))
        rank = len(_shape(source))
        for axis, mask in before.items():
            if axis >= rank - len(shape):
                shape[axis - rank + len(shape)] = int(mask.sum())
        set_argument(twin, "normalized_shape", shape)
    elif name == "group_norm" and 1 in before:
        rows = before[1].reshape(int(argument(node, "num_groups")), -1)
        set_argument(twin, "num_groups", int(rows.any(axis=1).sum()))
    elif name in ("chunk", "split", "split_with_sizes") and before:
        _rewrite_split(sizes, node, twin)
    elif name in ("slice", "narrow") and before:
        _rewrite_slice(node, twin, before)
    elif name in ("constant_pad_nd", "pad"):
        _rewrite_pad(sizes, node, twin)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _count(twin: fx.Node, asked: Any, mask: NDArray[np.bool_]) -> Any:
    """A size as it is to be written: -1 stays, and a multiple of the batch becomes another multiple."""
    count = int(mask.sum())
    if isinstance(asked, fx.Node):
        graph = twin.graph
        batch = next(node for node in graph.nodes if reads_batch_size(node))
        with graph.inserting_before(twin):
            return graph.call_function(operator.mul, (batch, count))
    return asked if asked == -1 else count


def _rewrite_groups(node: fx.Node, twin: fx.Node, before: dict[int, NDArray[np.bool_]]) -> None:
    groups = int(argument(node, "groups"))
    if groups > 1 and 1 in before:
        set_argument(twin, "groups", int(before[1].reshape(groups, -1).any(axis=1).sum()))


def _rewrite_split(sizes: _Sizes, node: fx.Node, twin: fx.Node) -> None:
    axis = int(argument(node, "dim"))
    parts = sizes.coupling.labelling.values[node.name]
    axis %= len(parts[0].shape)
    counts = []
    for index, value in enumerate(parts):
        mask = sizes.masks(node, index).get(axis)
        counts.append(value.shape[axis] if mask is None else int(mask.sum()))
    twin.target = torch.ops.aten.split_with_sizes.default
    twin.args = (twin.args[0], counts, axis)
    twin.kwargs = {}


def _rewrite_slice(node: fx.Node, twin: fx.Node, before: dict[int, NDArray[np.bool_]]) -> None:
    source = node.args[0]
    rank = len(_shape(source))
    axis = int(argument(node, "dim")) % rank
    if axis not in before:
        return
    size = len(before[axis])
    if name_of(node) == "slice":
        start, end, _ = slice(argument(node, "start"), argument(node, "end")).indices(size)
        set_argument(twin, "start", int(before[axis][:start].sum()))
        set_argument(twin, "end", int(before[axis][:end].sum()))
    else:
        start, length = int(argument(node, "start")) % size, int(argument(node, "length"))
        set_argument(twin, "start", int(before[axis][:start].sum()))
        set_argument(twin, "length", int(before[axis][start : start + length].sum()))


def _rewrite_pad(sizes: _Sizes, node: fx.Node, twin: fx.Node) -> None:
    pad = list(argument(node, "pad"))
    rank = len(_shape(node))
    for axis, mask in sizes.masks(node).items():
        step = rank - 1 - axis
        if 2 * step < len(pad):
            before, after = max(pad[2 * step], 0), max(pad[2 * step + 1], 0)
            pad[2 * step] = int(mask[:before].sum()) if before else pad[2 * step]
            pad[2 * step + 1] = int(mask[len(mask) - after :].sum()) if after else pad[2 * step + 1]
    set_argument(twin, "pad", pad)
