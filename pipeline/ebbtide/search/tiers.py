"""The table of configurations that no other beats, and the up to four of them that the policy moves between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ebbtide.errors import EbbtideError
from ebbtide.search.candidate import Candidate

MAX_TIERS = 4
MAX_ROWS = 16


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other candidate equals or beats in both metric and mean cost; best quality (and dearest) first."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.score.mean_cost, -c.score.value, c.width, c.thresholds)):
        if not front or candidate.score.value > front[-1].score.value:
            front.append(candidate)
    return front[::-1]


def choose_tiers(
    front: Sequence[Candidate], *, count: int | None = None, max_drop_points: float = 10.0, floor: float | None = None
) -> list[int]:
    """Indices into `front` of the tiers, best quality first, cost strictly decreasing.

    Tier 0 is the best on *select*; the last is the cheapest that loses at most `max_drop_points` against it; those
    between lie nearest to equal steps of log cost. With a count left to us there are as many as differ, at most four.

    Args:
        front: from `pareto`.
        count: how many tiers; None for as many as are useful.
        max_drop_points: in points of the metric (hundredths).
        floor: no tier may have less than this metric.

    Raises:
        EbbtideError: ``search.floor`` if the best configuration does not reach the floor.
    """
    best = front[0].score.value
    if floor is not None and best < floor:
        raise EbbtideError(
            "search.floor",
            "No configuration reaches the floor",
            expected=f"at least {floor:.4f} on select (tiers.floor)",
            found=f"{best:.4f} for the best one",
            hint="Lower tiers.floor, or start from a better model.",
        )
    lowest = max(best - max_drop_points / 100.0, floor if floor is not None else 0.0)
    allowed = [i for i, c in enumerate(front) if c.score.value >= lowest - 1e-12]
    wanted = min(count or MAX_TIERS, len(allowed))
    if wanted == 1:
        return [allowed[0]]
    log_costs = np.log([front[i].score.mean_cost for i in allowed])
    chosen = {0, len(allowed) - 1}
    for target in np.linspace(log_costs[0], log_costs[-1], wanted)[1:-1]:
        free = [k for k in range(len(allowed)) if k not in chosen]
        chosen.add(min(free, key=lambda k: (abs(log_costs[k] - target), k)))
    return [allowed[k] for k in sorted(chosen)]


def thin(front: Sequence[Candidate], *, keep: Sequence[int], rows: int = MAX_ROWS) -> list[Candidate]:
    """At most `rows` of the front, spread evenly over it, those in `keep` among them; order is preserved."""
    chosen = set(keep)
    for index in np.linspace(0, len(front) - 1, rows).round().astype(int):
        if len(chosen) >= min(rows, len(front)):
            break
        chosen.add(int(index))
    return [front[i] for i in sorted(chosen)]
