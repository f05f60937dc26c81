"""Flatbuffers read in place: just enough to look into a program's file without the exporter's schema compiler.

A caller numbers the fields as their ``.fbs`` schema lists them (a union takes two numbers, its kind and its value);
ExecuTorch keeps these numbers for compatibility. See https://flatbuffers.dev/internals for the format.
"""

from __future__ import annotations

import mmap
import struct
from typing import TypeAlias

Buffer: TypeAlias = bytes | memoryview | mmap.mmap


class Table:
    """A table: fields by number, each at an offset that the table's vtable gives.

    Every method raises `struct.error` where the data end too early, and `LookupError` for a field that is not there and
    has no default.
    """

    def __init__(self, data: Buffer, place: int) -> None:
        self._data = data
        self._place = place
        self._vtable = place - number(data, place, "<i")

    @staticmethod
    def root(data: Buffer, start: int = 0) -> Table:
        """The table that a flatbuffer at `start` begins with."""
        return Table(data, _follow(data, start))

    def has(self, field: int) -> bool:
        """Whether the field is written; one at its default is not."""
        return bool(self._offset(field))

    def number(self, field: int, form: str, default: int | None = None) -> int:
        """A number, by its `struct` form without byte order: ``B``, ``h``, ``i``, ``I``, ``Q``."""
        if default is not None and not self.has(field):
            return default
        return number(self._data, self._where(field), f"<{form}")

    def vector(self, field: int, form: str) -> tuple[int, ...]:
        """A vector of numbers."""
        start, count = self._vector(field)
        return struct.unpack_from(f"<{count}{form}", self._data, start)

    def bytes_at(self, field: int) -> tuple[int, int]:
        """Where a vector of bytes begins, and how many there are."""
        return self._vector(field)

    def table(self, field: int) -> Table:
        """A table."""
        return Table(self._data, _follow(self._data, self._where(field)))

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        start, count = self._vector(field)
        return [Table(self._data, _follow(self._data, start + 4 * index)) for index in range(count)]

    def text(self, field: int) -> str:
        """A string."""
        return bytes(self.vector(field, "B")).decode()

    def _offset(self, field: int) -> int:
        entry = 4 + 2 * field
        return number(self._data, self._vtable + entry, "<H") if entry < number(self._data, self._vtable, "<H") else 0

    def _where(self, field: int) -> int:
        offset = self._offset(field)
        if not offset:
            raise LookupError(f"field {field} is missing")
        return self._place + offset

    def _vector(self, field: int) -> tuple[int, int]:
        start = _follow(self._data, self._where(field))
        return start + 4, number(self._data, start, "<I")


def number(data: Buffer, place: int, form: str) -> int:
    """One number at a place, by its `struct` form."""
    found: int = struct.unpack_from(form, data, place)[0]
    return found


def _follow(data: Buffer, place: int) -> int:
    return place + number(data, place, "<I")
