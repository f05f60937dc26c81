"""Masks that serve every width level: checks X-1 to X-4."""

from __future__ import annotations

import pytest
import torch
from sparsity_samples import CLASSES, SHAPE, graph_of, layer, random_scores
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.model import capture, cost, coupling_groups, narrow
from ebbtide.model.coupling import macs_by_node
from ebbtide.nesting import order_units
from ebbtide.saliency import unit_scores
from ebbtide.sparsity.layout import Shape, layers_of, matrix
from ebbtide.sparsity.masks import Masks
from ebbtide.sparsity.packed import pack, unpack
from ebbtide.sparsity.selection import Rules, select

EDGE = 4
PATTERN = Shape(EDGE, 2, 4)


class Slim(nn.Module):
    """A residual network whose every width is an argument: of the outer channels, of the inner ones, of the last."""

    def __init__(self, outer: int = 16, inner: int = 24, last: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer))
        self.a, self.norm = nn.Conv2d(outer, inner, 3, padding=1), nn.BatchNorm2d(inner)
        self.b = nn.Conv2d(inner, outer, 3, padding=1)
        self.c = nn.Conv2d(outer, last, 1, 2)
        self.fc = nn.Linear(last, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.b(torch.relu(self.norm(self.a(x)))))
        return self.fc(torch.relu(self.c(x)).mean((2, 3)))


WIDTHS = [(4, 4, 8), (8, 16, 20), (16, 24, 32)]


@pytest.fixture(scope="module")
def nested():
    """The ordered graph, its groups, the widths of its levels, and masks of three removals that serve them all."""
    graph = graph_of(Slim())
    coupling = coupling_groups(graph)
    order_units(graph, coupling, unit_scores(graph, coupling, "magnitude"))
    names = {"outer": "stem.0", "inner": "a", "last": "c"}
    groups = {key: next(g.name for g in coupling.groups if g.name == name) for key, name in names.items()}
    levels = [dict(zip(groups.values(), widths, strict=True)) for widths in WIDTHS]
    masks = Masks.whole(graph, PATTERN, tuple(levels[:-1]))
    history = []
    for number, kept in enumerate((0.5, 0.35, 0.2)):
        masks = select(masks, random_scores(masks, number), kept=kept, rules=Rules())
        history.append(masks)
    return graph, coupling, levels, history


def test_a_level_under_its_masks_equals_a_small_masked_model_built_apart(nested):
    """X-1: permuted, sliced and masked is what a model of these widths gives with these weights and zeros."""
    graph, coupling, levels, (*_, masks) = nested
    x = torch.randn(5, *SHAPE)
    for number, (widths, sizes) in enumerate(zip(levels, WIDTHS, strict=True)):
        plain = narrow(graph, coupling, widths)
        small = masks.at(coupling, widths, plain).apply(plain).eval()
        apart = capture(Slim(*sizes), SHAPE, classes=CLASSES).eval()
        state = {}
        for name, value in apart.state().items():
            whole = graph.state()[name]
            if name in masks.groups:
                one = layer(masks, name)
                cube = masks.keep(one).reshape(one.rows, *one.size[2:], one.inputs).movedim(-1, 1)
                whole = whole * cube
            state[name] = whole[tuple(slice(size) for size in value.shape)]
        apart.load(state)
        assert torch.allclose(small(x), apart(x), rtol=1e-5, atol=1e-6)
        first = masks.apply(graph)
        assert torch.equal(narrow(first, coupling, widths).eval()(x), small(x)), number


def test_no_block_and_no_group_lies_across_an_edge(nested):
    """X-2."""
    _, _, levels, (*_, masks) = nested
    assert EDGE % PATTERN.m == 0
    assert all(width % EDGE == 0 for widths in levels for width in widths.values())
    assert {one.name for one in masks.layers if one.carries == "blocks"} == {"a.weight", "b.weight", "c.weight"}
    for one in masks.layers:
        if one.carries == "blocks":
            for level, edge in ((one.row_level, EDGE), (one.column_level, EDGE), (one.column_level, PATTERN.m)):
                assert all(len(set(level[i : i + edge])) == 1 for i in range(0, len(level), edge))
    assert layer(masks, "a.weight").column_level.tolist() == [0] * 4 + [1] * 4 + [2] * 8
    assert layer(masks, "a.weight").row_level.tolist() == [0] * 4 + [1] * 12 + [2] * 8


def test_layers_that_an_edge_cuts_are_excluded_with_the_reason():
    graph = graph_of(Slim())
    names = [group.name for group in coupling_groups(graph).groups]
    found = {one.name: one for one in layers_of(graph, Shape(8, 2, 4), [{names[0]: 12}])}
    assert found["b.weight"].carries == "groups"
    assert found["b.weight"].reason == "a block of 8 output channels would lie on both sides of a width's edge"
    assert found["c.weight"].reason == "a block of 8 input channels would lie on both sides of a width's edge"
    found = {one.name: one for one in layers_of(graph, Shape(8, 2, 4), [{names[0]: 6}])}
    assert found["c.weight"].carries == "nothing"
    assert found["c.weight"].reason == "a group of 4 input channels would lie on both sides of a width's edge"


def test_every_block_row_keeps_the_same_number_at_every_level_and_step(nested):
    """X-3 and C-3: inside every band of columns, so at every width."""
    graph, coupling, levels, history = nested
    unequal = 0
    for widths in levels:
        plain = narrow(graph, coupling, widths)
        for masks in history:
            small = masks.at(coupling, widths, plain)
            for one in small.masked:
                if one.carries == "blocks":
                    assert small.blocks[one.name].shape == one.grid(EDGE)
                    assert len(set(small.blocks[one.name].sum(dim=1).tolist())) == 1
                    counts = small.kept_blocks(one)
                    assert (counts == counts[:1]).all()
                    assert counts[0, 0] >= 1
                    shares = counts[0] / [len(band) for band in one.bands(EDGE)]
                    unequal += len(set(shares)) > 1
    assert unequal, "bands that all lose the same share would not show that they are treated apart"


def test_sparsity_and_macs_of_every_level_follow_from_the_formulas(nested):
    """X-4."""
    graph, coupling, levels, (*_, masks) = nested
    operators = macs_by_node(graph, coupling)
    for widths in levels:
        plain = narrow(graph, coupling, widths)
        small = masks.at(coupling, widths, plain)
        true = {str(one.node.args[1].target): one.macs.at(coupling, widths) for one in operators}
        assert {one.name: one.macs for one in small.layers} == true
        assert sum(true.values()) == cost(plain.module, plain.input_shape).macs
        assert small.sparsity() == pytest.approx(small.sparsity_by_formula(), abs=1e-12)
        kept = 0.0
        for one in small.layers:
            share = 1.0
            if one.carries != "nothing":
                share = 2 / 4
            if one.carries == "blocks":
                share *= int(small.blocks[one.name][0].sum()) / one.grid(EDGE)[1]
            kept += share * true[one.name]
        assert small.kept_macs() == pytest.approx(kept, abs=1e-6)


def test_a_width_that_is_no_level_of_the_masks_is_refused(nested):
    graph, coupling, levels, (*_, masks) = nested
    with pytest.raises(EbbtideError) as caught:
        masks.at(coupling, {next(iter(levels[0])): 6}, graph)
    assert caught.value.code == "sparsity.masks"


def test_bands_are_packed_one_after_the_other_and_come_back(nested):
    """C-9 with levels: a narrower level is the first bands' first block-rows."""
    graph, coupling, levels, (*_, masks) = nested
    found = unpack(pack(graph, masks))
    assert found.masks.digest() == masks.digest()
    applied = masks.apply(graph).state()
    assert all(torch.equal(found.state[name], value) for name, value in applied.items())
    for widths in levels:
        plain = narrow(graph, coupling, widths)
        small = masks.at(coupling, widths, plain)
        again = unpack(pack(plain, small)).state
        assert all(torch.equal(again[name], value) for name, value in small.apply(plain).state().items())
    assert matrix(found.state["a.weight"]).shape == (24, 144)
