"""Operators without weights that let units through, join them or take them together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import fx

from ebbtide.model.coupling.slots import Labels, varying
from ebbtide.model.coupling.values import Value, carry, resized
from ebbtide.model.coupling.walk import Walk, leaves
from ebbtide.model.operators import argument, name_of


def same_shape(walk: Walk, node: fx.Node, x: Value, *_args: Any, **_kwargs: Any) -> Value:
    """Element by element with one tensor: every unit stays where it is."""
    return replace(walk.opened(x), shape=walk.shape(node))


def pool(walk: Walk, node: fx.Node, x: Value, *_args: Any, **_kwargs: Any) -> Value:
    """Windows over places; units must lie along channels."""
    shape = walk.shape(node)
    for labels in x.fields:
        if varying(labels) - {0, 1}:
            walk.freeze(labels, node, "pooling runs over these units as positions")
    kept = [resized(labels, shape) for labels in x.fields if not varying(labels) - {0, 1}]
    return replace(carry(walk.slots, kept), shape=shape) if kept else walk.bare(node)


def reduce(walk: Walk, node: fx.Node, x: Value, *_args: Any, **_kwargs: Any) -> Value:
    """Sums, means and other reductions: the units of a reduced axis end here."""
    x = walk.opened(x)
    dims = argument(node, "dim")
    axes = {d % len(x.shape) for d in ([dims] if isinstance(dims, int) else dims or range(len(x.shape)))}
    keep = bool(argument(node, "keepdim"))
    fields = [labels for labels in x.fields if not varying(labels) & axes]
    for labels in x.fields:
        if varying(labels) & axes and varying(labels) - axes:
            walk.freeze(labels, node, "a reduction takes a part of these units together")
    if not fields:
        return walk.bare(node)
    return replace(carry(walk.slots, [labels.amax(sorted(axes), keep) for labels in fields]), shape=walk.shape(node))


def pointwise(walk: Walk, node: fx.Node, *args: Any, **kwargs: Any) -> Value:
    """Element by element with several tensors, broadcast to one shape."""
    shape = walk.shape(node)
    given = leaves(args, kwargs)
    operands = [walk.opened(v).aligned(shape) for v in given if isinstance(v, (Value, torch.Tensor))]
    return replace(joined(walk, node, operands, shape), shape=shape)


def joined(walk: Walk, node: fx.Node, operands: list[Value], shape: tuple[int, ...]) -> Value:
    """Units that meet element by element are the same."""
    firm = [v for v in operands if not v.loose]
    fields: list[Labels] = []
    for value in [*firm, *(v for v in operands if v.loose)]:
        for labels in value.fields:
            meeting = [one for one in fields if varying(one) & varying(labels)]
            if len(meeting) == 1:
                exact = value.loose or varying(meeting[0]) == varying(labels)
                (walk.slots.same if exact else walk.slots.tie)(meeting[0], labels)
            elif meeting or (value.loose and firm):
                for one in (labels, *meeting):
                    walk.freeze(one, node, "its operands carry units that do not correspond")
            else:
                fields.append(labels)
    for labels in fields:
        for value in firm:
            bare = not any(varying(own) & varying(labels) for own in value.fields)
            if bare and any(value.shape[axis] > 1 for axis in varying(labels)):
                walk.freeze(labels, node, "its other operand has channels that always stay")
    made = carry(walk.slots, fields) if fields else Value(shape)
    return replace(made, loose=not firm)


def unknown(walk: Walk, node: fx.Node, *args: Any, **kwargs: Any) -> Any:
    """An operator without a rule: whatever it takes stays whole."""
    given = leaves(args, kwargs)
    for value in given:
        if isinstance(value, Value):
            for labels in value.fields:
                walk.freeze(labels, node, f"the operator {name_of(node)} is not known here")
    fake = walk.fakes[node]
    if isinstance(fake, (tuple, list)):
        return tuple(Value(tuple(int(s) for s in one.shape)) for one in fake)
    return walk.bare(node)
