"""What a sample costs, by where it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey


@dataclass(frozen=True)
class Costs:
    """Costs of stages, exits and head, all in one unit (MACs, or microseconds).

    Attributes:
        stages: of every stage, in order.
        exits: of every exit by its key; or by position (the index of the stage it follows) where each position has one.
        head: of what comes after the last stage.

    Raises:
        EbbtideError: ``search.costs`` if a cost is negative or not finite.
    """

    stages: tuple[float, ...]
    exits: Mapping[int, float] | Mapping[ExitKey, float]
    head: float

    def __post_init__(self) -> None:
        wrong = [cost for cost in (*self.stages, *self.exits.values(), self.head) if not 0 <= cost < np.inf]
        if wrong:
            raise EbbtideError(
                "search.costs",
                "A cost of a stage, an exit or the head is not a number of at least 0",
                expected="0 or more, finite",
                found=str(wrong[0]),
            )

    @classmethod
    def of_methods(cls, values: Mapping[str, float]) -> Costs:
        """Costs of a program's methods, counted (MACs) or measured (one unit of time).

        Args:
            values: by name: ``stage0``, ``stage1``, ..., ``exit{position}`` and ``head``.

        Raises:
            EbbtideError: ``search.costs`` if a stage or the head is missing, or a value is out of range.
        """
        count = sum(name.startswith("stage") for name in values)
        wanted = [*(f"stage{index}" for index in range(count)), "head"]
        missing = [name for name in wanted if name not in values]
        if missing:
            raise EbbtideError(
                "search.costs",
                "A method of the program has no cost",
                expected=", ".join(wanted),
                found=f"no {missing[0]}",
            )
        exits = {int(name.removeprefix("exit")): value for name, value in values.items() if name.startswith("exit")}
        return cls(tuple(values[name] for name in wanted[:-1]), exits, values["head"])

    @property
    def total(self) -> float:
        """The model without exits."""
        return sum(self.stages) + self.head

    def with_boundaries(self, cost: float) -> Costs:
        """The same where every exit in use also costs what one more boundary between two stages does.

        Args:
            cost: of leaving one method and entering the next, in the unit of the costs.
        """
        exits = cast("Mapping[ExitKey, float]", self.exits)
        return replace(self, exits={key: value + cost for key, value in exits.items()})

    def of_exits(self, keys: Sequence[ExitKey]) -> NDArray[np.float64]:
        """What computing each exit costs, (E,).

        Raises:
            EbbtideError: ``search.costs`` if one has no cost.
        """
        known = cast("Mapping[object, float]", self.exits)
        found = [known.get(key, known.get(key.position)) for key in keys]
        if None in found:
            raise EbbtideError("search.costs", f"There is no cost of exit {keys[found.index(None)]}")
        return np.array(found, dtype=np.float64)

    def reaching(self, positions: Sequence[int]) -> NDArray[np.float64]:
        """Backbone cost up to each exit position, then to the end of the head: (E + 1,)."""
        sums = np.cumsum(self.stages)
        return np.array([*(sums[p] for p in positions), self.total], dtype=np.float64)

    def leaving_costs(self, keys: Sequence[ExitKey], enabled: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Whole cost of a sample that leaves at each exit or at the head: backbone and all enabled exits passed.

        Args:
            keys: of the E exits, in order of position.
            enabled: (E,) which of them are on.
        """
        exits = self.of_exits(keys) * enabled
        passed = np.append(np.cumsum(exits), exits.sum())
        paid: NDArray[np.float64] = self.reaching([key.position for key in keys]) + passed
        return paid
