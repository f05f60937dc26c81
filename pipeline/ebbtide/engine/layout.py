"""The order in memory of what a program's methods take, read from the .pte file.

The runtime copies the bytes of an input without a look at its strides, and its bindings tell sizes only. A file says in
which order it means them. It is a flatbuffer; the numbers here are those of ExecuTorch's ``schema/program.fbs``, which
keeps them for compatibility.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Literal, TypeAlias

Layout: TypeAlias = Literal["contiguous", "channels_last"]

_PROGRAM_PLANS = 1
_PLAN_NAME, _PLAN_VALUES, _PLAN_INPUTS = 0, 2, 3
_VALUE_KIND, _VALUE = 0, 1
_TENSOR = 5  # in the union KernelTypes
_TENSOR_DIM_ORDER = 3

_LAYOUTS: dict[tuple[int, ...], Layout] = {(0, 2, 3, 1): "channels_last"}


def input_layouts(program: Path) -> dict[str, Layout]:
    """For every method of a .pte file the order of its first input.

    Raises:
        ValueError: the file is no such flatbuffer, or asks for another order than contiguous or channels_last.
    """
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return dict(_input(plan) for plan in _Table(data, _follow(data, 0)).tables(_PROGRAM_PLANS))
        except (struct.error, UnicodeDecodeError, LookupError) as error:
            raise ValueError(f"no program could be read: {error}") from error


class _Table:
    """A flatbuffer table: fields by number, each at an offset that the table's vtable gives."""

    def __init__(self, data: mmap.mmap, place: int) -> None:
        self._data = data
        self._place = place
        self._vtable = place - _number(data, place, "<i")

    def place(self, field: int) -> int:
        """Where a field lies."""
        entry = 4 + 2 * field
        offset = _number(self._data, self._vtable + entry, "<H") if entry < self._size() else 0
        if not offset:
            raise LookupError(f"field {field} is missing")
        return self._place + offset

    def byte(self, field: int) -> int:
        """A field of one byte."""
        return _number(self._data, self.place(field), "<B")

    def vector(self, field: int, form: str) -> tuple[int, ...]:
        """A field that is a vector of numbers."""
        start = _follow(self._data, self.place(field))
        count = _number(self._data, start, "<I")
        return struct.unpack_from(f"<{count}{form}", self._data, start + 4)

    def table(self, field: int) -> _Table:
        """A field that is a table."""
        return _Table(self._data, _follow(self._data, self.place(field)))

    def tables(self, field: int) -> list[_Table]:
        """A field that is a vector of tables."""
        start = _follow(self._data, self.place(field))
        count = _number(self._data, start, "<I")
        return [_Table(self._data, _follow(self._data, start + 4 + 4 * index)) for index in range(count)]

    def text(self, field: int) -> str:
        """A field that is a string."""
        return bytes(self.vector(field, "B")).decode()

    def _size(self) -> int:
        return _number(self._data, self._vtable, "<H")


def _input(plan: _Table) -> tuple[str, Layout]:
    name, inputs = plan.text(_PLAN_NAME), plan.vector(_PLAN_INPUTS, "i")
    value = plan.tables(_PLAN_VALUES)[inputs[0]]
    if value.byte(_VALUE_KIND) != _TENSOR:
        raise ValueError(f"{name!r} takes something that is not a tensor")
    order = value.table(_VALUE).vector(_TENSOR_DIM_ORDER, "B")
    if order == tuple(range(len(order))):
        return name, "contiguous"
    if order not in _LAYOUTS:
        raise ValueError(f"{name!r} takes dimensions in the order {list(order)}")
    return name, _LAYOUTS[order]


def _follow(data: mmap.mmap, place: int) -> int:
    return place + _number(data, place, "<I")


def _number(data: mmap.mmap, place: int, form: str) -> int:
    number: int = struct.unpack_from(form, data, place)[0]
    return number
