"""Slots: the places where a unit can stand, which of them are one and the same, and which live and die together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Labels = torch.Tensor
"""int64, one slot for each element of a tensor; 0 is the slot that always stays."""

Ids = NDArray[np.int64]
FIXED = 0


@dataclass(frozen=True)
class Freeze:
    """Slots that must stay, and why."""

    slots: Ids
    reason: str


class Slots:
    """Numbers slots from 1 and remembers what was found out about them.

    *Same* slots are one unit seen at two places (both operands of an addition). *Tied* slots are different units that
    can only be removed together (a channel in each group of a grouped convolution). A frozen slot stays.
    """

    def __init__(self) -> None:
        self.count = 1
        self.freezes: list[Freeze] = []
        self._same: list[Ids] = []
        self._tied: list[Ids] = []

    def fresh(self, size: int) -> Labels:
        """New slots, (size,)."""
        start = self.count
        self.count += size
        return torch.arange(start, self.count)

    def same(self, a: Labels, b: Labels) -> None:
        """The slots of two label tensors of broadcastable shapes are the same, element by element."""
        self._same.append(_pairs(a, b))

    def tie(self, a: Labels, b: Labels) -> None:
        """The slots of two label tensors of broadcastable shapes go together, element by element."""
        self._tied.append(_pairs(a, b))

    def freeze(self, labels: Labels, reason: str) -> None:
        """These slots stay."""
        slots = torch.unique(distinct(labels)).numpy()
        self.freezes.append(Freeze(slots[slots != FIXED], reason))

    def canonical(self) -> Ids:
        """For each slot the smallest slot that is the same, (count,)."""
        return self._smallest(self._same)

    def atoms(self) -> Ids:
        """For each slot the smallest slot of its atom, 0 where it is frozen, (count,)."""
        frozen = [np.stack([np.zeros_like(one.slots), one.slots]) for one in self.freezes]
        return self._smallest([*self._same, *self._tied, *frozen])

    def reason(self, atoms_of: Ids) -> str:
        """Why some of these slots are frozen: the reasons given to them or to slots that go with them."""
        free = self._smallest([*self._same, *self._tied], keep_fixed_apart=True)
        mine = np.unique(free[atoms_of])
        found = [one.reason for one in self.freezes if np.isin(free[one.slots], mine).any()]
        return "; ".join(dict.fromkeys(found)) or "it is added to, or joined with, channels that always stay"

    def _smallest(self, edges: list[Ids], *, keep_fixed_apart: bool = False) -> Ids:
        pairs = np.concatenate([np.zeros((2, 0), np.int64), *edges], axis=1)
        if keep_fixed_apart:
            pairs = pairs[:, (pairs != FIXED).all(axis=0)]
        matrix = coo_array((np.ones(pairs.shape[1], np.int8), (pairs[0], pairs[1])), shape=(self.count, self.count))
        number, component = connected_components(matrix, directed=False)
        smallest = np.full(number, self.count, np.int64)
        np.minimum.at(smallest, component, np.arange(self.count))
        result: Ids = smallest[component]
        return result


def distinct(labels: Labels) -> Labels:
    """The labels without the axes along which they are only repeated (stride 0)."""
    for axis in range(labels.dim()):
        if labels.size(axis) > 1 and labels.stride(axis) == 0:
            labels = labels.narrow(axis, 0, 1)
    return labels


def compress(labels: Labels) -> Labels:
    """The same labels, with stride 0 along every axis along which they do not change."""
    for axis in range(labels.dim()):
        if labels.size(axis) > 1 and labels.stride(axis) != 0:
            first = labels.narrow(axis, 0, 1)
            if bool((distinct(labels) == distinct(first)).all()):
                labels = first.expand(labels.shape)
    return labels


def varying(labels: Labels) -> frozenset[int]:
    """The axes along which compressed labels change."""
    return frozenset(a for a in range(labels.dim()) if labels.size(a) > 1 and labels.stride(a) != 0)


def _pairs(a: Labels, b: Labels) -> Ids:
    a, b = torch.broadcast_tensors(a, b)  # type: ignore[no-untyped-call]
    for axis in range(a.dim()):
        if a.size(axis) > 1 and a.stride(axis) == 0 and b.stride(axis) == 0:
            a, b = a.narrow(axis, 0, 1), b.narrow(axis, 0, 1)
    pairs = torch.stack([a.reshape(-1), b.reshape(-1)]).numpy()
    pairs = np.unique(pairs[:, pairs[0] != pairs[1]], axis=1) if pairs.size > 1 << 14 else pairs
    return np.asarray(pairs[:, pairs[0] != pairs[1]])
