"""What the labelling pass keeps of a tensor: its shape, and which unit each of its elements belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from ebbtide.model.coupling.slots import FIXED, Labels, Slots, compress, varying


@dataclass(frozen=True)
class Value:
    """A tensor of the graph at batch 1.

    Args:
        shape: of the tensor.
        fields: for each family of units that the tensor carries, the slot of every element. Tokens in a mixer's
            hidden layer, for instance, carry two: their channel and their hidden unit.
        loose: whether the slots are single elements of parameters (a position embedding) that take the units of
            whatever they meet.
        parameter: the parameter that this is, untouched, or None.
    """

    shape: tuple[int, ...]
    fields: tuple[Labels, ...] = field(default=())
    loose: bool = False
    parameter: str | None = None

    def on(self, axis: int) -> list[Labels]:
        """The fields that change along an axis."""
        return [labels for labels in self.fields if axis in varying(labels)]

    def aligned(self, shape: tuple[int, ...]) -> Value:
        """As it is seen by an operator that broadcasts it to `shape`."""
        lead = (1,) * (len(shape) - len(self.shape))
        fields = tuple(labels.reshape(*lead, *labels.shape).expand(shape) for labels in self.fields)
        return replace(self, shape=lead + self.shape, fields=tuple(compress(labels) for labels in fields))


def carry(slots: Slots, fields: list[Labels], reason: str = "a tensor keeps a single one of its channels") -> Value:
    """A value of these fields, all of one shape; a field that is down to one slot is frozen and no longer carried."""
    kept = []
    for labels in map(compress, fields):
        if varying(labels):
            kept.append(labels)
        else:
            slots.freeze(labels, reason)
    return Value(tuple(fields[0].shape) if fields else (), tuple(kept))


def along(labels: Labels, axis: int) -> Labels:
    """The labels along one axis, taken at the first place of all others, (size,)."""
    axis %= labels.dim()
    for other in reversed(range(labels.dim())):
        if other != axis:
            labels = labels.select(other, 0)
    return labels


def spread(labels: Labels, axis: int, shape: tuple[int, ...]) -> Labels:
    """A vector of labels laid along one axis of a shape, repeated along all others."""
    view = [1] * len(shape)
    view[axis] = -1
    return labels.reshape(view).expand(shape)


def resized(labels: Labels, shape: tuple[int, ...]) -> Labels:
    """Labels whose axes that do not change take other sizes; the axes that change keep theirs."""
    for axis in range(labels.dim()):
        if labels.size(axis) != shape[axis]:
            labels = labels.narrow(axis, 0, 1)
    return labels.expand(shape)


def moved(slots: Slots, value: Value, operator: Callable[[Labels], Labels], shape: tuple[int, ...]) -> Value:
    """What becomes of a value when an operator only moves its elements."""
    fields = []
    for labels in value.fields:
        result = operator(labels)
        assert tuple(result.shape) == shape, (tuple(result.shape), shape)
        fields.append(result)
    made = carry(slots, fields)
    return replace(made, shape=shape, loose=value.loose)


def nothing(shape: tuple[int, ...]) -> Labels:
    """Labels of a tensor without units."""
    return torch.full((1,) * len(shape), FIXED, dtype=torch.int64).expand(shape)
