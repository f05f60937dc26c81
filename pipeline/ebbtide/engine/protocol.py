"""What every engine can do: load a program, run one of its methods on one tensor, close.

The session, the gate and the profiler know only these two protocols, so a phone, a farm or another
runtime is a new file in this package and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]


class Loaded(Protocol):
    """A program in memory, ready to run. May be called from several threads; calls run one after another."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the program's methods, sorted."""
        ...

    def run(self, method: str, tensor: Array) -> tuple[Array, ...]:
        """Run one method.

        Args:
            method: one of `methods`.
            tensor: float32, exactly the shape that the method was lowered for (batch 1 first), in any order of memory;
                a copy is saved where it is the method's own order, as a stage's output is for what follows it.

        Returns:
            The outputs in the program's order: a stage puts out one tensor, an exit or head
            ``(probabilities (1, k), confidence (1,), logits (1, k))``. They own their memory: a later
            call does not change them. A stage's output may be channels_last in memory (see its strides).

        Raises:
            EbbtideError: ``engine.unknown_method``, ``engine.input``, ``engine.closed``, ``engine.failed``.
        """
        ...

    def close(self) -> None:
        """Free the program. Waits for a call that is running; a second close does nothing."""
        ...


class Engine(Protocol):
    """Something that can run programs on this machine or on one that it reaches."""

    @property
    def name(self) -> str:
        """The engine's name, as records and reports show it."""
        ...

    def load(self, program: Path) -> Loaded:
        """Load a program and every method in it.

        Raises:
            EbbtideError: ``engine.no_program`` if there is no such program, ``engine.load`` if it is damaged or
                needs what this runtime does not have.
        """
        ...
