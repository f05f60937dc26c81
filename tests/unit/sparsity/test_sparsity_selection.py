from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sparsity_samples import CLASSES, SHAPE, Mixed, graph_of, layer, random_scores, resnet, zero_blocks
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.model import capture
from ebbtide.sparsity.allocation import Band, Budget, cut
from ebbtide.sparsity.layout import Shape, matrix
from ebbtide.sparsity.masks import Masks
from ebbtide.sparsity.selection import Rules, block_scores, check, least, rank_blocks, select, size, strongest

HALVES = Shape(8, 2, 4)
DEFAULT = Rules()


@pytest.fixture(scope="module")
def graph():
    return resnet()


@pytest.fixture(scope="module")
def whole(graph):
    return Masks.whole(graph, HALVES)


def one_layer(rows: int, columns: int, places: int = 1):
    """A network whose only layer with blocks is (rows, columns), and its name."""
    kernel = {1: 1, 9: 3}[places]
    stem, middle = nn.Conv2d(3, columns, 1), nn.Conv2d(columns, rows, kernel, padding=kernel // 2)
    module = nn.Sequential(stem, middle, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(rows, CLASSES))
    return capture(module, SHAPE, classes=CLASSES), "1.weight"


def test_a_block_is_judged_by_its_own_score():
    """C-1, with the 2 x 4 example in which row-major and column-major indices differ."""
    graph, name = one_layer(2, 4)
    masks = Masks.whole(graph, Shape(1, 1, 1))
    scores = random_scores(masks)
    # Rows a and b. Were a1 judged by b0, the weakest of b, it would go before a3.
    scores[name] = np.array([[0.9, 0.8, 0.7, 0.1], [0.1, 0.9, 0.8, 0.7]]).reshape(2, 4, 1, 1)
    found = select(masks, scores, kept=3 / 4, rules=Rules("ranks"))
    assert found.blocks[name].int().tolist() == [[1, 1, 1, 0], [0, 1, 1, 1]]
    assert matrix(found.apply(graph).state()[name] != 0).int().tolist() == [[1, 1, 1, 0], [0, 1, 1, 1]]


@pytest.mark.parametrize("places", [1, 9])
def test_the_known_weakest_block_of_each_row_goes(places):
    """C-1 with H != V, blocks of 4 and both kernels."""
    graph, name = one_layer(8, 12, places)
    masks = Masks.whole(graph, Shape(4, 2, 4))
    one = layer(masks, name)
    width = one.grid(4)[1]
    weakest = [2 * places - 1, places]
    scores = random_scores(masks)
    for h, v in enumerate(weakest):
        position, channels = divmod(v, 3)
        i, j = divmod(position, 3 if places == 9 else 1)
        scores[name][4 * h : 4 * h + 4, 4 * channels : 4 * channels + 4, i, j] *= 1e-3
    found = select(masks, scores, kept=(width - 1) / width, rules=Rules("ranks"))
    gone = zero_blocks(found.apply(graph), one, 4)
    assert gone.shape == (2, width)
    assert [list(np.flatnonzero(row)) for row in gone] == [[v] for v in weakest]


@pytest.mark.parametrize("name", ["blocks.1.a.0.weight", "blocks.1.short.weight"])
def test_scores_of_blocks_equal_a_loop_over_blocks(graph, whole, name):
    """C-10, for a 3x3 and a 1x1 kernel, with an N:M mask that is not all ones."""
    scores = random_scores(whole)
    masks = select(whole, scores, kept=1.0)
    one = layer(masks, name)
    value = matrix(torch.from_numpy(scores[one.name]))
    found = block_scores(one, masks, value, Rules())
    height, width = one.grid(8)
    assert found.shape == (height, width)
    weight, chosen = scores[one.name], masks.groups[one.name].numpy()
    inputs = one.inputs
    for h in range(height):
        for v in range(width):
            total = 0.0
            for r in range(8 * h, 8 * h + 8):
                for column in range(8 * v, 8 * v + 8):
                    position, channel = divmod(column, inputs)
                    i, j = divmod(position, weight.shape[3])
                    total += weight[r, channel, i, j] * chosen[r, column]
            assert found[h, v] == pytest.approx(total, rel=1e-12)


def steps(graph, masks, *, rules=DEFAULT, budgets=(0.5, 0.4, 0.3, 0.2)):
    """Masks of a removal in steps, with other scores in each."""
    for number, kept in enumerate(budgets):
        masks = select(masks, random_scores(masks, number), kept=kept, rules=rules)
        yield masks


@pytest.mark.parametrize(
    "rules", [Rules(), Rules("macs"), Rules("macs", "per-cost"), Rules(weighing="sum"), Rules(blocks="random")]
)
def test_rows_stay_balanced_and_what_is_gone_stays_gone(graph, whole, rules):
    """C-2 and C-3: ranks ascend, cuts are prefixes, every block-row keeps the same number, at every step."""
    before = whole
    for masks in steps(graph, whole, rules=rules):
        scores = random_scores(masks, 77)
        for one in masks.masked:
            if one.carries != "blocks":
                continue
            assert len(set(masks.blocks[one.name].sum(dim=1).tolist())) == 1
            assert not bool((masks.blocks[one.name] & ~before.blocks[one.name]).any())
            values = matrix(torch.from_numpy(scores[one.name]))
            (found,) = rank_blocks(block_scores(one, masks, values, rules), one, masks)
            assert (np.diff(found[1]) >= 0).all()
            gone = int((~masks.blocks[one.name][0]).sum())
            dropped = {(h, int(v)) for h, row in enumerate(found[0]) for v in row[:gone]}
            assert dropped == {(h, v) for h, v in torch.nonzero(~masks.blocks[one.name]).tolist()}
        before = masks
    assert before.sparsity() > 0.6


def test_groups_hold_exactly_n_and_move_with_the_scores(graph, whole):
    """C-4, and that N:M is chosen anew at every step by the scores of all weights of kept blocks."""
    first, second = list(steps(graph, whole, budgets=(0.4, 0.3)))
    moved = 0
    for masks in (first, second):
        for one in masks.masked:
            kept = masks.keep(one).reshape(one.rows, -1, 4).sum(dim=-1)
            assert kept.max() <= 2
            assert set(kept.unique().tolist()) <= {0, 2}
            assert bool((masks.groups[one.name].reshape(one.rows, -1, 4).sum(dim=-1) == 2).all())
            applied = matrix(masks.apply(graph).state()[one.name] != 0).reshape(one.rows, -1, 4).sum(dim=-1)
            assert torch.equal(applied, kept)
    for one in second.masked:
        returned = second.keep(one) & ~first.keep(one)
        if one.carries == "blocks":
            moved += int(returned.sum())
    assert moved > 0


def test_the_n_highest_of_each_group_stay_and_of_equals_the_first():
    scores = torch.tensor([[3.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 9.0]])
    assert strongest(scores, 2, 4).int().tolist() == [[1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 1]]
    random = torch.rand(7, 64)
    kept = strongest(random, 3, 16)
    for row, mask in zip(random.reshape(-1, 16), kept.reshape(-1, 16), strict=True):
        assert set(torch.nonzero(mask)[:, 0].tolist()) == set(row.topk(3).indices.tolist())


def test_a_fraction_removes_exactly_so_many_rank_columns(graph, whole):
    """C-6: none for 0, and neither one more nor one less than asked."""
    scores = random_scores(whole)
    columns = size(whole, "ranks")
    assert columns == sum(one.grid(8)[1] for one in whole.masked if one.carries == "blocks")
    for share in (1.0, 0.9, 0.5, 0.25, 1 - 1 / columns):
        masks = select(whole, scores, kept=share, rules=Rules("ranks"))
        left = sum(int(blocks[0].sum()) for blocks in masks.blocks.values())
        assert left == int(share * columns + 1e-9)
    untouched = select(whole, scores, kept=1.0)
    assert all(bool(blocks.all()) for blocks in untouched.blocks.values())


@pytest.mark.parametrize("unit", ["weights", "macs"])
@pytest.mark.parametrize("kept", [0.45, 0.3, 0.17])
def test_a_budget_is_met_by_less_than_one_rank_column(graph, whole, unit, kept):
    masks = select(whole, random_scores(whole), kept=kept, rules=Rules(unit))
    everything = size(whole, unit)
    if unit == "weights":
        left = sum(int(masks.keep(one).sum()) for one in masks.masked)
        column = max(one.rows * 8 // 2 for one in masks.masked)
    else:
        left = masks.kept_macs()
        column = max(one.macs // one.grid(8)[1] // 2 for one in masks.masked if one.carries == "blocks")
    assert kept * everything - column < left <= kept * everything


def test_every_layer_keeps_its_floor_and_less_is_refused(graph, whole):
    """C-7."""
    scores = random_scores(whole)
    scores[layer(whole, "blocks.0.a.0").name] *= 1e-9
    smallest = least(whole)
    masks = select(whole, scores, kept=smallest)
    assert {int(blocks[0].sum()) for blocks in masks.blocks.values()} == {1}
    assert 1.0 - masks.sparsity() == pytest.approx(smallest, abs=1e-12)
    mild = select(whole, scores, kept=0.3, rules=Rules(floor=3))
    assert min(int(blocks[0].sum()) for blocks in mild.blocks.values()) == min(
        3, *(blocks.shape[1] for blocks in mild.blocks.values())
    )
    for call in (
        lambda: select(whole, scores, kept=0.99 * smallest),
        lambda: check(whole, kept=0.99 * smallest),
    ):
        with pytest.raises(EbbtideError) as caught:
            call()
        assert caught.value.code == "pruning.floor"
        assert f"{smallest:.3%}" in (caught.value.expected or "")
    check(whole, kept=smallest)


def test_dense_layers_count_in_macs_but_not_in_weights():
    graph = graph_of(Mixed())
    masks = Masks.whole(graph, HALVES)
    assert least(masks, rules=Rules("macs")) > least(masks)
    assert size(masks, "weights") == sum(one.weights for one in masks.layers if one.carries != "nothing")


def test_equal_scores_go_by_layer_and_rank_and_zero_layers_go_first(graph, whole):
    scores = {name: np.ones_like(value) for name, value in random_scores(whole).items()}
    names = [*whole.blocks]
    scores[names[-1]][:] = 0.0
    last = whole.blocks[names[-1]].shape[1]
    masks = select(whole, scores, kept=1 - (last + 5) / size(whole, "ranks"), rules=Rules("ranks", "sum"))
    lost = [int((~masks.blocks[name][0]).sum()) for name in names]
    cheapest = min(scores[name].shape[0] for name in names[:-1])
    first = next(index for index, name in enumerate(names) if scores[name].shape[0] == cheapest)
    assert lost[-1] == last - 1
    assert lost[first] == 6
    assert sum(lost) == last - 1 + 6
    for name in names:
        assert torch.equal(masks.blocks[name], masks.blocks[name].sort(dim=1).values)


def test_scores_that_say_nothing_are_refused(graph, whole):
    with pytest.raises(EbbtideError) as caught:
        select(whole, {name: 0 * value for name, value in random_scores(whole).items()}, kept=0.4)
    assert caught.value.code == "pruning.scores"


@pytest.mark.parametrize("kept", [0.0, -1.0, 1.5])
def test_a_share_out_of_range_is_refused(graph, whole, kept):
    with pytest.raises(EbbtideError) as caught:
        check(whole, kept=kept)
    assert caught.value.code == "pruning.budget"


def test_per_weight_scores_do_not_favour_layers_of_many_rows(graph, whole):
    scores = {name: 1 + 0.01 * value for name, value in random_scores(whole).items()}
    rows = {one.name: one.rows for one in whole.masked if one.carries == "blocks"}
    wide, narrow = max(rows, key=rows.__getitem__), min(rows, key=rows.__getitem__)

    def left(weighing):
        masks = select(whole, scores, kept=0.3, rules=Rules(weighing=weighing))
        return {name: float(masks.blocks[name].double().mean()) for name in (wide, narrow)}

    summed, single = left("sum"), left("per-weight")
    assert summed[narrow] < summed[wide]
    assert abs(single[narrow] - single[wide]) < abs(summed[narrow] - summed[wide])


def test_random_blocks_take_about_the_same_share_of_every_layer(graph, whole):
    masks = select(whole, random_scores(whole), kept=0.3, rules=Rules(blocks="random"), seed=3)
    large = [float(b.double().mean()) for b in masks.blocks.values() if b.numel() > 50]
    assert max(large) - min(large) < 0.2
    again = select(whole, random_scores(whole), kept=0.3, rules=Rules(blocks="random"), seed=3)
    other = select(whole, random_scores(whole), kept=0.3, rules=Rules(blocks="random"), seed=4)
    assert again.digest() == masks.digest() != other.digest()


def test_cut_takes_the_fewest_columns_in_one_order():
    bands = [Band("a", np.array([0.0, 1.0, 2.0]), 1, 10, 1), Band("b", np.array([1.0, 1.0, 5.0, 6.0]), 0, 7, 1)]
    budget = Budget("ranks", 100, 20, 1.0)
    everything = 20 + 2 * 10 + 4 * 7
    expected = {everything: [1, 0], everything - 1: [2, 0], everything - 10: [2, 0], everything - 11: [2, 1]}
    expected |= {everything - 24: [2, 2], everything - 25: [2, 3], 37: [2, 3]}
    for limit, found in expected.items():
        assert cut(bands, replace(budget, kept=limit / 100)) == found
    with pytest.raises(EbbtideError):
        cut(bands, replace(budget, kept=0.36))
