"""The weights that a lowered program really holds, read back from its .pte file.

Whether the narrow programs of a nested model cost almost nothing on the wire hangs on one property: each of their
constants is, byte for byte, a slice of the wide program's. It can be lost anywhere between the model and the file (a
batch norm of its own, a rounding in folding, a layout), so it is checked here, on the file.

The numbers of fields are those of ExecuTorch's ``schema/program.fbs`` and of
``backends/xnnpack/serialization/runtime_schema.fbs``; a delegate's blob begins with the header ``XH00``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.engine.flatbuffer import Table, number

_PROGRAM_PLANS, _PROGRAM_INLINE, _PROGRAM_SEGMENTS, _PROGRAM_CONSTANTS, _PROGRAM_NAMED = 1, 3, 4, 5, 7
_PLAN_NAME, _PLAN_VALUES, _PLAN_DELEGATES = 0, 2, 7
_VALUE_KIND, _VALUE = 0, 1
_TENSOR = 5  # in the union KernelTypes
_TENSOR_TYPE, _TENSOR_SIZES, _TENSOR_DIM_ORDER, _TENSOR_BUFFER, _TENSOR_ALLOCATION = 0, 2, 3, 5, 6
_TYPES = {0: "u1", 1: "i1", 3: "<i4", 4: "<i8", 6: "<f4", 7: "<f8", 11: "?"}  # of ScalarType

_XNNPACK = "XnnpackBackend"
_GRAPH_VALUES, _GRAPH_DATA = 2, 8
_XNN_TENSOR = 1  # in the union XValueUnion
_XNN_TYPE, _XNN_DIMS, _XNN_BUFFER = 0, 2, 3
_XNN_FLOAT32 = 1
_DATA_KEY = 2


@dataclass(frozen=True, eq=False)
class Constant:
    """One constant of one method.

    Args:
        method: whose it is.
        place: ``xnnpack{delegate}/{index}`` or ``value{index}``, in the order in which the program names them; the
            same layer of two widths has the same place.
        values: in the order of memory that the file has: a convolution's weights (out, kernel..., in), as XNNPACK
            takes them (depthwise: (1, kernel..., channels)).
    """

    method: str
    place: str
    values: NDArray[Any]


def constants(program: Path) -> tuple[Constant, ...]:
    """Every constant of every method of a .pte file of the XNNPACK back end, in the file's order.

    Raises:
        ValueError: the file is no such program, or holds constants of a kind that this package never writes.
    """
    data = program.read_bytes()
    try:
        return tuple(_constants(data))
    except (struct.error, UnicodeDecodeError, LookupError) as error:
        raise ValueError(f"no constants can be read from {program.name}: {error}") from error


def kept_places(narrow: NDArray[Any], wide: NDArray[Any]) -> tuple[NDArray[np.int64], ...] | None:
    """Which indices along each axis of `wide` give `narrow`, bit for bit and in order; None if there are none.

    A prefix is tried first. Other places are found by values that occur once, so an array of few distinct values that
    is no prefix is answered with None although it might be a slice.
    """
    if narrow.ndim != wide.ndim or narrow.dtype != wide.dtype or any(np.array(narrow.shape) > np.array(wide.shape)):
        return None
    prefix = tuple(np.arange(size) for size in narrow.shape)
    if _same(narrow, wide[np.ix_(*prefix)]):
        return prefix
    values, first, counts = np.unique(wide, return_index=True, return_counts=True)
    found = np.minimum(np.searchsorted(values, narrow), len(values) - 1)
    known = (values[found] == narrow) & (counts[found] == 1)
    places = []
    for axis, index in enumerate(np.unravel_index(first[found], wide.shape)):
        others = tuple(other for other in range(narrow.ndim) if other != axis)
        places.append(np.where(known, index, -1).max(axis=others).astype(np.int64))
    if any((place < 0).any() or (np.diff(place) <= 0).any() for place in places):
        return None
    return tuple(places) if _same(narrow, wide[np.ix_(*places)]) else None


def not_slices(narrow: Path, wide: Path) -> tuple[str, ...]:
    """The constants of a narrow program that are no slice of those at the same place of a wide one: none, one hopes.

    Returns:
        ``method/place`` of each, in order, and ``method/place`` of what only one of the two has.
    """
    ours, theirs = ({f"{c.method}/{c.place}": c.values for c in constants(file)} for file in (narrow, wide))
    lonely = ours.keys() ^ theirs.keys()
    strange = (name for name in ours if name in theirs and kept_places(ours[name], theirs[name]) is None)
    return (*strange, *sorted(lonely))


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def _constants(data: bytes) -> Iterator[Constant]:
    if data[8:12] != b"eh00":
        raise LookupError("the file has no extended header")
    root, base = Table.root(data), number(data, 24, "<Q")
    segments = [(base + s.number(0, "Q", 0), s.number(1, "Q", 0)) for s in _tables(root, _PROGRAM_SEGMENTS)]
    named = {entry.text(0): segments[entry.number(1, "I", 0)] for entry in _tables(root, _PROGRAM_NAMED)}
    for plan in root.tables(_PROGRAM_PLANS):
        method = plan.text(_PLAN_NAME)
        for index, delegate in enumerate(_tables(plan, _PLAN_DELEGATES)):
            if delegate.text(0) != _XNNPACK:
                raise ValueError(f"{method!r} has a delegate {delegate.text(0)!r}")
            blob = _blob(data, root, delegate.table(1), segments)
            for place, values in _delegated(data, blob, named):
                yield Constant(method, f"xnnpack{index}/{place}", values)
        for place, value in enumerate(plan.tables(_PLAN_VALUES)):
            if value.number(_VALUE_KIND, "B", 0) == _TENSOR:
                tensor = value.table(_VALUE)
                if tensor.number(_TENSOR_BUFFER, "I", 0) and not tensor.has(_TENSOR_ALLOCATION):
                    yield Constant(method, f"value{place}", _portable(data, root, tensor, segments))


def _tables(table: Table, field: int) -> list[Table]:
    return table.tables(field) if table.has(field) else []


def _blob(data: bytes, root: Table, reference: Table, segments: list[tuple[int, int]]) -> int:
    """Where a delegate's blob begins."""
    index = reference.number(1, "I", 0)
    if reference.number(0, "B", 0):
        return segments[index][0]
    return root.tables(_PROGRAM_INLINE)[index].bytes_at(0)[0]


def _delegated(data: bytes, blob: int, named: dict[str, tuple[int, int]]) -> Iterator[tuple[int, NDArray[Any]]]:
    if data[blob + 4 : blob + 8] != b"XH00":
        raise LookupError("a delegate's blob has no header")
    graph = Table.root(data, blob + number(data, blob + 10, "<I"))
    entries = graph.tables(_GRAPH_DATA)
    for value in graph.tables(_GRAPH_VALUES):
        if value.number(0, "B") != _XNN_TENSOR:
            raise ValueError("a delegate holds quantised values")
        tensor = value.table(1)
        index = tensor.number(_XNN_BUFFER, "I", 0)
        if not index:
            continue
        if tensor.number(_XNN_TYPE, "h", 0) != _XNN_FLOAT32:
            raise ValueError("a delegate holds constants that are not float32")
        start, size = named[entries[index].text(_DATA_KEY)]
        values = np.frombuffer(data, "<f4", size // 4, start)
        yield index, values.reshape(tensor.vector(_XNN_DIMS, "I"))


def _portable(data: bytes, root: Table, tensor: Table, segments: list[tuple[int, int]]) -> NDArray[Any]:
    where = root.table(_PROGRAM_CONSTANTS)
    start = segments[where.number(0, "I", 0)][0] + where.vector(1, "Q")[tensor.number(_TENSOR_BUFFER, "I")]
    sizes = tensor.vector(_TENSOR_SIZES, "i") if tensor.has(_TENSOR_SIZES) else ()
    shape = [sizes[dim] for dim in tensor.vector(_TENSOR_DIM_ORDER, "B")] if sizes else []
    dtype = np.dtype(_TYPES[tensor.number(_TENSOR_TYPE, "b", 0)])
    return np.frombuffer(data, dtype, int(np.prod(shape, dtype=np.int64)), start).reshape(shape)
