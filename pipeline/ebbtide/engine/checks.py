"""The checks and refusals that every engine shares, so that all of them fail alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ebbtide.engine.protocol import Array
from ebbtide.errors import EbbtideError, nearest

_FLOAT32 = np.dtype(np.float32)


def checked_input(method: str, tensor: Array, *, shape: tuple[int, ...] | None) -> Array:
    """The input as a writable float32 array in C order, or ``engine.input``.

    Args:
        method: whose input it is, for the message.
        tensor: what the caller gave.
        shape: the only shape that will do, or None for any.
    """
    if not isinstance(tensor, np.ndarray) or tensor.dtype != _FLOAT32:
        found = tensor.dtype if isinstance(tensor, np.ndarray) else type(tensor).__name__
        raise EbbtideError(
            "engine.input",
            f"The input of method {method!r} has the wrong type.",
            expected="a numpy array of float32",
            found=str(found),
            place=method,
        )
    if shape is not None and tensor.shape != shape:
        raise EbbtideError(
            "engine.input",
            f"The input of method {method!r} has the wrong shape.",
            expected=str(list(shape)),
            found=str(list(tensor.shape)),
            hint="programs are lowered for batch 1; preprocess the input as the manifest says",
            place=method,
        )
    # Memory-mapped and broadcast arrays are read-only, which torch would warn about at every call.
    if tensor.flags.carray:
        return tensor
    return np.array(tensor, order="C")


def unknown_method(method: str, known: Sequence[str]) -> EbbtideError:
    """The error for a method that a program does not have."""
    close = nearest(method, list(known))
    return EbbtideError(
        "engine.unknown_method",
        f"The program has no method {method!r}.",
        expected=f"one of {', '.join(known)}",
        hint=f"did you mean {close!r}?" if close else None,
        place=method,
    )


def closed_error(method: str) -> EbbtideError:
    """The error for a call on a program that has been closed."""
    return EbbtideError(
        "engine.closed",
        f"Method {method!r} was called on a program that has been closed.",
        hint="load the program again",
        place=method,
    )
