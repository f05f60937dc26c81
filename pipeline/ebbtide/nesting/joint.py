"""All levels at once: the largest sum of their values, with widths that never shrink from one to the next.

Each group has a width at each level, and a table between neighbouring levels allows only what does not shrink; so it
is one problem with several budgets. The levels' best values without nesting bound the sum, and what is lost by nesting
is little: options that would lose more than the best nested solution known are removed first, which leaves few.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ebbtide.nesting import exact
from ebbtide.nesting.exact import Answer
from ebbtide.nesting.frontier import choose_order
from ebbtide.nesting.solver import MOST_ENTRIES, Solver
from ebbtide.nesting.tables import Integers, Kept, Tables

Choices = list[list[int]]

_PASSES = 20


def solve_together(solver: Solver, budgets: Sequence[int]) -> tuple[Choices, float, str]:
    """Nested choices for budgets that each can be met.

    Args:
        solver: the problem of one level.
        budgets: in units of cost, ascending.

    Returns:
        A choice for each budget, by what share their sum may lie below the best one, and the reason if it may.
    """
    sizes = solver.tables.sizes
    everything = [np.arange(size) for size in sizes]
    alone = [solver.solve(everything, budget) for budget in budgets]
    note = solver.note
    bound = sum(answer.bound for answer in alone)
    best = _improve(solver, budgets, _chains(solver, budgets, alone))
    value = _value(solver, best)
    if value >= bound:
        return best, 0.0, ""
    kept, least = _windows(solver, budgets, alone, value)
    bound = min(bound, least)
    tables = _stacked(solver.tables, len(budgets), kept)
    order, entries = choose_order(tables)
    if entries * len(budgets) <= MOST_ENTRIES:
        start = [
            int(np.searchsorted(kept[level][group], best[level][group]))
            for level in range(len(budgets))
            for group in range(len(sizes))
        ]
        answer = exact.solve(tables, np.array(budgets, np.int64), order, [start])
        assert answer.choice is not None
        best = [
            [int(kept[level][group][answer.choice[level * len(sizes) + group]]) for group in range(len(sizes))]
            for level in range(len(budgets))
        ]
        value = answer.value
        bound = float(value) if answer.exact else min(bound, answer.bound)
        note = "more partial choices of all levels were equally hopeful than fit in memory"
    else:
        note = note or (
            f"all levels together need tables of more than {MOST_ENTRIES // len(budgets):,} entries; the bound is that "
            "of the levels without nesting"
        )
    gap = (bound - value) / bound if bound > value else 0.0
    return best, gap, note if gap > 0 else ""


def _value(solver: Solver, choices: Choices) -> int:
    return sum(solver.tables.value(choice) for choice in choices)


def _between(solver: Solver, lower: Sequence[int] | None, upper: Sequence[int] | None) -> Kept:
    return [
        np.arange(0 if lower is None else lower[group], size if upper is None else upper[group] + 1)
        for group, size in enumerate(solver.tables.sizes)
    ]


def _chains(solver: Solver, budgets: Sequence[int], alone: Sequence[Answer]) -> list[Choices]:
    """Nested choices that start from each level's own best one, and go up and down from there."""
    found = []
    for first, answer in enumerate(alone):
        # Searched without proof a level takes longer; then the two ends are enough to start from.
        if answer.choice is None or (solver.dense and 0 < first < len(alone) - 1):
            continue
        choices: dict[int, list[int]] = {first: answer.choice}
        for level in range(first + 1, len(budgets)):
            below = choices[level - 1]
            larger = solver.solve(_between(solver, below, None), budgets[level], start=[below], prove=False)
            choices[level] = larger.choice or below
        for level in range(first - 1, -1, -1):
            smaller = solver.solve(_between(solver, None, choices[level + 1]), budgets[level], prove=False)
            if smaller.choice is None:
                break
            choices[level] = smaller.choice
        else:
            found.append([choices[level] for level in range(len(budgets))])
    return found


def _improve(solver: Solver, budgets: Sequence[int], chains: Sequence[Choices]) -> Choices:
    """The best of some nested choices after each level was solved again between its neighbours."""
    best = max(chains, key=lambda choices: _value(solver, choices))
    for _ in range(1 if solver.dense else _PASSES):
        before = _value(solver, best)
        for level in range(len(budgets)):
            lower = best[level - 1] if level else None
            upper = best[level + 1] if level + 1 < len(budgets) else None
            answer = solver.solve(_between(solver, lower, upper), budgets[level], start=[best[level]], prove=False)
            if answer.choice is not None:
                best = [*best[:level], answer.choice, *best[level + 1 :]]
        if _value(solver, best) == before:
            break
    return best


def _windows(solver: Solver, budgets: Sequence[int], alone: Sequence[Answer], value: int) -> tuple[list[Kept], float]:
    """Per level and group the options with which all levels together may still reach a value, and their bound.

    The levels' bounds with an option of one group add up, and only options that do not shrink from level to level
    count: so each group alone bounds the sum.
    """
    windows: list[Kept] = [[] for _ in budgets]
    # Bounds are sums of floats; what is proven is proven to this share.
    floor = value - 0.5 - 1e-11 * value
    least = np.inf
    own = [
        [np.minimum(rows, answer.bound) for rows in solver.bounds_with(budget)]
        for budget, answer in zip(budgets, alone, strict=True)
    ]
    for group in range(len(solver.tables.sizes)):
        rows = [level[group] for level in own]
        # The best of all lower levels with at most an option, and of all higher ones with at least it.
        lower = [np.zeros_like(rows[0])]
        for row in rows[:-1]:
            lower.append(np.maximum.accumulate(lower[-1] + row))
        higher = [np.zeros_like(rows[0])]
        for row in rows[:0:-1]:
            higher.append(np.maximum.accumulate((higher[-1] + row)[::-1])[::-1])
        sums = [below + row + above for below, row, above in zip(lower, rows, higher[::-1], strict=True)]
        least = min(least, float(sums[0].max()))
        for level, row in enumerate(sums):
            windows[level] = [*windows[level], np.flatnonzero(row >= floor)]
    return windows, least


def _stacked(tables: Tables, levels: int, kept: Sequence[Kept]) -> Tables:
    """One problem of all levels; group g of level l has the index l * groups + g."""
    count = len(tables.values)
    values: list[Integers] = []
    costs: list[tuple[tuple[int, ...], Integers]] = []
    allowed: list[tuple[tuple[int, ...], NDArray[np.bool_]]] = []
    for level in range(levels):
        own = tables.restrict(kept[level])
        shift = level * count
        values.extend(own.values)
        for groups, table in own.costs:
            spread = np.zeros((*table.shape[:-1], levels), np.int64)
            spread[..., level] = table[..., 0]
            costs.append((tuple(group + shift for group in groups), spread))
        allowed.extend((tuple(group + shift for group in groups), may) for groups, may in own.allowed)
        if level:
            for group in range(count):
                lower, upper = kept[level - 1][group], kept[level][group]
                allowed.append(((group + shift - count, group + shift), lower[:, None] <= upper[None, :]))
    return Tables(tuple(values), tuple(costs), np.repeat(tables.base, levels), tuple(allowed))
