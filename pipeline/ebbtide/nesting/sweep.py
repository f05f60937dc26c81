"""All partial choices that may still lead to the best one, group after group.

A partial choice is its combination of widths on the frontier, its costs and its value. One that costs no less and is
worth no more than another on the same combination is dominated; one whose best completion at any of several prices
stays below a solution already known is hopeless. Both are dropped; nothing else is, unless there are more than can be
held, and then the best bound among those dropped says what may have been lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.nesting.frontier import Step
from ebbtide.nesting.relaxation import Relaxed, gains_of
from ebbtide.nesting.tables import BITS, Integers

Floats = NDArray[np.float64]

# Expanded entries held at a time, and partial choices after which they are thinned between.
_CHUNK = 2_000_000
_THIN = 6_000_000
# With several costs a partial choice is compared to this many better ones; a missed one only costs time.
_NEIGHBOURS = 16
# Combinations of a frontier and a total share a key of 63 bits.
MOST_PLACES = 1 << (62 - BITS)


@dataclass(frozen=True)
class Incumbent:
    """The best solution known: an option for each group, its value and its costs."""

    choice: list[int]
    value: int
    cost: Integers

    def key(self) -> tuple[int, int]:
        """What makes a solution better: more value, then less cost."""
        return self.value, -int(self.cost.sum())


@dataclass(frozen=True)
class Partial:
    """Partial choices, one a row: place on the frontier, costs, value, bound, parent's row and option chosen."""

    place: NDArray[np.int32] | Integers
    cost: Integers
    value: Integers
    bound: Floats
    parent: Integers
    option: Integers

    def take(self, rows: NDArray[np.int64]) -> Partial:
        """Some of them."""
        return Partial(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def sweep(
    steps: Sequence[Step],
    relaxations: Sequence[Relaxed],
    least: Sequence[Relaxed],
    budgets: Integers,
    incumbent: Incumbent | None,
    *,
    margin: float,
    most: int,
) -> tuple[list[int] | None, float]:
    """The best choice that is better than a known one.

    Args:
        steps: the decisions.
        relaxations: bounds at several prices, the sharpest first.
        least: per budget, the cheapest completions by that cost.
        budgets: per cost.
        incumbent: the best solution known.
        margin: what rounding may add to a bound.
        most: partial choices to hold after a step.

    Returns:
        The choice, or None if nothing better was found, and the largest bound of what was dropped for want of room
        (-inf where nothing was): if it is below the best value, that value is proven.
    """
    zero = np.zeros(1, np.int64)
    partial = Partial(zero, np.zeros((1, len(budgets)), np.int64), zero, np.zeros(1), zero, zero)
    history: list[tuple[Integers, Integers]] = []
    lost = -np.inf
    for at, step in enumerate(steps):
        partial = _expand(at, step, partial, relaxations, least, budgets, incumbent, margin)
        if len(budgets) > 1:
            # Comparing many is slow and finds few dominated.
            partial, cut = _cut(partial, 4 * most)
            lost = max(lost, cut)
        partial, cut = _cut(_undominated(partial), most)
        lost = max(lost, cut)
        if len(partial.place) == 0:
            return None, lost
        history.append((partial.parent.astype(np.int32), partial.option.astype(np.int32)))
    row = int(np.lexsort((partial.cost.sum(axis=1), -partial.value))[0])
    choice = [0] * len(steps)
    for step, (parent, option) in zip(reversed(steps), reversed(history), strict=True):
        choice[step.group] = int(option[row])
        row = int(parent[row])
    return choice, lost


def _expand(
    at: int,
    step: Step,
    partial: Partial,
    relaxations: Sequence[Relaxed],
    least: Sequence[Relaxed],
    budgets: Integers,
    incumbent: Incumbent | None,
    margin: float,
) -> Partial:
    """All hopeful partial choices with one group more."""
    options = len(step.values)
    first = relaxations[0]
    shape = step.cost.shape[:-1]
    cost = step.cost.reshape(-1, options, len(budgets))
    values = step.values.astype(np.int64)
    gains = np.broadcast_to(gains_of(step, first.prices) + step.lift(first.completions[at + 1]), shape)
    gains = gains.reshape(-1, options)
    after = [-each.completions[at + 1].reshape(-1) for each in least]
    room = []
    for budget, each in enumerate(least):
        cheapest = np.broadcast_to(-step.lift(each.completions[at + 1]), shape).reshape(-1, options)
        if step.allowed is not None:
            cheapest = np.where(step.allowed.reshape(-1, options), cheapest, np.inf)
        room.append(float(budgets[budget]) - cost[..., budget] - cheapest)
    floor = -np.inf if incumbent is None else incumbent.value - margin
    parts: list[Partial] = []
    held = 0
    rows = max(_CHUNK // options, 1)
    for start in range(0, len(partial.place), rows):
        chunk = slice(start, start + rows)
        place = partial.place[chunk]
        worth = partial.value[chunk] + (budgets - partial.cost[chunk]) @ first.prices
        bound = worth[:, None] + gains[place]
        hopeful = bound >= floor
        for budget, space in enumerate(room):
            hopeful &= partial.cost[chunk, budget, None] <= space[place]
        row, option = np.nonzero(hopeful)
        from_place = place[row]
        made = Partial(
            step.following[from_place, option],
            partial.cost[chunk][row] + cost[from_place, option],
            partial.value[chunk][row] + values[option],
            bound[row, option],
            row + start,
            option,
        )
        made = _hopeful(at, made, relaxations[1:], after, budgets, incumbent, margin)
        parts.append(made)
        held += len(made.place)
        if held > _THIN and len(budgets) == 1:
            parts = [_undominated(_join(parts))]
            held = len(parts[0].place)
    return _join(parts)


def _cut(partial: Partial, most: int) -> tuple[Partial, float]:
    """The most hopeful ones, and the largest bound of the others."""
    if len(partial.place) <= most:
        return partial, -np.inf
    order = np.argpartition(-partial.bound, most)
    return partial.take(np.sort(order[:most])), float(partial.bound[order[most:]].max())


def _hopeful(
    at: int,
    made: Partial,
    relaxations: Sequence[Relaxed],
    after: Sequence[Floats],
    budgets: Integers,
    incumbent: Incumbent | None,
    margin: float,
) -> Partial:
    """Those that no price shows to stay below the incumbent, with their sharpest bounds."""
    for relaxed in relaxations:
        bound = (
            made.value + (budgets - made.cost) @ relaxed.prices + relaxed.completions[at + 1].reshape(-1)[made.place]
        )
        bound = np.minimum(bound, made.bound)
        made = Partial(made.place, made.cost, made.value, bound, made.parent, made.option)
        if incumbent is not None:
            made = made.take(np.flatnonzero(bound >= incumbent.value - margin))
    if incumbent is None:
        return made
    # What can at best be equal in value must be cheaper.
    cheapest = made.cost.sum(axis=1) + sum(each[made.place] for each in after)
    return made.take(np.flatnonzero((made.bound > incumbent.value + margin) | (cheapest < int(incumbent.cost.sum()))))


def _join(parts: Sequence[Partial]) -> Partial:
    if len(parts) == 1:
        return parts[0]
    return Partial(*(np.concatenate([getattr(part, name) for part in parts]) for name in Partial.__dataclass_fields__))


def _undominated(partial: Partial) -> Partial:
    """Those that no other on the same place beats in value at no higher costs; of equals the first made."""
    if len(partial.place) < 2:
        return partial
    if partial.cost.shape[1] > 1:
        return _undominated_by_neighbours(partial)
    lift = partial.place.astype(np.int64) << BITS
    by_cost = lift + partial.cost[:, 0]
    order = np.argsort(by_cost, kind="stable")
    by_cost, by_value = by_cost[order], (lift + partial.value)[order]
    running = np.maximum.accumulate(by_value)
    kept = np.flatnonzero(np.concatenate(([True], by_value[1:] > running[:-1])))
    # Among equal costs the last one kept is worth the most.
    kept = kept[np.concatenate((by_cost[kept][1:] != by_cost[kept][:-1], [True]))]
    return partial.take(order[kept])


def _undominated_by_neighbours(partial: Partial) -> Partial:
    order = np.lexsort((partial.cost.sum(axis=1), -partial.value, partial.place))
    place, cost = partial.place[order], partial.cost[order]
    dominated = np.zeros(len(order), np.bool_)
    for apart in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
        dominated[apart:] |= (place[apart:] == place[:-apart]) & (cost[apart:] >= cost[:-apart]).all(axis=1)
    return partial.take(order[~dominated])
