"""Operators that move elements: they are applied to the labels themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import fx

from ebbtide.model.coupling.rules_plain import joined, unknown
from ebbtide.model.coupling.slots import Labels, varying
from ebbtide.model.coupling.values import Value, carry, moved, nothing, resized, spread
from ebbtide.model.coupling.walk import Walk, is_value, leaves
from ebbtide.model.operators import SPLITTERS, name_of


def move(walk: Walk, node: fx.Node, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Views, permutes, splits, rolls and the like."""
    if isinstance(x, (tuple, list)):
        return x[args[0]]  # getitem of a splitter's results
    if any(is_value(v) for v in leaves(args, kwargs)):
        return unknown(walk, node, x, *args, **kwargs)
    x = walk.opened(x)
    name = name_of(node)
    target: Any = torch.ops.aten.reshape.default if name in ("view", "_unsafe_view") else node.target
    if name in SPLITTERS:
        fakes = walk.fakes[node]
        shapes = [tuple(int(s) for s in one.shape) for one in fakes]
        parts = [[] for _ in shapes]  # type: list[list[Labels]]
        for labels in x.fields:
            for part, piece in zip(parts, target(labels, *args, **kwargs), strict=True):
                part.append(piece)
        made = [carry(walk.slots, part) for part in parts]
        return [replace(v, shape=s, loose=x.loose) for v, s in zip(made, shapes, strict=True)]
    return moved(walk.slots, x, lambda labels: target(labels, *args, **kwargs), walk.shape(node))


def stack(walk: Walk, node: fx.Node, tensors: list[Any], dim: int = 0) -> Value:
    """A concatenation along an axis that is new."""
    dim %= len(walk.shape(node))
    opened = [walk.opened(v) for v in tensors]
    parts = [
        replace(v, shape=(*v.shape[:dim], 1, *v.shape[dim:]), fields=tuple(f.unsqueeze(dim) for f in v.fields))
        for v in opened
    ]
    return cat(walk, node, parts, dim)


def cat(walk: Walk, node: fx.Node, tensors: list[Any], dim: int = 0) -> Value:
    """Units along the joined axis come to stand one after the other; along others they are the same."""
    shape = walk.shape(node)
    dim %= len(shape)
    parts = [walk.opened(v) for v in tensors]
    fields: list[Labels] = []
    # Units along the axis that is joined come to stand one after the other ...
    if any(v.on(dim) for v in parts if not v.loose):
        pieces = []
        for value in parts:
            here = [] if value.loose else value.on(dim)
            if len(here) > 1:
                for labels in here:
                    walk.freeze(labels, node, "two families of channels lie along one axis")
            pieces.append(here[0] if len(here) == 1 else nothing(value.shape))
        fields.append(torch.cat(pieces, dim))
    # ... and units along other axes are the same in all parts.
    thin = [thinned(walk, v, dim) for v in parts]
    if any(v.fields for v in thin):
        other = joined(walk, node, thin, (*shape[:dim], 1, *shape[dim + 1 :]))
        fields += [resized(labels, shape) for labels in other.fields]
    made = carry(walk.slots, fields) if fields else Value(shape)
    return replace(made, shape=shape, loose=all(v.loose for v in parts))


def thinned(walk: Walk, value: Value, axis: int) -> Value:
    """The first place of an axis stands for all: without the units along it, or with loose ones made the same."""
    if value.loose:
        for labels in value.on(axis):
            walk.slots.same(labels, labels.narrow(axis, 0, 1))
    kept = [labels for labels in value.fields if value.loose or axis not in varying(labels)]
    thin = tuple(labels.narrow(axis, 0, 1) for labels in kept)
    return replace(value, shape=(*value.shape[:axis], 1, *value.shape[axis + 1 :]), fields=thin)


def pad(walk: Walk, node: fx.Node, x: Value, pad: list[int], *_args: Any, **_kwargs: Any) -> Value:
    """Padding along an axis of units adds units; along others it adds places."""
    x = walk.opened(x)
    fields = []
    for labels in x.fields:
        for step in range(len(pad) // 2):
            axis = labels.dim() - 1 - step
            before, after = pad[2 * step], pad[2 * step + 1]
            if axis not in varying(labels):
                size = labels.size(axis) + before + after
                labels = labels.narrow(axis, 0, 1).expand(*labels.shape[:axis], size, *labels.shape[axis + 1 :])
                continue
            labels = padded(walk, node, labels, axis, before, after)
        fields.append(labels)
    return replace(carry(walk.slots, fields), shape=walk.shape(node)) if fields else walk.bare(node)


def padded(walk: Walk, node: fx.Node, labels: Labels, axis: int, before: int, after: int) -> Labels:
    """Channels of zeros are units of their own until they meet others."""
    for count, front in ((before, True), (after, False)):
        if count < 0:
            labels = labels.narrow(axis, -count if front else 0, labels.size(axis) + count)
        elif count:
            shape = (*labels.shape[:axis], count, *labels.shape[axis + 1 :])
            fresh = spread(walk.slots.fresh(count), axis, shape)
            labels = torch.cat([fresh, labels] if front else [labels, fresh], axis)
    return labels
