"""Small whole numbers in a row of bits, the lowest bit of each first, without gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def width_of(count: int) -> int:
    """Bits that tell so many values apart: ceil(log2 count), 0 for a single one."""
    return (count - 1).bit_length()


def bytes_of(count: int, width: int) -> int:
    """How many bytes so many numbers of `width` bits take."""
    return -(-count * width // 8)


def pack_bits(numbers: NDArray[np.int64], width: int) -> bytes:
    """Numbers below 2 ** width, one after the other; the last byte is filled up with zeros."""
    bits = (numbers.reshape(-1, 1) >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def unpack_bits(data: bytes, count: int, width: int) -> NDArray[np.int64]:
    """The first `count` numbers that `pack_bits` wrote."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width, bitorder="little")
    found: NDArray[np.int64] = (bits.reshape(count, width).astype(np.int64) << np.arange(width)).sum(axis=1)
    return found
