"""The checks and refusals that every engine shares, so that all of them fail alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ebbtide.engine.layout import Layout
from ebbtide.engine.protocol import Array
from ebbtide.errors import EbbtideError, nearest

_FLOAT32 = np.dtype(np.float32)


def checked_input(method: str, tensor: Array, *, shape: tuple[int, ...] | None, layout: Layout = "contiguous") -> Array:
    """The input as a writable float32 array in the order of memory that the method takes, or ``engine.input``.

    Args:
        method: whose input it is, for the message.
        tensor: what the caller gave, in any order.
        shape: the only shape that will do, or None for any.
        layout: the order; channels_last for four dimensions only.
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
    if layout == "contiguous":
        return tensor if tensor.flags.carray else np.array(tensor, order="C")
    rows = tensor.transpose(0, 2, 3, 1)
    return tensor if rows.flags.carray else np.array(rows, order="C").transpose(0, 3, 1, 2)


def strides_of(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """The byte strides of a float32 array of that shape in that order of memory."""
    if layout == "contiguous":
        return np.empty(shape, dtype=_FLOAT32).strides
    batch, channels, height, width = shape
    return np.empty((batch, height, width, channels), dtype=_FLOAT32).transpose(0, 3, 1, 2).strides


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
