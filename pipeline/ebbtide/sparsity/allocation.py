"""How many blocks each layer gives up: rank columns of all layers in one order, cut where the budget is met.

The r-th rank column of a layer is the r-th weakest block of each of its block-rows; its score is the sum of theirs.
Scores never fall with r, so whatever is cut by score is a prefix of ranks, and every block-row of a layer (of a band
of columns, where there are width levels) keeps the same number of blocks. Source: CRISP, DATE 2024 (arXiv:2311.14272),
with the budget met exactly, ties defined, and a floor for every layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError

Unit = Literal["weights", "macs", "ranks"]


@dataclass(frozen=True)
class Band:
    """Rank columns of one band of a layer; without width levels a layer has one band.

    Args:
        layer: the weight's name.
        scores: of its rank columns, (V,) float64, ascending.
        gone: how many were removed before: the first ones.
        cost: what each kept rank column counts in the budget, a whole number above 0.
        floor: how many are never removed: the last ones.
    """

    layer: str
    scores: NDArray[np.float64] = field(repr=False)
    gone: int
    cost: int
    floor: int


@dataclass(frozen=True)
class Budget:
    """What may remain.

    Args:
        unit: of what; for the message.
        whole: all of it, in the bands' unit of cost.
        fixed: what remains beside the bands, whatever they give up.
        kept: share of `whole` that may remain, 0..1.
    """

    unit: Unit
    whole: int
    fixed: int
    kept: float

    @property
    def limit(self) -> int:
        """The most that may remain."""
        # A share such as 0.3 of 10 is 3, though 0.3 * 10 in binary may lie just below.
        return math.floor(self.kept * self.whole * (1 + 1e-12))


def floors(bands: Sequence[Band], budget: Budget) -> float:
    """The share of the whole that remains where every band keeps its floor only."""
    return (budget.fixed + sum(map(_least, bands))) / budget.whole


def _least(band: Band) -> int:
    return band.cost * min(band.floor, len(band.scores) - band.gone)


def cut(bands: Sequence[Band], budget: Budget) -> list[int]:
    """How many rank columns each band loses in all, those removed before included.

    The columns of all bands are put in order of score, equal scores by band and then rank, and the fewest are removed
    with which the budget is met: what remains is at most the limit, and with one column more it would not be.

    Args:
        bands: in the order that settles ties.
        budget: what may remain.

    Raises:
        EbbtideError: ``pruning.budget`` for a share that is not above 0 and at most 1, ``pruning.floor`` where the
            floors alone are above the limit.
    """
    if not 0.0 < budget.kept <= 1.0:
        raise EbbtideError(
            "pruning.budget",
            f"A share of {budget.kept:g} cannot be kept",
            expected="above 0 and at most 1",
            place="sparsity.target",
        )
    fixed = budget.fixed + sum(map(_least, bands))
    if fixed > budget.limit:
        binding = max(bands, key=_least, default=None)
        raise EbbtideError(
            "pruning.floor",
            f"No masks keep only {budget.kept:.3%} of the {_WORDS[budget.unit]}",
            expected=f"at least {floors(bands, budget):.3%}, which floors, N:M and dense layers keep",
            found=f"{budget.kept:.3%}",
            place=binding.layer if binding else None,
            hint="Raise the budget, use a smaller block, or fewer of each M.",
        )
    open_ = [band.scores[band.gone : len(band.scores) - band.floor] for band in bands]
    counts = [len(scores) for scores in open_]
    costs = np.repeat(np.array([band.cost for band in bands], np.int64), counts)
    owner = np.repeat(np.arange(len(bands)), counts)
    # Stable: equal scores stay in the order of bands and ranks, which also keeps what is removed a prefix.
    order = np.argsort(np.concatenate([np.zeros(0), *open_]), kind="stable")
    present = fixed + int(costs.sum())
    removed = np.concatenate([[0], np.cumsum(costs[order])])
    fewest = int(np.searchsorted(removed, present - budget.limit))
    losses = np.bincount(owner[order[:fewest]], minlength=len(bands))
    return [band.gone + int(lost) for band, lost in zip(bands, losses, strict=True)]


_WORDS = {"weights": "weights of the masked layers", "macs": "multiply-accumulates", "ranks": "rank columns"}
