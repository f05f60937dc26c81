"""How many threads a piece of work deserves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SMALL_MACS = 1_000_000_000
"""Below so many MACs a call, two threads that wait for each other at every operator lose more than they gain."""


@contextmanager
def fitting_threads(macs_per_call: float) -> Iterator[None]:
    """Let torch use one thread where calls are small, and all it has where they are not.

    The rule looks at the work alone, so that the weights of a small model come out the same, byte for byte, on
    machines with other numbers of cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if macs_per_call < SMALL_MACS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
