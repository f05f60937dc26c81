"""What a narrowed graph costs, as polynomials in the widths of its groups: exact, and without making it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import fx

from ebbtide.model.cost import cost, depends_on_input
from ebbtide.model.coupling.groups import Coupling, Widths
from ebbtide.model.coupling.slots import Ids, varying
from ebbtide.model.coupling.values import Value, along
from ebbtide.model.graph import Graph
from ebbtide.model.operators import ATTENTION, CONVOLUTIONS, REARRANGING, TRANSPOSED, name_of

_FLOAT_BYTES = 4
Form = Mapping[tuple[int, ...], int]


@dataclass(frozen=True)
class Polynomial:
    """A sum of products of widths.

    Args:
        terms: the groups of a product, by their index in ``coupling.groups`` (ascending, () for a constant) -> factor.
    """

    terms: Mapping[tuple[int, ...], int] = field(default_factory=dict)

    def __mul__(self, other: Polynomial) -> Polynomial:
        product: dict[tuple[int, ...], int] = {}
        for (a, x), (b, y) in itertools.product(self.terms.items(), other.terms.items()):
            key = tuple(sorted((*a, *b)))
            product[key] = product.get(key, 0) + x * y
        return Polynomial(product)

    def __add__(self, other: Polynomial) -> Polynomial:
        total = dict(self.terms)
        for key, factor in other.terms.items():
            total[key] = total.get(key, 0) + factor
        return Polynomial(total)

    def times(self, factor: int) -> Polynomial:
        """Every term times a number."""
        return Polynomial({key: value * factor for key, value in self.terms.items()})

    def at(self, coupling: Coupling, widths: Widths) -> int:
        """The value at some widths; a group left out has its full size."""
        known = [widths.get(group.name, group.size) for group in coupling.groups]
        return sum(factor * math.prod(known[g] for g in key) for key, factor in self.terms.items())


@dataclass(frozen=True)
class OperatorMacs:
    """What a weighted operator costs.

    Args:
        node: its name.
        op: its aten name.
        macs: at any widths.
        outputs, inputs: channels that it puts out, and that it reads for each of them.
        scale: MACs = scale x outputs x inputs.
    """

    node: fx.Node
    op: str
    macs: Polynomial
    outputs: Polynomial
    inputs: Polynomial
    scale: int


def macs_by_node(graph: Graph, coupling: Coupling) -> tuple[OperatorMacs, ...]:
    """The multiply-accumulates of every weighted operator, per sample, as `ebbtide.model.cost` counts them."""
    counter = _Counter(coupling)
    nodes = {node.name: node for node in graph.module.graph.nodes}
    found = []
    for one in cost(graph.module, graph.input_shape).nodes:
        if one.macs == 0:
            continue
        node = nodes[one.name]
        outputs, inputs = counter.factors(node)
        scale = one.macs // (counter.full(outputs) * counter.full(inputs))
        found.append(OperatorMacs(node, one.op, (outputs * inputs).times(scale), outputs, inputs, scale))
    return tuple(found)


def peak_bytes_by_node(graph: Graph, coupling: Coupling) -> tuple[tuple[str, Polynomial], ...]:
    """Bytes of the activations that an operator reads and of the one it writes, where memory moves."""
    counter = _Counter(coupling)
    activations = depends_on_input(graph.module.graph)
    found = []
    for node in graph.module.graph.nodes:
        name = name_of(node)
        moves = node.op == "call_function" and node in activations
        if not moves or (name in REARRANGING and name not in {"clone", "contiguous"}):
            continue
        sources = [source for source in node.all_input_nodes if source in activations]
        total = Polynomial()
        for tensor in (node, *sources):
            for value in coupling.labelling.values.get(tensor.name, ()):
                total = total + counter.elements(value).times(_FLOAT_BYTES)
        found.append((node.name, total))
    return tuple(found)


def parameters_of(graph: Graph, coupling: Coupling, *, full_inputs: bool = False) -> Polynomial:
    """How many trained numbers a narrowed graph has.

    Args:
        graph: the whole graph.
        coupling: its groups.
        full_inputs: count each weight with all its inputs, as the published loss weights do (arXiv:2311.13349).
    """
    counter = _Counter(coupling)
    axes = counter.axes
    kinds = {(m.tensor, m.axis): m.kind for group in coupling.groups for m in group.members}
    total = Polynomial()
    for name, parameter in graph.module.named_parameters():
        product = Polynomial({(): 1})
        for axis, size in enumerate(parameter.shape):
            whole = (name, axis) not in axes or (full_inputs and kinds.get((name, axis)) == "in")
            product = product * (Polynomial({(): size}) if whole else counter.form(axes[name, axis]))
        total = total + product
    return total


class _Counter:
    def __init__(self, coupling: Coupling) -> None:
        self.coupling = coupling
        self.axes = coupling.axes()
        self.group_of = np.full(len(coupling.atom_of), -1)
        for index, group in enumerate(coupling.groups):
            self.group_of[group.atoms] = index

    def form(self, atoms: Ids) -> Polynomial:
        """How many places stay along an axis."""
        groups = self.group_of[atoms]
        terms: dict[tuple[int, ...], int] = {(): int((groups < 0).sum())}
        for index in np.unique(groups[groups >= 0]):
            places = int((groups == index).sum())
            terms[(int(index),)] = places // self.coupling.groups[int(index)].size
        return Polynomial({key: value for key, value in terms.items() if value})

    def axis(self, value: Value, axis: int) -> Polynomial:
        for labels in value.fields:
            atoms = self.coupling.atoms(labels)
            if axis in varying(atoms):
                return self.form(along(atoms, axis).numpy())
        return Polynomial({(): value.shape[axis]})

    def elements(self, value: Value) -> Polynomial:
        product = Polynomial({(): 1})
        for axis in range(len(value.shape)):
            product = product * self.axis(value, axis)
        return product

    def full(self, polynomial: Polynomial) -> int:
        return polynomial.at(self.coupling, {})

    def factors(self, node: fx.Node) -> tuple[Polynomial, Polynomial]:
        """What multiplies to an operator's MACs, up to a constant: what it puts out, and what is summed for each."""
        values = self.coupling.labelling.values
        name = name_of(node)
        source = node.args[1] if name in ("addmm", "baddbmm") else node.args[0]
        read = values[source.name][0] if isinstance(source, fx.Node) and source.name in values else None
        if name in ATTENTION:
            assert read is not None
            return self.width(read, range(len(read.shape) - 1)), Polynomial({(): 1})
        (out,) = values[node.name]
        rank = len(out.shape)
        if name in CONVOLUTIONS or name in TRANSPOSED or name == "linear":
            weight = node.args[1]
            assert isinstance(weight, fx.Node)
            key = (str(weight.target), 1)
            inner = self.form(self.axes[key]) if key in self.axes else Polynomial({(): weight.meta["val"].shape[1]})
            channel = rank - 1 if name == "linear" else 1
            return self.axis(out, channel) * self.width(out, set(range(rank)) - {channel}), inner
        if name == "einsum" or read is None:
            return self.width(out, range(rank)), Polynomial({(): 1})
        return self.width(out, range(rank)), self.axis(read, len(read.shape) - 1)

    def width(self, value: Value, axes: Iterable[int]) -> Polynomial:
        """The product of the sizes of those axes that can change."""
        product = Polynomial({(): 1})
        for axis in axes:
            size = self.axis(value, axis)
            if set(size.terms) != {()}:
                product = product * size
        return product
