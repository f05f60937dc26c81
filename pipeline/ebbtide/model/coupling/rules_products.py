"""Products of two tensors that both depend on the input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import fx

from ebbtide.model.coupling.rules_plain import unknown
from ebbtide.model.coupling.slots import Labels, distinct, varying
from ebbtide.model.coupling.values import Value, carry, resized
from ebbtide.model.coupling.walk import Walk


def attention(
    walk: Walk, node: fx.Node, q: Value, k: Value, v: Value, mask: Any = None, *_: Any, **kwargs: Any
) -> Value:
    """Whole heads are the units: a narrower head would change the scale of its products."""
    shape = walk.shape(node)
    heads = len(shape) - 3
    mask = walk.opened(mask) if mask is not None else Value(())
    fields = [labels for value in (q, k, v, mask.aligned((*shape[:-1], k.shape[-2]))) for labels in value.fields]
    ok = all(
        len(value.fields) == 1 and varying(value.fields[0]) <= {heads, len(shape) - 1} for value in (q, k, v)
    ) and not kwargs.get("enable_gqa", False)
    if not ok or heads < 1:
        for labels in fields:
            walk.freeze(labels, node, "its queries, keys and values do not carry the same heads")
        return walk.bare(node)
    lead = distinct(q.fields[0]).select(-1, 0).select(-1, 0)
    for labels in fields:
        if not varying(labels) & {heads}:
            walk.freeze(labels, node, "its heads are not units of their own")
            continue
        own = distinct(labels)
        walk.slots.tie(own, lead.reshape(*lead.shape, 1, 1))
    return replace(carry(walk.slots, [resized(v.fields[0], shape)]), shape=shape)


def product(walk: Walk, node: fx.Node, a: Any, b: Any) -> Value:
    """(.., n, k) x (.., k, m): units along k go together, those along the leading axes (heads) are shared."""
    shape = walk.shape(node)
    rank = len(shape)
    a, b = walk.opened(a), walk.opened(b)
    if len(a.shape) < 2 or len(b.shape) < 2 or a.loose or b.loose:
        return unknown(walk, node, a, b)  # type: ignore[no-any-return]
    a = a.aligned((*shape[:-2], *a.shape[-2:]))
    b = b.aligned((*shape[:-2], *b.shape[-2:]))
    lead = set(range(rank - 2))
    fields: list[Labels] = []
    leading: list[Labels] = []
    inner_a, inner_b = a.on(rank - 1), b.on(rank - 2)
    for one, other in ((inner_a, inner_b), (inner_b, inner_a)):
        if one and not other:
            for labels in one:
                walk.freeze(labels, node, "a product runs over these units, and only one side has them")
    for labels in inner_a:
        flat = labels.select(rank - 1, 0).unsqueeze(rank - 1)
        if varying(labels) & lead:
            walk.slots.tie(labels, flat)
            leading.append(flat.expand(*labels.shape[:-1], shape[-1]))
    for labels in inner_b:
        flat = labels.select(rank - 2, 0).unsqueeze(rank - 2)
        if varying(labels) & lead:
            walk.slots.tie(labels, flat)
            leading.append(flat.expand(*labels.shape[:-2], shape[-2], labels.shape[-1]))
    if len(inner_a) == 1 and len(inner_b) == 1:
        walk.slots.tie(inner_a[0].transpose(-1, -2)[..., :1], inner_b[0][..., :1])
    for side, inner, passing in ((a, rank - 1, rank - 2), (b, rank - 2, rank - 1)):
        for labels in side.fields:
            if inner in varying(labels):
                continue
            (fields if passing in varying(labels) else leading).append(resized(labels, shape))
    for labels in leading:
        partners = [one for one in fields if varying(one) & varying(labels)]
        if partners:
            walk.slots.tie(partners[0], labels)
        elif varying(labels):
            fields.append(labels)
    bare = [side for side in (a, b) if not any(varying(labels) & lead for labels in side.fields)]
    for labels in fields:
        for side in bare:
            if any(side.shape[axis] > 1 for axis in varying(labels) & lead):
                walk.freeze(labels, node, "only one side of a product carries these units")
    return replace(carry(walk.slots, fields), shape=shape) if fields else walk.bare(node)
