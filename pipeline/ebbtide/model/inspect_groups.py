"""A model's coupling groups for people: a table, JSON, a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ebbtide.model.coupling import Coupling, Group, Kind, Whole, coupling_groups, macs_by_node
from ebbtide.model.graph import Graph
from ebbtide.model.inspect import page, text

_ROW, _TOP, _NAME = 40, 62, 860
_SHOWN = 4


@dataclass(frozen=True)
class GroupFacts:
    """One coupling group.

    Args:
        name: of the group.
        units: how many can be ordered and removed.
        channels: of the first tensor that computes them; a unit can be several.
        computed_by, read_by, normed_by, other: tensors by what they do with the units.
        macs: of the operators whose cost falls with this group's width, per sample.
    """

    name: str
    units: int
    channels: int
    computed_by: tuple[str, ...]
    read_by: tuple[str, ...]
    normed_by: tuple[str, ...]
    other: tuple[str, ...]
    macs: int

    def row(self) -> dict[str, Any]:
        """The table's row."""
        return {
            "group": self.name,
            "units": self.units,
            "channels": self.channels,
            "computed by": _few(self.computed_by),
            "read by": _few(self.read_by),
            "norms": len(self.normed_by),
            "macs": self.macs,
        }


@dataclass(frozen=True)
class GroupInspection:
    """What `inspect_groups` found.

    Args:
        groups: in the order in which the graph computes them.
        whole: what stays whole, and why.
    """

    groups: tuple[GroupFacts, ...]
    whole: tuple[Whole, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each group."""
        return [group.row() for group in self.groups]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "groups": [{name: _plain(value) for name, value in vars(group).items()} for group in self.groups],
            "whole": [dict(vars(one)) for one in self.whole],
        }


def inspect_groups(graph: Graph) -> GroupInspection:
    """The coupling groups of a model, and what stays whole with its reason."""
    coupling = coupling_groups(graph)
    operators = macs_by_node(graph, coupling)

    def macs(index: int) -> int:
        return sum(
            one.macs.at(coupling, {}) for one in operators if any(index in key for key in one.macs.terms)
        )  # fmt: skip

    groups = tuple(_facts(coupling, index, macs(index)) for index in range(len(coupling.groups)))
    return GroupInspection(groups, coupling.whole)


def _facts(coupling: Coupling, index: int, macs: int) -> GroupFacts:
    group = coupling.groups[index]
    return GroupFacts(
        name=group.name,
        units=group.size,
        channels=group.channels,
        computed_by=_tensors(group, "out"),
        read_by=_tensors(group, "in"),
        normed_by=_tensors(group, "norm"),
        other=_tensors(group, "other"),
        macs=macs,
    )


def _tensors(group: Group, kind: Kind) -> tuple[str, ...]:
    return tuple(dict.fromkeys(member.tensor for member in group.members if member.kind == kind))


def _few(names: Sequence[str]) -> str:
    short = [name.removesuffix(".weight") for name in names]
    more = f" and {len(short) - _SHOWN} more" if len(short) > _SHOWN else ""
    return ", ".join(short[:_SHOWN]) + more


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def draw_groups(found: GroupInspection) -> str:
    """An SVG of the groups: a bar for each, as long as it has channels, with what computes and what reads it."""
    widest = max((group.channels for group in found.groups), default=1)
    height = _TOP + _ROW * (len(found.groups) + (len(found.whole) + 1) // 2 + 1)
    units = sum(group.units for group in found.groups)
    lines = [
        text(16, 26, f"{len(found.groups)} coupling groups, {units:,} units"),
        text(16, 46, "each row is kept, ordered and removed as one; a bar is as long as it has channels",
             kind="soft small"),
    ]  # fmt: skip
    for row, group in enumerate(found.groups):
        top = _TOP + _ROW * row
        width = max((_NAME - 32) * group.channels / widest, 2.0)
        words = f"{group.name}: {group.units:,} units, {group.macs / 1e6:,.1f} M MACs; "
        words += f"computed by {_few(group.computed_by)}; read by {_few(group.read_by) or 'nothing that shrinks'}"
        lines += [
            f'<rect class="bar" x="16" y="{top}" width="{width:.1f}" height="12" rx="3"/>',
            text(16, top + 26, words if len(words) < 140 else words[:137] + "...", kind="ink small"),
        ]
    top = _TOP + _ROW * len(found.groups) + 14
    if found.whole:
        lines.append(text(16, top, "stays whole:"))
    for row, one in enumerate(found.whole):
        words = f"{one.subject} ({one.channels} channels): {one.reason}"
        lines.append(text(16, top + 18 * (row + 1), words[:140], kind="soft small"))
    return page(lines, height, "Coupling groups")
