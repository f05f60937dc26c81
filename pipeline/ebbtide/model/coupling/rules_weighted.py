"""Operators with weights: where units are made, and where they are contracted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import fx

from ebbtide.model.coupling.slots import Labels, varying
from ebbtide.model.coupling.values import Value, along, carry, resized, spread
from ebbtide.model.coupling.walk import Walk
from ebbtide.model.operators import argument, name_of


def linear(walk: Walk, node: fx.Node, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """The last axis is contracted; the outputs are new units."""
    shape, last = walk.shape(node), len(x.shape) - 1
    x = walk.opened(x)
    if weight.parameter is None:
        for labels in x.fields:
            walk.freeze(labels, node, "its weights are computed in the graph")
        return walk.bare(node)
    inner, passing = channels(walk, node, x, last)
    if inner is not None:
        walk.attach(weight, 1, inner)
    units = walk.units_of(weight)
    if bias is not None:
        walk.attach(bias, 0, units)
    made = carry(walk.slots, [spread(units, last, shape), *(resized(labels, shape) for labels in passing)])
    return replace(made, shape=shape)


def channels(walk: Walk, node: fx.Node, x: Value, axis: int) -> tuple[Labels | None, list[Labels]]:
    """The units along the axis that an operator contracts, and the fields that it lets through."""
    here = x.on(axis)
    passing = [labels for labels in x.fields if axis not in varying(labels)]
    if not here:
        return None, passing
    if len(here) > 1:
        for labels in here:
            walk.freeze(labels, node, "two families of channels lie along one axis")
        return None, passing
    if varying(here[0]) != {axis}:
        # The same unit at every other place: (heads, positions) of a flattened map, say.
        flat = along(here[0], axis)
        walk.slots.tie(here[0], spread(flat, axis, x.shape))
        return flat, passing
    return along(here[0], axis), passing


def convolution(
    walk: Walk, node: fx.Node, x: Value, weight: Value, bias: Value | None = None, *rest: Any, **_: Any
) -> Value:
    """Channels are contracted, in groups where there are any; the outputs are new units."""
    shape = walk.shape(node)
    transposed = name_of(node) in ("convolution", "_convolution") and bool(argument(node, "transposed"))
    if weight.parameter is None or transposed:
        for labels in x.fields:
            walk.freeze(labels, node, "transposed, or its weights are computed in the graph")
        return walk.bare(node)
    inner, passing = channels(walk, node, x, 1)
    for labels in [labels for labels in passing if varying(labels) - {0}]:
        walk.freeze(labels, node, "a convolution runs over these units as positions")
    units = walk.units_of(weight)
    groups = int(argument(node, "groups"))
    if groups > 1:
        grouped(walk, node, inner, units, groups, weight)
    elif inner is not None:
        walk.attach(weight, 1, inner)
    if bias is not None:
        walk.attach(bias, 0, units)
    return replace(carry(walk.slots, [spread(units, 1, shape)]), shape=shape)


def grouped(walk: Walk, node: fx.Node, inner: Labels | None, units: Labels, groups: int, weight: Value) -> None:
    """Groups of a convolution keep one size: whole groups can go, or the same channels of each."""
    outer = units.reshape(groups, -1)
    size = weight.shape[1]
    if inner is None:
        # The input's channels stay, so every group stays and loses the same outputs.
        walk.slots.tie(outer, outer[:1])
        return
    inputs = inner.reshape(groups, size)
    if size == 1 and outer.shape[1] == 1:
        walk.slots.same(inputs, outer)
    elif size == 1 or groups >= size:
        walk.slots.tie(inputs, inputs[:, :1])
        walk.slots.tie(outer, inputs[:, :1])
    else:
        walk.slots.tie(inputs, inputs[:1])
        walk.slots.tie(outer, outer[:1])
        walk.attach(weight, 1, inputs[0])


def norm(walk: Walk, node: fx.Node, x: Value, *_args: Any, **_kwargs: Any) -> Any:
    """A norm's own parameters carry the units that it normalises; a group norm keeps groups of one size."""
    name = name_of(node)
    x = walk.opened(x)
    parameters = [v for v in (walk.env.get(n) for n in node.all_input_nodes[1:]) if isinstance(v, Value)]
    if name in ("layer_norm", "native_layer_norm", "rms_norm"):
        size = len(argument(node, "normalized_shape"))
        axes = {len(x.shape) - size + i: i for i in range(size)}
    else:
        axes = {1: 0}
    for labels in x.fields:
        meeting = varying(labels) & set(axes)
        if not meeting:
            continue
        if len(varying(labels)) > 1 or len(meeting) > 1:
            walk.freeze(labels, node, "the norm sees these units along two axes")
            continue
        (axis,) = meeting
        for parameter in parameters:
            walk.attach(parameter, axes[axis], along(labels, axis))
        if name == "group_norm":
            count = int(argument(node, "num_groups"))
            inside = along(labels, 1).reshape(count, -1)
            if inside.shape[1] > 1:
                walk.slots.tie(inside, inside[:1])
    result = replace(x, shape=x.shape)
    return (result, Value(()), Value(())) if name == "native_layer_norm" else result
