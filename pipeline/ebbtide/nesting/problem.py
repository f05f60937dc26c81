"""From a graph with its coupling groups to the knapsack that the search solves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.model.coupling import Coupling, Group, OperatorMacs, Polynomial, macs_by_node, peak_bytes_by_node
from ebbtide.model.graph import Graph
from ebbtide.nesting.knapsack import Factor, Limit, Problem

LARGEST_TABLE = 1 << 22
Scores = Mapping[str, NDArray[np.float64]]
"""Importance of each unit by group, (size,), not negative, in the order in which the units stand."""


class LayerTimes(Protocol):
    """Measured times of layers, in place of MACs."""

    def latency_us(self, operator: OperatorMacs, outputs: int, inputs: int) -> float:
        """Microseconds of a weighted operator with so many output and input channels."""
        ...


@dataclass(frozen=True)
class Rules:
    """What widths are allowed, and what they cost.

    Args:
        multiple: kept channels are a multiple of this, or all.
        floor: fewest channels that a group keeps, or all where it has fewer.
        cost: "macs": true MACs of the narrowed graph; "dense-input": kept outputs with all their inputs, of the
            searched layers alone, as published (arXiv:2311.13349); or measured times of layers.
        memory_limit_bytes: largest input and output together of any operator; None for no limit.
        searched: groups that may shrink, by name; None for all.
    """

    multiple: int = 1
    floor: int = 1
    cost: Literal["macs", "dense-input"] | LayerTimes = "macs"
    memory_limit_bytes: int | None = None
    searched: Collection[str] | None = None

    def widths_of(self, group: Group) -> NDArray[np.int64]:
        """The widths that a group may take, in units, ascending; all of its units are always one of them."""
        if self.searched is not None and group.name not in self.searched:
            return np.array([group.size])
        places = group.channels // group.size
        step = self.multiple // math.gcd(self.multiple, places)
        least = min(group.size, max(1, math.ceil(self.floor / places)))
        widths = np.arange(step, group.size + 1, step)
        return np.union1d(widths[widths >= least], [group.size]).astype(np.int64)


def problem_of(
    graph: Graph,
    coupling: Coupling,
    scores: Scores,
    rules: Rules = Rules(),
    *,
    operators: Sequence[OperatorMacs] | None = None,
) -> Problem:
    """The knapsack over the widths of a graph's groups.

    Args:
        graph: units ordered, the most important first.
        coupling: its groups.
        scores: of the units as they stand.
        rules: allowed widths and their cost.
        operators: what `macs_by_node` says of the graph, where the caller has it already.

    Raises:
        EbbtideError: ``nesting.nothing_to_shrink`` if no group has a second width; ``nesting.dense_table`` if a
            limit or a measured time depends on too many groups at once.
    """
    options = tuple(rules.widths_of(group) for group in coupling.groups)
    if all(len(widths) == 1 for widths in options):
        raise _nothing(coupling, rules)
    tables = _Tables(coupling, options)
    values = []
    for group, widths in zip(coupling.groups, options, strict=True):
        values.append(np.concatenate([[0.0], np.cumsum(scores[group.name])])[widths])
    operators = macs_by_node(graph, coupling) if operators is None else operators
    unit = "MACs"
    if rules.cost == "macs":
        costs = tables.factors(_total(operator.macs for operator in operators))
    elif rules.cost == "dense-input":
        costs = tables.factors(_total(dense_input(operator, coupling, rules.searched) for operator in operators))
    else:
        costs, unit = tables.times(operators, rules.cost), "us"
    limits = []
    if rules.memory_limit_bytes is not None:
        for name, polynomial in peak_bytes_by_node(graph, coupling):
            factor = tables.whole(polynomial, f"the memory of {name}")
            limits.append(Limit(f"{name} (input and output)", factor, rules.memory_limit_bytes))
    names = tuple(group.name for group in coupling.groups)
    return Problem(names, options, tuple(values), costs, tuple(limits), unit=unit)


def dense_input(operator: OperatorMacs, coupling: Coupling, searched: Collection[str] | None = None) -> Polynomial:
    """An operator's MACs as published: kept outputs with the full input, nothing for what is not searched."""
    names = {coupling.groups[index].name for key in operator.outputs.terms for index in key}
    if not names or (searched is not None and not names & set(searched)):
        return Polynomial()
    return operator.outputs.times(operator.scale * operator.inputs.at(coupling, {}))


def _total(polynomials: Any) -> Polynomial:
    total = Polynomial()
    for one in polynomials:
        total = total + one
    return total


def _nothing(coupling: Coupling, rules: Rules) -> EbbtideError:
    reasons = [f"{one.subject}: {one.reason}" for one in coupling.whole]
    small = [f"{g.name}: {g.channels} channels allow no smaller multiple of {rules.multiple}" for g in coupling.groups]
    return EbbtideError(
        "nesting.nothing_to_shrink",
        "The network has nothing to shrink",
        found="; ".join([*small, *reasons][:8]),
        hint="Lower widths.multiple or widths.floor; `ebb inspect --groups` lists what stays whole and why.",
        details={"whole": reasons, "groups": small},
    )


class _Tables:
    def __init__(self, coupling: Coupling, options: Sequence[NDArray[np.int64]]) -> None:
        self.coupling = coupling
        self.options = options

    def factors(self, polynomial: Polynomial) -> tuple[Factor, ...]:
        """One table for each set of groups that are multiplied with each other."""
        found: dict[tuple[int, ...], NDArray[Any]] = {}
        for key, factor in polynomial.terms.items():
            groups = tuple(dict.fromkeys(key))
            table = self._evaluated({key: factor}, groups)
            found[groups] = found[groups] + table if groups in found else table
        return tuple(Factor(groups, table) for groups, table in found.items())

    def whole(self, polynomial: Polynomial, subject: str) -> Factor:
        """One table for the whole polynomial, over all its groups."""
        groups = tuple(sorted({index for key in polynomial.terms for index in key}))
        self._check(groups, subject)
        return Factor(groups, self._evaluated(polynomial.terms, groups))

    def times(self, operators: Sequence[OperatorMacs], times: LayerTimes) -> tuple[Factor, ...]:
        """One table for each operator."""
        found = []
        for operator in operators:
            terms = {**operator.outputs.terms, **operator.inputs.terms}
            groups = tuple(sorted({index for key in terms for index in key}))
            self._check(groups, f"the time of {operator.node.name}")
            outputs = self._evaluated(operator.outputs.terms, groups)
            inputs = self._evaluated(operator.inputs.terms, groups)
            measured = [
                times.latency_us(operator, int(o), int(i)) for o, i in zip(outputs.flat, inputs.flat, strict=True)
            ]
            found.append(Factor(groups, np.asarray(measured, np.float64).reshape(outputs.shape)))
        return tuple(found)

    def _evaluated(self, terms: Mapping[tuple[int, ...], int], groups: tuple[int, ...]) -> NDArray[np.int64]:
        shape = tuple(len(self.options[group]) for group in groups)
        total = np.zeros(shape, np.int64)
        for key, factor in terms.items():
            product = np.full(shape, factor, np.int64)
            for index in key:
                axis = groups.index(index)
                product = product * self.options[index].reshape([-1 if a == axis else 1 for a in range(len(groups))])
            total = total + product
        return total

    def _check(self, groups: tuple[int, ...], subject: str) -> None:
        size = math.prod(len(self.options[group]) for group in groups)
        if size > LARGEST_TABLE:
            names = ", ".join(self.coupling.groups[group].name for group in groups[:6])
            raise EbbtideError(
                "nesting.dense_table",
                f"{subject.capitalize()} depends on too many widths at once: {size:,} combinations",
                expected=f"at most {LARGEST_TABLE:,}",
                found=names,
                hint="Raise widths.multiple, or leave the memory limit and measured costs out for this model.",
            )
