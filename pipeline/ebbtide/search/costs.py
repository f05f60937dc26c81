"""What a sample costs, by where it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Costs:
    """Costs of stages, exits and head, all in one unit (MACs, or microseconds).

    Attributes:
        stages: of every stage, in order.
        exits: of the exit at each position (the index of the stage it follows).
        head: of what comes after the last stage.
    """

    stages: tuple[float, ...]
    exits: Mapping[int, float]
    head: float

    @property
    def total(self) -> float:
        """The model without exits."""
        return sum(self.stages) + self.head

    def reaching(self, positions: tuple[int, ...]) -> NDArray[np.float64]:
        """Backbone cost up to each exit position, then to the end of the head: (P + 1,)."""
        sums = np.cumsum(self.stages)
        return np.array([*(sums[p] for p in positions), self.total], dtype=np.float64)

    def leaving_costs(self, positions: tuple[int, ...], enabled: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Whole cost of a sample that leaves at each exit or at the head: backbone and all enabled exits passed.

        Args:
            positions: of the P exits.
            enabled: (P,) which of them are on.
        """
        exits = np.array([self.exits[p] for p in positions]) * enabled
        paid: NDArray[np.float64] = self.reaching(positions) + np.append(np.cumsum(exits), exits.sum())
        return paid
