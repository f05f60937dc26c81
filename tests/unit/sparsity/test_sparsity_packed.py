from __future__ import annotations

import json
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparsity_samples import SHAPE, Mixed, graph_of, layer, random_scores, resnet

from ebbtide.errors import EbbtideError
from ebbtide.sparsity.bits import bytes_of, pack_bits, unpack_bits, width_of
from ebbtide.sparsity.layout import Shape, matrix
from ebbtide.sparsity.masks import Masks
from ebbtide.sparsity.packed import ALIGNMENT, MAGIC, pack, packed_size, unpack
from ebbtide.sparsity.selection import select


@pytest.fixture(scope="module")
def graph():
    return resnet()


def masks_of(graph, shape, kept=0.25):
    whole = Masks.whole(graph, shape)
    return select(whole, random_scores(whole), kept=kept)


@pytest.fixture(scope="module")
def masks(graph):
    return masks_of(graph, Shape(8, 2, 4))


@given(st.integers(0, 12).flatmap(lambda w: st.tuples(st.just(w), st.lists(st.integers(0, 2**w - 1), max_size=40))))
@settings(max_examples=60, deadline=None)
def test_numbers_come_back_from_their_bits(drawn):
    width, numbers = drawn
    data = pack_bits(np.array(numbers, np.int64), width)
    assert len(data) == bytes_of(len(numbers), width)
    assert unpack_bits(data, len(numbers), width).tolist() == numbers


def test_the_lowest_bit_comes_first():
    assert pack_bits(np.array([1, 2, 3, 1]), 2) == bytes([0b01_11_10_01])
    assert [width_of(count) for count in (1, 2, 3, 4, 5, 18, 64, 65)] == [0, 1, 2, 2, 3, 5, 6, 7]


@pytest.mark.parametrize("shape", [Shape(8, 2, 4), Shape(8, 1, 4), Shape(4, 3, 4), Shape(8, 1, 1), Shape(8, 5, 8)])
def test_a_packed_model_gives_the_masked_forward_pass_exactly(graph, shape):
    """C-9, for several patterns."""
    masks = masks_of(graph, shape, kept=0.8 * shape.n / shape.m)
    found = unpack(pack(graph, masks))
    applied = masks.apply(graph)
    assert set(found.state) == set(applied.state())
    for name, value in applied.state().items():
        assert found.state[name].dtype == value.dtype
        assert found.state[name].numpy().tobytes() == value.numpy().tobytes(), name
    assert found.masks.digest() == masks.digest()
    other = resnet()
    other.load(found.state)
    x = torch.randn(3, *SHAPE)
    assert torch.equal(other.eval()(x), applied.eval()(x))
    assert pack(other, found.masks) == pack(graph, masks)


def test_layers_that_carry_less_come_back_too():
    graph = graph_of(Mixed())
    masks = masks_of(graph, Shape(8, 2, 4), kept=0.48)
    found = unpack(pack(graph, masks))
    assert [(one.name, one.carries, one.reason) for one in found.masks.layers] == [
        (one.name, one.carries, one.reason) for one in masks.layers
    ]
    assert all(torch.equal(found.state[name], value) for name, value in masks.apply(graph).state().items())


def test_sizes_are_those_of_the_formula_and_of_the_file(graph, masks):
    """C-9: ceil(log2 M) bits for each kept value, ceil(log2 V) for each kept block, nothing for rows."""
    values = index_bits = block_bits = 0
    for one in masks.masked:
        kept = int(masks.keep(one).sum())
        values, index_bits = values + kept, index_bits + kept * math.ceil(math.log2(4))
        if one.carries == "blocks":
            height, width = one.grid(8)
            block_bits += height * int(masks.blocks[one.name][0].sum()) * math.ceil(math.log2(width))
    size = packed_size(masks)
    assert (size.values, size.value_bytes, size.index_bits, size.block_bits) == (
        values, 4 * values, index_bits, block_bits,
    )  # fmt: skip
    data = pack(graph, masks)
    head = header(data)
    parts = [part for one in head["layers"] for part in one.get("parts", [])]
    assert sum(part["values"][1] for part in parts) == 4 * values
    for kind, bits in (("indices", index_bits), ("blocks", block_bits)):
        stored = 8 * sum(part[kind][1] for part in parts)
        assert bits <= stored < bits + 8 * len(parts)
    arrays = sum(part[kind][1] for part in parts for kind in part) + sum(one["at"][1] for one in head["dense"])
    filling = ALIGNMENT * (3 * len(parts) + len(head["dense"]) + 1)
    assert arrays < len(data) - struct.unpack_from("<Q", data, 8)[0] <= arrays + filling


def header(data: bytes) -> dict:
    magic, length = struct.unpack_from("<8sQ", data)
    assert magic == MAGIC
    assert (16 + length) % ALIGNMENT == 0
    return json.loads(data[16 : 16 + length])


def test_a_kernel_can_read_it_by_the_documented_layout_alone(graph, masks):
    """docs/packed.md restated: a matrix product from the arrays, block by block, without this package's reader."""
    data = pack(graph, masks)
    head, start = header(data), 16 + struct.unpack_from("<Q", data, 8)[0]
    one = layer(masks, "blocks.1.a.0")
    entry = next(entry for entry in head["layers"] if entry["name"] == one.name)
    edge, n, m = (head["shape"][key] for key in ("block", "n", "m"))
    rows, inputs, kernel_height, kernel_width = entry["size"]
    columns = kernel_height * kernel_width * inputs
    (kept,), (part,) = entry["kept"], entry["parts"]

    def array(kind):
        at, size = part[kind]
        return data[start + at : start + at + size]

    def number(raw, index, width):
        bits = int.from_bytes(raw, "little")
        return bits >> (index * width) & ((1 << width) - 1)

    values = np.frombuffer(array("values"), "<f4")
    x = np.random.default_rng(0).standard_normal(columns)
    y = np.zeros(rows)
    at = 0
    for h in range(rows // edge):
        for k in range(kept):
            v = number(array("blocks"), h * kept + k, math.ceil(math.log2(columns // edge)))
            for r in range(edge):
                for g in range(edge // m):
                    for _ in range(n):
                        place = number(array("indices"), at, math.ceil(math.log2(m)))
                        y[h * edge + r] += values[at] * x[v * edge + g * m + place]
                        at += 1
    assert at == len(values)
    dense = matrix(masks.apply(graph).state()[one.name]).double().numpy()
    np.testing.assert_allclose(y, dense @ x, rtol=1e-9, atol=1e-12)


def test_masks_that_are_not_of_the_pattern_are_not_packed(graph, masks):
    with pytest.raises(EbbtideError) as caught:
        pack(graph, Masks.whole(graph, Shape(8, 2, 4)))
    assert caught.value.code == "sparsity.packed"
    name = next(name for name, blocks in masks.blocks.items() if len(blocks) > 1)
    lopsided = masks.blocks[name].clone()
    lopsided[0, int(lopsided[0].nonzero()[0])] = False
    with pytest.raises(EbbtideError) as caught:
        packed_size(replace(masks, blocks={**masks.blocks, name: lopsided}))
    assert caught.value.place == name


def test_damage_is_an_error_and_never_a_crash(graph, masks):
    data = pack(graph, masks)
    random = np.random.default_rng(0)
    for cut in (0, 7, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(EbbtideError) as caught:
            unpack(data[:cut])
        assert caught.value.code == "sparsity.packed"
    length = 16 + struct.unpack_from("<Q", data, 8)[0]
    refused = 0
    for place in random.integers(0, length, 60):
        try:
            unpack(data[:place] + bytes([data[place] ^ 0x15]) + data[place + 1 :])
        except EbbtideError:
            refused += 1
    assert refused > 20
    part = next(one for one in header(data)["layers"] if one["carries"] == "blocks")["parts"][0]
    at = length + part["blocks"][0]
    with pytest.raises(EbbtideError):
        unpack(data[:at] + b"\xff" * part["blocks"][1] + data[at + part["blocks"][1] :])
