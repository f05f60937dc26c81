"""A sparse model in one file: values of kept weights, bits that say where they stand, no pointers to rows.

docs/packed.md describes the layout byte by byte. A block-sparse kernel reads it as it is: every block-row of a band
keeps the same number of blocks, and every group of M the same number of weights, so each part is an array of fixed
shape. Sizes follow from the masks' counts alone (`packed_size`).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.model import Graph
from ebbtide.sparsity.bits import bytes_of, pack_bits, unpack_bits, width_of
from ebbtide.sparsity.layout import Layer, Shape, matrix, tensor
from ebbtide.sparsity.masks import Masks

MAGIC = b"EBBPACK1"
ALIGNMENT = 16
_HEAD = struct.Struct("<8sQ")


@dataclass(frozen=True, eq=False)
class Packed:
    """A model read from its packed form.

    Args:
        state: every parameter and buffer by name, zeros where masks say so.
        masks: which weights count.
    """

    state: dict[str, torch.Tensor] = field(repr=False)
    masks: Masks


@dataclass(frozen=True)
class PackedSize:
    """What the packed weights of the masked layers take; without header, dense tensors and filling.

    Args:
        values: kept weights.
        value_bytes: of those.
        index_bits: that say which N of each M they are: ceil(log2 M) for each value, 0 where N = M.
        block_bits: that say which blocks are kept: ceil(log2 V) for each, V the block columns of its band.
        dense_bytes: what the same weights take unpacked.
    """

    values: int
    value_bytes: int
    index_bits: int
    block_bits: int
    dense_bytes: int


@dataclass(frozen=True)
class _Part:
    """One band of a layer, or a whole layer without blocks: shapes of its three arrays.

    Args:
        columns: block columns of the band; None without blocks.
        rows: block-rows, or rows of the weight without blocks.
        kept: blocks kept in each, 1 without blocks.
        values: weights kept in each of those.
    """

    columns: NDArray[np.int64] | None
    rows: int
    kept: int
    values: int

    @property
    def block_width(self) -> int:
        """Bits of a block's index."""
        return 0 if self.columns is None else width_of(len(self.columns))


def packed_size(masks: Masks) -> PackedSize:
    """The formula of what packing takes, from the counts of kept blocks alone.

    Raises:
        EbbtideError: ``sparsity.packed`` where the masks are not of the pattern.
    """
    parts = [part for layer in masks.masked for part in _parts(layer, masks.shape, _counts(layer, masks))]
    values = sum(part.rows * part.kept * part.values for part in parts)
    return PackedSize(
        values=values,
        value_bytes=4 * values,
        index_bits=values * _index_width(masks.shape),
        block_bits=sum(part.rows * part.kept * part.block_width for part in parts),
        dense_bytes=4 * sum(layer.weights for layer in masks.masked),
    )


def _index_width(shape: Shape) -> int:
    return 0 if shape.n == shape.m else width_of(shape.m)


def _counts(layer: Layer, masks: Masks) -> list[int]:
    """Kept blocks in each block-row, by band; nothing for a layer without blocks."""
    chosen = masks.groups[layer.name].reshape(-1, masks.shape.m).sum(dim=1)
    counts = masks.kept_blocks(layer) if layer.carries == "blocks" else np.zeros((1, 0), np.int64)
    if bool((chosen != masks.shape.n).any()) or (counts != counts[:1]).any():
        raise EbbtideError(
            "sparsity.packed",
            "The masks are not of the pattern",
            expected=f"{masks.shape.n} of each {masks.shape.m} weights, and the same blocks kept in every block-row",
            place=layer.name,
            hint="Pack what a removal of this pattern gave.",
        )
    return [int(count) for count in counts[0]]


def _parts(layer: Layer, shape: Shape, counts: list[int]) -> list[_Part]:
    if layer.carries == "groups":
        return [_Part(None, layer.rows, 1, layer.weights // layer.rows // shape.m * shape.n)]
    height, values = layer.grid(shape.block)[0], shape.block * shape.block // shape.m * shape.n
    return [_Part(band, height, kept, values) for band, kept in zip(layer.bands(shape.block), counts, strict=True)]


def pack(graph: Graph, masks: Masks) -> bytes:
    """A graph's tensors under its masks; equal graphs and masks give equal bytes.

    Args:
        graph: the model; weights that do not count are left out, whatever they are.
        masks: what a removal of the hybrid pattern gave.

    Raises:
        EbbtideError: ``sparsity.packed`` where the masks are not of the pattern, or a tensor is not float32.
    """
    state = {name: value.cpu() for name, value in graph.state().items()}
    writer = _Writer()
    layers = []
    for layer in masks.layers:
        facts = _layer_facts(layer)
        if layer.carries != "nothing":
            weight = state.pop(layer.name)
            if weight.dtype != torch.float32:
                raise _unreadable(f"{layer.name} is {weight.dtype}, not float32")
            counts = _counts(layer, masks)
            facts |= {"kept": counts, "parts": _pack_layer(weight, layer, masks, counts, writer)}
        layers.append(facts)
    dense = [
        {
            "name": name,
            "size": [*value.shape],
            "type": value.numpy().dtype.str,
            "at": writer.add(value.numpy().tobytes()),
        }
        for name, value in state.items()
    ]
    return writer.file(
        {"format": 1, "shape": asdict(masks.shape), "macs": masks.macs, "layers": layers, "dense": dense}
    )


class _Writer:
    """Arrays one after the other, each at a multiple of `ALIGNMENT` from the first."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> list[int]:
        """Where they begin, from the first, and how many bytes they are."""
        self._data += bytes(-len(self._data) % ALIGNMENT)
        place = [len(self._data), len(data)]
        self._data += data
        return place

    def file(self, facts: Mapping[str, Any]) -> bytes:
        text = json.dumps(facts, separators=(",", ":")).encode()
        text += b" " * (-(_HEAD.size + len(text)) % ALIGNMENT)
        return _HEAD.pack(MAGIC, len(text)) + text + bytes(self._data)


def _pack_layer(
    weight: torch.Tensor, layer: Layer, masks: Masks, counts: list[int], writer: _Writer
) -> list[dict[str, list[int]]]:
    shape = masks.shape
    rows, groups = matrix(weight), masks.groups[layer.name]
    found = []
    for part in _parts(layer, shape, counts):
        places = None
        values, chosen = rows, groups
        if part.columns is not None:
            kept = masks.blocks[layer.name][:, torch.from_numpy(part.columns)]
            places = kept.nonzero()[:, 1].reshape(part.rows, part.kept)
            values, chosen = (_taken(one, part, places, shape.block) for one in (rows, groups))
        standing = torch.arange(shape.m).expand(*chosen.shape[:-1], chosen.shape[-1] // shape.m, shape.m)
        arrays = {
            "blocks": b"" if places is None else pack_bits(places.numpy(), part.block_width),
            "indices": pack_bits(standing.reshape(chosen.shape)[chosen].numpy(), _index_width(shape)),
            "values": values[chosen].numpy().astype("<f4").tobytes(),
        }
        found.append({name: writer.add(data) for name, data in arrays.items()})
    return found


def _cubes(rows: torch.Tensor, edge: int) -> torch.Tensor:
    """A matrix (R, C) as its blocks (H, V, b, b)."""
    return rows.reshape(rows.shape[0] // edge, edge, -1, edge).transpose(1, 2)


def _taken(rows: torch.Tensor, part: _Part, places: torch.Tensor, edge: int) -> torch.Tensor:
    """The kept blocks of a band, (H, kept, b, b)."""
    assert part.columns is not None
    columns = torch.from_numpy(part.columns)[places]
    return _cubes(rows, edge)[torch.arange(part.rows)[:, None], columns]


def unpack(data: bytes) -> Packed:
    """What `pack` wrote, to the bit: the masked weights are zero, all others as they were.

    Raises:
        EbbtideError: ``sparsity.packed`` for a file that is damaged or of another format.
    """
    try:
        return _unpack(data)
    except EbbtideError:
        raise
    except Exception as error:
        raise _unreadable(f"{type(error).__name__}: {error}") from error


def _unpack(data: bytes) -> Packed:
    magic, length = _HEAD.unpack_from(data)
    if magic != MAGIC or length > len(data):
        raise _unreadable("it does not begin as one")
    facts = json.loads(data[_HEAD.size : _HEAD.size + length])
    if facts["format"] != 1:
        raise _unreadable(f"format {facts['format']}")
    body = memoryview(data)[_HEAD.size + length :]
    shape = Shape(**facts["shape"])
    state: dict[str, torch.Tensor] = {}
    layers, groups, blocks = [], {}, {}
    for entry in facts["layers"]:
        layer = _layer_of(entry)
        layers.append(layer)
        if layer.carries == "nothing":
            continue
        weight, groups[layer.name], square = _unpack_layer(layer, shape, entry, body)
        state[layer.name] = tensor(weight, layer.size).contiguous()
        if square is not None:
            blocks[layer.name] = square
    for entry in facts["dense"]:
        kind = np.dtype(entry["type"])
        count = int(np.prod(entry["size"]))
        raw = _array(body, entry["at"], count * kind.itemsize)
        state[entry["name"]] = torch.from_numpy(np.frombuffer(raw, kind).reshape(entry["size"]).copy())
    return Packed(state, Masks(shape, tuple(layers), facts["macs"], groups, blocks))


def _array(body: memoryview, place: list[int], size: int) -> bytes:
    start, count = place
    if count != size or start < 0 or start + count > len(body):
        raise _unreadable(f"an array of {count} bytes at {start}, where {size} belong")
    return bytes(body[start : start + count])


def _unpack_layer(
    layer: Layer, shape: Shape, entry: Mapping[str, Any], body: memoryview
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """A masked weight (R, C), its NM (R, C), and its BLK (H, V) if it carries blocks."""
    columns = layer.weights // layer.rows
    rows = torch.zeros(layer.rows, columns)
    # Where nothing is kept the first N of each M count as chosen, as a removal leaves it.
    groups = (torch.arange(columns) % shape.m < shape.n).repeat(layer.rows, 1)
    square = torch.zeros(layer.grid(shape.block), dtype=torch.bool) if layer.carries == "blocks" else None
    for part, place in zip(_parts(layer, shape, entry["kept"]), entry["parts"], strict=True):
        count = part.rows * part.kept
        sizes = {"blocks": bytes_of(count, part.block_width), "values": 4 * count * part.values}
        sizes["indices"] = bytes_of(count * part.values, _index_width(shape))
        found = {name: _array(body, place[name], size) for name, size in sizes.items()}
        values = torch.from_numpy(np.frombuffer(found["values"], "<f4").astype(np.float32))
        chosen = _chosen(unpack_bits(found["indices"], count * part.values, _index_width(shape)), shape)
        if part.columns is None or square is None:
            groups = chosen.reshape(rows.shape)
            rows[groups] = values
            continue
        places = unpack_bits(found["blocks"], count, part.block_width).reshape(part.rows, part.kept)
        if (places >= len(part.columns)).any() or (np.diff(places, axis=1) <= 0).any():
            raise _unreadable(f"{layer.name} names blocks that do not exist, or not in order")
        kept = torch.from_numpy(part.columns[places])
        up = torch.arange(part.rows)[:, None]
        square[up, kept] = True
        inside = chosen.reshape(part.rows, part.kept, shape.block, shape.block)
        _cubes(groups, shape.block)[up, kept] = inside
        _cubes(rows, shape.block)[up, kept] = torch.zeros(inside.shape).masked_scatter(inside, values)
    return rows, groups, square


def _chosen(indices: NDArray[np.int64], shape: Shape) -> torch.Tensor:
    """NM of groups of M in a row, from the places of the N chosen ones of each."""
    if shape.n == shape.m:
        return torch.ones(len(indices), dtype=torch.bool)
    each = indices.reshape(-1, shape.n)
    if (each >= shape.m).any() or (np.diff(each, axis=1) <= 0).any():
        raise _unreadable("places inside a group do not exist, or are not in order")
    return torch.zeros(len(each), shape.m, dtype=torch.bool).scatter_(1, torch.from_numpy(each), True).reshape(-1)


def _layer_facts(layer: Layer) -> dict[str, Any]:
    levels = {"row_level": layer.row_level, "column_level": layer.column_level}
    return {
        "name": layer.name,
        "size": [*layer.size],
        "carries": layer.carries,
        "reason": layer.reason,
        "macs": layer.macs,
        **{name: [[int(level), len([*run])] for level, run in groupby(each)] for name, each in levels.items()},
    }


def _layer_of(entry: Mapping[str, Any]) -> Layer:
    rows, columns = (
        np.repeat(*np.array(entry[name], np.int64).reshape(-1, 2).T) for name in ("row_level", "column_level")
    )
    return Layer(entry["name"], tuple(entry["size"]), entry["carries"], entry["reason"], entry["macs"], rows, columns)


def _unreadable(found: str) -> EbbtideError:
    return EbbtideError(
        "sparsity.packed",
        "The packed model cannot be read or written",
        expected="a file of docs/packed.md, of float32 weights",
        found=found,
        hint="Pack it again.",
    )
