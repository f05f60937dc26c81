"""One walk over a graph that finds out which unit every element of every tensor belongs to.

Operators that move elements are simply applied to the labels, so every index map (flatten, shuffle, chunk, windows) is
exact by construction. Operators that compute say here what must be the same unit, what must go together, and what must
stay.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from ebbtide.model.coupling.slots import Labels, Slots, distinct, varying
from ebbtide.model.coupling.values import Value, along, carry, moved, nothing, resized, spread
from ebbtide.model.graph import Graph, attribute
from ebbtide.model.operators import (
    CONVOLUTIONS,
    DROPOUTS,
    NORMS,
    REARRANGING,
    SPLITTERS,
    argument,
    name_of,
    source_place,
)
from ebbtide.model.shapes import propagate

_LARGEST_LOOSE = 1 << 22
"""Elements of a parameter that takes its units from what it meets; a larger one stays whole."""

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


@dataclass
class Labelling:
    """What the walk found.

    Attributes:
        slots: every slot with what is the same, tied and frozen.
        nodes: of the graph that was walked over, by name.
        values: of each node that carries tensors, one for each of its outputs; by name, so that they hold for copies
            of the graph too.
        axes: (parameter, axis) -> the slot at each index of that axis.
        elements: loose parameters -> the slot of each element.
        made: the weights that compute units, in order of use.
    """

    slots: Slots
    nodes: dict[str, fx.Node]
    values: dict[str, tuple[Value, ...]]
    axes: dict[tuple[str, int], Labels]
    elements: dict[str, Labels]
    made: list[str]


def label(graph: Graph) -> Labelling:
    """Walk over a graph."""
    walk = _Walk(graph)
    for node in graph.module.graph.nodes:
        walk.visit(node)
    return walk.found


class _Walk:
    def __init__(self, graph: Graph) -> None:
        self.module = graph.module
        self.slots = Slots()
        self.found = Labelling(self.slots, {node.name: node for node in graph.module.graph.nodes}, {}, {}, {}, [])
        self.fakes = propagate(graph.module, graph.input_shape, batch=1)
        self.env: dict[fx.Node, Any] = {}

    def visit(self, node: fx.Node) -> None:
        if node.op == "output":
            for value in self.found.values.get(node.all_input_nodes[0].name, ()):
                for labels in value.fields:
                    self.slots.freeze(labels, "the classifier's outputs are the classes")
            return
        result = self.result(node)
        self.env[node] = result
        values = tuple(v for v in (result if isinstance(result, (tuple, list)) else (result,)) if isinstance(v, Value))
        if values:
            self.found.values[node.name] = values

    def result(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return Value(self.shape(node))
        if node.op == "get_attr":
            return self.parameter(node)
        given: Any = fx.node.map_arg((node.args, node.kwargs), lambda source: self.env[source])
        args, kwargs = given
        inputs = [v for v in torch.utils._pytree.tree_leaves((args, kwargs), is_leaf=_is_value) if _is_value(v)]
        if not inputs:
            return node.target(*args, **kwargs)  # type: ignore[operator]  # sizes, constants, index tables
        name = name_of(node)
        if name == "sym_size":
            return args[0].shape[args[1]]
        handler = self.handler(node, name)
        return handler(node, *args, **kwargs)

    def handler(self, node: fx.Node, name: str) -> Callable[..., Any]:
        special: dict[str, Callable[..., Any]] = {
            "linear": self.linear,
            "cat": self.cat,
            "stack": self.stack,
            "constant_pad_nd": self.pad,
            "pad": self.pad,
            "scaled_dot_product_attention": self.attention,
            "clone": self.same_shape,
            "contiguous": self.same_shape,
        }
        if name in special:
            return special[name]
        families: tuple[tuple[frozenset[str], Callable[..., Any]], ...] = (
            (CONVOLUTIONS, self.convolution),
            (NORMS, self.norm),
            (_POOLS, self.pool),
            (_REDUCING, self.reduce),
            (_SOFT | _ACTIVATIONS, self.same_shape),
            (frozenset(_PASSING), self.same_shape),
            (_INNER, self.product),
            (_MOVING, self.move),
        )
        for names, handle in families:
            if name in names:
                return handle
        if isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags:
            return self.pointwise
        if node.target in (operator.add, operator.sub, operator.mul, operator.truediv):
            return self.pointwise
        return self.unknown

    # Values

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(int(size) for size in self.fakes[node].shape)

    def parameter(self, node: fx.Node) -> Any:
        tensor = attribute(self.module, str(node.target))
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            return tensor
        return Value(tuple(tensor.shape), parameter=str(node.target))

    def opened(self, value: Any) -> Value:
        """An operand of an operator that is not made for parameters: these come as loose elements."""
        if not isinstance(value, Value):
            return Value(tuple(value.shape)) if isinstance(value, torch.Tensor) else Value(())
        if value.parameter is None:
            return value
        name, shape = value.parameter, value.shape
        if math.prod(shape) > _LARGEST_LOOSE:
            return Value(shape)
        if name not in self.found.elements:
            self.found.elements[name] = self.slots.fresh(math.prod(shape)).reshape(shape)
        labels = self.found.elements[name]
        return Value(shape, (labels,) if varying(labels) else (), loose=True)

    def bare(self, node: fx.Node) -> Value:
        return Value(self.shape(node))

    def freeze(self, labels: Labels, node: fx.Node, why: str) -> None:
        self.slots.freeze(labels, f"{source_place(node)}: {why}")

    def attach(self, parameter: Any, axis: int, labels: Labels) -> None:
        """An axis of a parameter carries these units."""
        if not isinstance(parameter, Value):
            return
        if parameter.parameter is None:
            self.slots.freeze(labels, "weights are computed in the graph from other parameters")
            return
        key = (parameter.parameter, axis)
        if key in self.found.axes:
            self.slots.same(self.found.axes[key], labels)
        else:
            self.found.axes[key] = labels.contiguous()

    def units_of(self, weight: Value) -> Labels:
        """The slots of a producer's output channels; the same ones wherever that weight is used again."""
        assert weight.parameter is not None
        key = (weight.parameter, 0)
        if key not in self.found.axes:
            self.found.axes[key] = self.slots.fresh(weight.shape[0])
            self.found.made.append(weight.parameter)
        return self.found.axes[key]

    # Operators with weights

    def linear(self, node: fx.Node, x: Value, weight: Value, bias: Value | None = None) -> Value:
        shape, last = self.shape(node), len(x.shape) - 1
        x = self.opened(x)
        if weight.parameter is None:
            for labels in x.fields:
                self.freeze(labels, node, "its weights are computed in the graph")
            return self.bare(node)
        inner, passing = self.channels(node, x, last)
        if inner is not None:
            self.attach(weight, 1, inner)
        units = self.units_of(weight)
        if bias is not None:
            self.attach(bias, 0, units)
        made = carry(self.slots, [spread(units, last, shape), *(resized(labels, shape) for labels in passing)])
        return replace(made, shape=shape)

    def channels(self, node: fx.Node, x: Value, axis: int) -> tuple[Labels | None, list[Labels]]:
        """The units along the axis that an operator contracts, and the fields that it lets through."""
        here = x.on(axis)
        passing = [labels for labels in x.fields if axis not in varying(labels)]
        if not here:
            return None, passing
        if len(here) > 1:
            for labels in here:
                self.freeze(labels, node, "two families of channels lie along one axis")
            return None, passing
        if varying(here[0]) != {axis}:
            # The same unit at every other place: (heads, positions) of a flattened map, say.
            flat = along(here[0], axis)
            self.slots.tie(here[0], spread(flat, axis, x.shape))
            return flat, passing
        return along(here[0], axis), passing

    def convolution(
        self, node: fx.Node, x: Value, weight: Value, bias: Value | None = None, *rest: Any, **_: Any
    ) -> Value:
        shape = self.shape(node)
        transposed = name_of(node) in ("convolution", "_convolution") and bool(argument(node, "transposed"))
        if weight.parameter is None or transposed:
            for labels in x.fields:
                self.freeze(labels, node, "transposed, or its weights are computed in the graph")
            return self.bare(node)
        inner, passing = self.channels(node, x, 1)
        for labels in [labels for labels in passing if varying(labels) - {0}]:
            self.freeze(labels, node, "a convolution runs over these units as positions")
        units = self.units_of(weight)
        groups = int(argument(node, "groups"))
        if groups > 1:
            self.grouped(node, inner, units, groups, weight)
        elif inner is not None:
            self.attach(weight, 1, inner)
        if bias is not None:
            self.attach(bias, 0, units)
        return replace(carry(self.slots, [spread(units, 1, shape)]), shape=shape)

    def grouped(self, node: fx.Node, inner: Labels | None, units: Labels, groups: int, weight: Value) -> None:
        """Groups of a convolution keep one size: whole groups can go, or the same channels of each."""
        outer = units.reshape(groups, -1)
        size = weight.shape[1]
        if inner is None:
            # The input's channels stay, so every group stays and loses the same outputs.
            self.slots.tie(outer, outer[:1])
            return
        inputs = inner.reshape(groups, size)
        if size == 1 and outer.shape[1] == 1:
            self.slots.same(inputs, outer)
        elif size == 1 or groups >= size:
            self.slots.tie(inputs, inputs[:, :1])
            self.slots.tie(outer, inputs[:, :1])
        else:
            self.slots.tie(inputs, inputs[:1])
            self.slots.tie(outer, outer[:1])
            self.attach(weight, 1, inputs[0])

    def norm(self, node: fx.Node, x: Value, *_args: Any, **_kwargs: Any) -> Any:
        name = name_of(node)
        x = self.opened(x)
        parameters = [v for v in (self.env.get(n) for n in node.all_input_nodes[1:]) if isinstance(v, Value)]
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
                self.freeze(labels, node, "the norm sees these units along two axes")
                continue
            (axis,) = meeting
            for parameter in parameters:
                self.attach(parameter, axes[axis], along(labels, axis))
            if name == "group_norm":
                count = int(argument(node, "num_groups"))
                inside = along(labels, 1).reshape(count, -1)
                if inside.shape[1] > 1:
                    self.slots.tie(inside, inside[:1])
        result = replace(x, shape=x.shape)
        return (result, Value(()), Value(())) if name == "native_layer_norm" else result

    # Operators without weights

    def same_shape(self, node: fx.Node, x: Value, *_args: Any, **_kwargs: Any) -> Value:
        return replace(self.opened(x), shape=self.shape(node))

    def pool(self, node: fx.Node, x: Value, *_args: Any, **_kwargs: Any) -> Value:
        shape = self.shape(node)
        for labels in x.fields:
            if varying(labels) - {0, 1}:
                self.freeze(labels, node, "pooling runs over these units as positions")
        kept = [resized(labels, shape) for labels in x.fields if not varying(labels) - {0, 1}]
        return replace(carry(self.slots, kept), shape=shape) if kept else self.bare(node)

    def reduce(self, node: fx.Node, x: Value, *_args: Any, **_kwargs: Any) -> Value:
        x = self.opened(x)
        dims = argument(node, "dim")
        axes = {d % len(x.shape) for d in ([dims] if isinstance(dims, int) else dims or range(len(x.shape)))}
        keep = bool(argument(node, "keepdim"))
        fields = [labels for labels in x.fields if not varying(labels) & axes]
        for labels in x.fields:
            if varying(labels) & axes and varying(labels) - axes:
                self.freeze(labels, node, "a reduction takes a part of these units together")
        if not fields:
            return self.bare(node)
        return replace(
            carry(self.slots, [labels.amax(sorted(axes), keep) for labels in fields]), shape=self.shape(node)
        )

    def pointwise(self, node: fx.Node, *args: Any, **kwargs: Any) -> Value:
        shape = self.shape(node)
        leaves = torch.utils._pytree.tree_leaves((args, kwargs), is_leaf=_is_value)
        operands = [self.opened(v).aligned(shape) for v in leaves if isinstance(v, (Value, torch.Tensor))]
        return replace(self.joined(node, operands, shape), shape=shape)

    def joined(self, node: fx.Node, operands: list[Value], shape: tuple[int, ...]) -> Value:
        """Units that meet element by element are the same."""
        firm = [v for v in operands if not v.loose]
        fields: list[Labels] = []
        for value in [*firm, *(v for v in operands if v.loose)]:
            for labels in value.fields:
                meeting = [one for one in fields if varying(one) & varying(labels)]
                if len(meeting) == 1:
                    exact = value.loose or varying(meeting[0]) == varying(labels)
                    (self.slots.same if exact else self.slots.tie)(meeting[0], labels)
                elif meeting or (value.loose and firm):
                    for one in (labels, *meeting):
                        self.freeze(one, node, "its operands carry units that do not correspond")
                else:
                    fields.append(labels)
        for labels in fields:
            for value in firm:
                bare = not any(varying(own) & varying(labels) for own in value.fields)
                if bare and any(value.shape[axis] > 1 for axis in varying(labels)):
                    self.freeze(labels, node, "its other operand has channels that always stay")
        made = carry(self.slots, fields) if fields else Value(shape)
        return replace(made, loose=not firm)

    def unknown(self, node: fx.Node, *args: Any, **kwargs: Any) -> Any:
        leaves = torch.utils._pytree.tree_leaves((args, kwargs), is_leaf=_is_value)
        for value in leaves:
            if isinstance(value, Value):
                for labels in value.fields:
                    self.freeze(labels, node, f"the operator {name_of(node)} is not known here")
        fake = self.fakes[node]
        if isinstance(fake, (tuple, list)):
            return tuple(Value(tuple(int(s) for s in one.shape)) for one in fake)
        return self.bare(node)

    # Operators that move elements

    def move(self, node: fx.Node, x: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, (tuple, list)):
            return x[args[0]]  # getitem of a splitter's results
        if any(_is_value(v) for v in torch.utils._pytree.tree_leaves((args, kwargs), is_leaf=_is_value)):
            return self.unknown(node, x, *args, **kwargs)
        x = self.opened(x)
        name = name_of(node)
        target: Any = torch.ops.aten.reshape.default if name in ("view", "_unsafe_view") else node.target
        if name in SPLITTERS:
            fakes = self.fakes[node]
            shapes = [tuple(int(s) for s in one.shape) for one in fakes]
            parts = [[] for _ in shapes]  # type: list[list[Labels]]
            for labels in x.fields:
                for part, piece in zip(parts, target(labels, *args, **kwargs), strict=True):
                    part.append(piece)
            made = [carry(self.slots, part) for part in parts]
            return [replace(v, shape=s, loose=x.loose) for v, s in zip(made, shapes, strict=True)]
        return moved(self.slots, x, lambda labels: target(labels, *args, **kwargs), self.shape(node))

    def stack(self, node: fx.Node, tensors: list[Any], dim: int = 0) -> Value:
        dim %= len(self.shape(node))
        opened = [self.opened(v) for v in tensors]
        parts = [
            replace(v, shape=(*v.shape[:dim], 1, *v.shape[dim:]), fields=tuple(f.unsqueeze(dim) for f in v.fields))
            for v in opened
        ]
        return self.cat(node, parts, dim)

    def cat(self, node: fx.Node, tensors: list[Any], dim: int = 0) -> Value:
        shape = self.shape(node)
        dim %= len(shape)
        parts = [self.opened(v) for v in tensors]
        fields: list[Labels] = []
        # Units along the axis that is joined come to stand one after the other ...
        if any(v.on(dim) for v in parts if not v.loose):
            pieces = []
            for value in parts:
                here = [] if value.loose else value.on(dim)
                if len(here) > 1:
                    for labels in here:
                        self.freeze(labels, node, "two families of channels lie along one axis")
                pieces.append(here[0] if len(here) == 1 else nothing(value.shape))
            fields.append(torch.cat(pieces, dim))
        # ... and units along other axes are the same in all parts.
        thin = [self.thinned(v, dim) for v in parts]
        if any(v.fields for v in thin):
            joined = self.joined(node, thin, (*shape[:dim], 1, *shape[dim + 1 :]))
            fields += [resized(labels, shape) for labels in joined.fields]
        made = carry(self.slots, fields) if fields else Value(shape)
        return replace(made, shape=shape, loose=all(v.loose for v in parts))

    def thinned(self, value: Value, axis: int) -> Value:
        """The first place of an axis stands for all: without the units along it, or with loose ones made the same."""
        if value.loose:
            for labels in value.on(axis):
                self.slots.same(labels, labels.narrow(axis, 0, 1))
        kept = [labels for labels in value.fields if value.loose or axis not in varying(labels)]
        thin = tuple(labels.narrow(axis, 0, 1) for labels in kept)
        return replace(value, shape=(*value.shape[:axis], 1, *value.shape[axis + 1 :]), fields=thin)

    def pad(self, node: fx.Node, x: Value, pad: list[int], *_args: Any, **_kwargs: Any) -> Value:
        x = self.opened(x)
        fields = []
        for labels in x.fields:
            for step in range(len(pad) // 2):
                axis = labels.dim() - 1 - step
                before, after = pad[2 * step], pad[2 * step + 1]
                if axis not in varying(labels):
                    size = labels.size(axis) + before + after
                    labels = labels.narrow(axis, 0, 1).expand(*labels.shape[:axis], size, *labels.shape[axis + 1 :])
                    continue
                labels = self.padded(node, labels, axis, before, after)
            fields.append(labels)
        return replace(carry(self.slots, fields), shape=self.shape(node)) if fields else self.bare(node)

    def padded(self, node: fx.Node, labels: Labels, axis: int, before: int, after: int) -> Labels:
        """Channels of zeros are units of their own until they meet others."""
        for count, front in ((before, True), (after, False)):
            if count < 0:
                labels = labels.narrow(axis, -count if front else 0, labels.size(axis) + count)
            elif count:
                shape = (*labels.shape[:axis], count, *labels.shape[axis + 1 :])
                fresh = spread(self.slots.fresh(count), axis, shape)
                labels = torch.cat([fresh, labels] if front else [labels, fresh], axis)
        return labels

    # Products of two tensors that both depend on the input

    def attention(self, node: fx.Node, q: Value, k: Value, v: Value, mask: Any = None, *_: Any, **kwargs: Any) -> Value:
        """Whole heads are the units: a narrower head would change the scale of its products."""
        shape = self.shape(node)
        heads = len(shape) - 3
        mask = self.opened(mask) if mask is not None else Value(())
        fields = [labels for value in (q, k, v, mask.aligned((*shape[:-1], k.shape[-2]))) for labels in value.fields]
        ok = all(
            len(value.fields) == 1 and varying(value.fields[0]) <= {heads, len(shape) - 1} for value in (q, k, v)
        ) and not kwargs.get("enable_gqa", False)
        if not ok or heads < 1:
            for labels in fields:
                self.freeze(labels, node, "its queries, keys and values do not carry the same heads")
            return self.bare(node)
        lead = distinct(q.fields[0]).select(-1, 0).select(-1, 0)
        for labels in fields:
            if not varying(labels) & {heads}:
                self.freeze(labels, node, "its heads are not units of their own")
                continue
            own = distinct(labels)
            self.slots.tie(own, lead.reshape(*lead.shape, 1, 1))
        return replace(carry(self.slots, [resized(v.fields[0], shape)]), shape=shape)

    def product(self, node: fx.Node, a: Any, b: Any) -> Value:
        """(.., n, k) x (.., k, m): units along k go together, those along the leading axes (heads) are shared."""
        shape = self.shape(node)
        rank = len(shape)
        a, b = self.opened(a), self.opened(b)
        if len(a.shape) < 2 or len(b.shape) < 2 or a.loose or b.loose:
            return self.unknown(node, a, b)  # type: ignore[no-any-return]
        a = a.aligned((*shape[:-2], *a.shape[-2:]))
        b = b.aligned((*shape[:-2], *b.shape[-2:]))
        lead = set(range(rank - 2))
        fields: list[Labels] = []
        leading: list[Labels] = []
        inner_a, inner_b = a.on(rank - 1), b.on(rank - 2)
        for one, other in ((inner_a, inner_b), (inner_b, inner_a)):
            if one and not other:
                for labels in one:
                    self.freeze(labels, node, "a product runs over these units, and only one side has them")
        for labels in inner_a:
            flat = labels.select(rank - 1, 0).unsqueeze(rank - 1)
            if varying(labels) & lead:
                self.slots.tie(labels, flat)
                leading.append(flat.expand(*labels.shape[:-1], shape[-1]))
        for labels in inner_b:
            flat = labels.select(rank - 2, 0).unsqueeze(rank - 2)
            if varying(labels) & lead:
                self.slots.tie(labels, flat)
                leading.append(flat.expand(*labels.shape[:-2], shape[-2], labels.shape[-1]))
        if len(inner_a) == 1 and len(inner_b) == 1:
            self.slots.tie(inner_a[0].transpose(-1, -2)[..., :1], inner_b[0][..., :1])
        for side, inner, passing in ((a, rank - 1, rank - 2), (b, rank - 2, rank - 1)):
            for labels in side.fields:
                if inner in varying(labels):
                    continue
                (fields if passing in varying(labels) else leading).append(resized(labels, shape))
        for labels in leading:
            partners = [one for one in fields if varying(one) & varying(labels)]
            if partners:
                self.slots.tie(partners[0], labels)
            elif varying(labels):
                fields.append(labels)
        bare = [side for side in (a, b) if not any(varying(labels) & lead for labels in side.fields)]
        for labels in fields:
            for side in bare:
                if any(side.shape[axis] > 1 for axis in varying(labels) & lead):
                    self.freeze(labels, node, "only one side of a product carries these units")
        return replace(carry(self.slots, fields), shape=shape) if fields else self.bare(node)


def _is_value(value: Any) -> bool:
    return isinstance(value, Value)
