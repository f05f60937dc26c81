"""The order in memory of what a program's methods take, read from the .pte file.

The runtime copies the bytes of an input without a look at its strides, and its bindings tell sizes only. A file says in
which order it means them; the numbers here are those of ExecuTorch's ``schema/program.fbs``.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Literal, TypeAlias

from ebbtide.engine.flatbuffer import Table

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
        OSError: it cannot be opened.
        ValueError: the file is no such flatbuffer, or asks for another order than contiguous or channels_last.
    """
    # As few system calls as can be: at each one a thread that predicts may take the interpreter for its 5 ms.
    file = os.open(program, os.O_RDONLY)
    try:
        mapped = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(file)
    with mapped as data:
        try:
            return dict(_input(plan) for plan in Table.root(data).tables(_PROGRAM_PLANS))
        except (struct.error, UnicodeDecodeError, LookupError) as error:
            raise ValueError(f"no program could be read: {error}") from error


def _input(plan: Table) -> tuple[str, Layout]:
    name, inputs = plan.text(_PLAN_NAME), plan.vector(_PLAN_INPUTS, "i")
    value = plan.tables(_PLAN_VALUES)[inputs[0]]
    if value.number(_VALUE_KIND, "B") != _TENSOR:
        raise ValueError(f"{name!r} takes something that is not a tensor")
    order = value.table(_VALUE).vector(_TENSOR_DIM_ORDER, "B")
    if order == tuple(range(len(order))):
        return name, "contiguous"
    if order not in _LAYOUTS:
        raise ValueError(f"{name!r} takes dimensions in the order {list(order)}")
    return name, _LAYOUTS[order]
