"""Which exit: where it stands and of which type it is."""

from __future__ import annotations

from typing import NamedTuple


class ExitKey(NamedTuple):
    """An exit of one width; keys sort by position and then by type.

    Attributes:
        position: index of the stage that it follows.
        type: name of its `ExitType`.
    """

    position: int
    type: str

    def __str__(self) -> str:
        """As files spell it: ``3:pool-linear``."""
        return f"{self.position}:{self.type}"

    @classmethod
    def parse(cls, text: str) -> ExitKey:
        """The key that ``str`` spelled."""
        position, _, kind = text.partition(":")
        return cls(int(position), kind)
