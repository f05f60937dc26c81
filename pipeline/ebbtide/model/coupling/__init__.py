"""Coupling groups: which channels belong together, and what a graph is without some of them."""

from ebbtide.model.coupling.groups import Coupling, Group, Kind, Member, Whole, Widths, coupling_groups
from ebbtide.model.coupling.narrowing import Slices, narrow, permute, slice_state
from ebbtide.model.coupling.size import OperatorMacs, Polynomial, macs_by_node, parameters_of, peak_bytes_by_node

__all__ = [
    "Coupling",
    "Group",
    "Kind",
    "Member",
    "OperatorMacs",
    "Polynomial",
    "Slices",
    "Whole",
    "Widths",
    "coupling_groups",
    "macs_by_node",
    "narrow",
    "parameters_of",
    "peak_bytes_by_node",
    "permute",
    "slice_state",
]
