"""Coupling groups: which channels of which tensors have to be kept, ordered and removed together."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from ebbtide.model.coupling.labelling import label
from ebbtide.model.coupling.slots import FIXED, Ids, Labels, compress, distinct, varying
from ebbtide.model.coupling.values import along
from ebbtide.model.coupling.walk import Labelling
from ebbtide.model.graph import Graph
from ebbtide.model.operators import NORMS, argument, name_of, source_place

Kind = Literal["out", "in", "norm", "other"]
Widths = Mapping[str, int]
"""How many units each group keeps, by the group's name; always its first ones. A group left out keeps all."""


@dataclass(frozen=True)
class Member:
    """An axis of a tensor on which the units of a group stand.

    Args:
        tensor: its name in the graph's state.
        axis: which one.
        kind: "out": rows of a weight that compute the units; "in": columns of a weight that read them; "norm":
            parameters and statistics of a norm; "other": biases, layer scales, embeddings.
        positions: where each unit stands along the axis, (units, places) int64.
    """

    tensor: str
    axis: int
    kind: Kind
    positions: Ids


@dataclass(frozen=True)
class Group:
    """Units that can be exchanged for each other, and must be ordered and removed everywhere at once.

    Args:
        name: the first tensor that computes them, without its ``.weight``.
        size: how many units.
        members: every axis that they stand on.
        atoms: of each unit, as the labelling numbers them.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    atoms: Ids = field(repr=False)

    @property
    def channels(self) -> int:
        """Channels of the first tensor that computes them; a unit can be several (a head)."""
        return int(self.members[0].positions.size)


@dataclass(frozen=True)
class Whole:
    """Channels that always stay.

    Args:
        subject: the tensor that computes them.
        channels: how many.
        reason: why.
    """

    subject: str
    channels: int
    reason: str


@dataclass(frozen=True)
class Coupling:
    """What can shrink in a graph, and what cannot.

    Args:
        groups: in the order in which the graph computes them.
        whole: what stays, with its reason.
        labelling: the labels that both follow from.
        atom_of: for each slot its atom, 0 where it stays.
    """

    groups: tuple[Group, ...]
    whole: tuple[Whole, ...]
    labelling: Labelling = field(repr=False)
    atom_of: Ids = field(repr=False)

    def group(self, name: str) -> Group:
        """A group by its name."""
        return next(group for group in self.groups if group.name == name)

    def atoms(self, labels: Labels) -> Labels:
        """Labels as atoms, compressed."""
        return compress(torch.from_numpy(self.atom_of)[distinct(labels)].expand(labels.shape))

    def kept(self, widths: Widths) -> NDArray[np.bool_]:
        """For each atom number whether it stays at these widths."""
        stays = np.ones(len(self.atom_of), dtype=bool)
        for group in self.groups:
            stays[group.atoms[widths.get(group.name, group.size) :]] = False
        return stays

    def places(self, widths: Widths) -> dict[tuple[str, int], Ids]:
        """(tensor, axis) -> the indices that stay along it, ascending; only those axes that lose any."""
        stays = self.kept(widths)
        found = {}
        for key, atoms in self.axes().items():
            mask = stays[atoms]
            if not mask.all():
                found[key] = np.flatnonzero(mask)
        return found

    def axes(self) -> dict[tuple[str, int], Ids]:
        """(tensor, axis) -> the atom at each index along it."""
        return dict(_axes(self.labelling, self.atom_of))


def coupling_groups(graph: Graph) -> Coupling:
    """Find the coupling groups of a graph.

    A graph is walked once with a label on every element (`labelling`). Units that meet in an addition are one; units
    that a grouped convolution, a split or attention forces to go together are tied; what is left is sorted by where
    the units stand: two units that stand on the same axes and pass the same operators can be exchanged.
    """
    labelling = label(graph)
    atom_of = _close(labelling)
    groups = _sort(graph, labelling, atom_of)
    return Coupling(groups, tuple(_whole(labelling, atom_of, groups)), labelling, atom_of)


def _fields(labelling: Labelling) -> Iterator[tuple[fx.Node, int, Labels]]:
    for name, values in labelling.values.items():
        node = labelling.nodes[name]
        for index, value in enumerate(values):
            for labels in value.fields:
                yield node, index, labels
    for name, labels in labelling.elements.items():
        reads = next(n for n in labelling.nodes.values() if n.op == "get_attr" and str(n.target) == name)
        yield reads, 0, labels


def _close(labelling: Labelling) -> Ids:
    """Tie what must go together so that every tensor stays a box when units go; the atoms after that."""
    slots = labelling.slots
    while True:
        atom_of = slots.atoms()
        table = torch.from_numpy(atom_of)
        changed = False
        for node, _, labels in _fields(labelling):
            if not varying(labels):
                continue
            atoms = compress(table[distinct(labels)].expand(labels.shape))
            axes = sorted(varying(atoms))
            for axis in axes[:-1]:
                slots.tie(atoms, atoms.narrow(axis, 0, 1))
                changed = True
            changed |= _keep_literals(labelling, node, atoms)
        if not changed:
            return atom_of


def _keep_literals(labelling: Labelling, node: fx.Node, atoms: Labels) -> bool:
    """Freeze units that an index written into the graph picks by their number; whether any were."""
    changed = False
    for user in node.users:
        name = name_of(user)
        picks = name in ("select", "unbind") or (name == "slice" and argument(user, "step") != 1)
        if name in ("channel_shuffle", "native_channel_shuffle"):
            rows = along(atoms, 1).reshape(int(argument(user, "groups")), -1)
            if bool((rows != rows[:1]).any()):
                labelling.slots.tie(rows, rows[:1])
                changed = True
        picks = picks or name in ("index", "index_select", "flip", "roll", "pixel_shuffle", "pixel_unshuffle", "repeat")
        if not picks or user.args[0] is not node:
            continue
        for axis in sorted(varying(atoms) & _picked_axes(user, atoms.dim())):
            live = along(atoms, axis)
            if bool((live != FIXED).any()):
                labelling.slots.freeze(live, f"{source_place(user)}: it picks channels by their number")
                changed = True
    return changed


def _picked_axes(user: fx.Node, rank: int) -> set[int]:
    name = name_of(user)
    if name in ("select", "unbind", "slice", "index_select"):
        dim = argument(user, "dim")
        return {int(dim) % rank}
    if name == "index":
        indices = user.args[1]
        assert isinstance(indices, (list, tuple))
        return {axis for axis, index in enumerate(indices) if index is not None}
    if name in ("flip", "roll"):
        dims = argument(user, "dims")
        return {int(d) % rank for d in dims} if dims else set(range(rank))
    return {1} if name.startswith("pixel") else set(range(rank))


def _axes(labelling: Labelling, atom_of: Ids) -> Iterator[tuple[tuple[str, int], Ids]]:
    for key, labels in labelling.axes.items():
        yield key, atom_of[labels.numpy()]
    table = torch.from_numpy(atom_of)
    for name, labels in labelling.elements.items():
        atoms = compress(table[labels])
        for axis in varying(atoms):
            yield (name, axis), along(atoms, axis).numpy()


def _sort(graph: Graph, labelling: Labelling, atom_of: Ids) -> tuple[Group, ...]:
    """Units of one kind stand on the same axes, so often each, and pass the same operators."""
    # Sums of random 64-bit numbers, one for each place and count: equal sums mean equal places.
    draw = random.Random(0)
    signature = np.zeros(len(atom_of), dtype=np.uint64)
    table = torch.from_numpy(atom_of)

    def mark(atoms: Ids) -> None:
        found, counts = np.unique(atoms, return_counts=True)
        for count in np.unique(counts):
            signature[found[counts == count]] += np.uint64(draw.getrandbits(64))

    for _, _, labels in _fields(labelling):
        if varying(labels):
            mark(table[distinct(labels)].numpy())
    axes = dict(_axes(labelling, atom_of))
    for atoms in axes.values():
        mark(atoms)
    # A slot that is not its own atom's number, or is frozen, is nobody's representative.
    numbers = np.flatnonzero((atom_of == np.arange(len(atom_of))) & (signature != 0))
    numbers = numbers[numbers != FIXED]
    canonical = labelling.slots.canonical()
    slot_at = {key: canonical[labels.numpy()] for key, labels in labelling.axes.items()}
    norms = _norm_tensors(graph)
    groups: list[Group] = []
    taken: dict[str, int] = {}
    by_signature: dict[int, list[int]] = {}
    for number in numbers:
        by_signature.setdefault(int(signature[number]), []).append(int(number))
    for units in by_signature.values():
        atoms = np.asarray(units)
        if len(atoms) < 2:
            continue
        members = tuple(_members(atoms, axes, slot_at, labelling, norms))
        if not any(member.kind == "out" for member in members):
            continue
        first = next(member for member in members if member.kind == "out")
        name = first.tensor.removesuffix(".weight")
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:
            name = f"{name}#{taken[name]}"
        groups.append(Group(name, len(atoms), members, atoms))
    return tuple(groups)


def _members(
    atoms: Ids,
    axes: Mapping[tuple[str, int], Ids],
    slot_at: Mapping[tuple[str, int], Ids],
    labelling: Labelling,
    norms: frozenset[str],
) -> Iterator[Member]:
    order = np.full(max(int(a.max(initial=0)) for a in axes.values()) + 1, -1)
    order[atoms] = np.arange(len(atoms))
    found = []
    for (tensor, axis), here in axes.items():
        unit = order[here]
        places = np.flatnonzero(unit >= 0)
        if not len(places):
            continue
        # Within a unit by slot, so that the places of two units correspond.
        slot = slot_at.get((tensor, axis), np.arange(len(here)))[places]
        sort = np.lexsort((places, slot, unit[places]))
        positions = places[sort].reshape(len(atoms), -1)
        kind: Kind = "other"
        if tensor in norms:
            kind = "norm"
        elif tensor in labelling.made and (tensor, axis) in labelling.axes:
            kind = "out" if axis == 0 else "in"
        found.append(Member(tensor, axis, kind, positions))
    producers = {tensor: index for index, tensor in enumerate(labelling.made)}
    last = len(producers)
    yield from sorted(found, key=lambda m: (m.kind != "out", producers.get(m.tensor, last)))


def _norm_tensors(graph: Graph) -> frozenset[str]:
    return frozenset(
        str(source.target)
        for node in graph.module.graph.nodes
        if name_of(node) in NORMS
        for source in node.all_input_nodes
        if source.op == "get_attr"
    )


def _whole(labelling: Labelling, atom_of: Ids, groups: tuple[Group, ...]) -> Iterator[Whole]:
    shrinking = np.zeros(len(atom_of), dtype=bool)
    for group in groups:
        shrinking[group.atoms] = True
    for tensor in labelling.made:
        slots = labelling.axes[tensor, 0].numpy()
        stays = ~shrinking[atom_of[slots]]
        if not stays.any():
            continue
        frozen = slots[stays & (atom_of[slots] == FIXED)]
        reason = labelling.slots.reason(frozen) if len(frozen) else "they form a single unit"
        yield Whole(tensor.removesuffix(".weight"), int(stays.sum()), reason)
