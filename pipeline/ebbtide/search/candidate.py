"""A configuration that was found, with its score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.exits import ExitKey, Records
from ebbtide.model import Metric
from ebbtide.search.costs import Costs
from ebbtide.search.score import OFF, Score, score


@dataclass(frozen=True)
class Candidate:
    """A configuration and its score on the split it was found on.

    Attributes:
        thresholds: by position; only the exits that are on.
        score: exact.
        width: the nested width whose records it was found on; positions and thresholds mean nothing in another.
        types: of the exits in `thresholds`, in the same order.
        optimism: what was taken off the metric because the configuration was chosen on the same samples (`optimism`).
    """

    thresholds: tuple[tuple[int, float], ...]
    score: Score
    width: str = ""
    types: tuple[str, ...] = ()
    optimism: float = 0.0

    @property
    def keys(self) -> tuple[ExitKey, ...]:
        """The exits that are on."""
        return tuple(ExitKey(p, kind) for (p, _), kind in zip(self.thresholds, self.types, strict=True))

    def row(self, keys: tuple[ExitKey, ...]) -> NDArray[np.float32]:
        """Thresholds as the evaluator reads them, for records of these exits: (E,), `OFF` where an exit is off."""
        on = {key: value for key, (_, value) in zip(self.keys, self.thresholds, strict=True)}
        return np.array([on.get(key, OFF) for key in keys], dtype=np.float32)


def scored_candidate(
    records: Records, costs: Costs, thresholds: NDArray[np.float32], *, metric: Metric, classes: int
) -> Candidate:
    """A candidate from thresholds, (E,), with its exact score on the records."""
    on = [(key, float(value)) for key, value in zip(records.keys, thresholds, strict=True) if np.isfinite(value)]
    return Candidate(
        thresholds=tuple((key.position, value) for key, value in on),
        score=score(records, costs, thresholds, metric=metric, classes=classes),
        width=records.level,
        types=tuple(key.type for key, _ in on),
    )
