from __future__ import annotations

import numpy as np
import pytest
import torch
from sparsity_samples import Mixed, graph_of, layer, random_scores, resnet

from ebbtide.errors import EbbtideError
from ebbtide.model import cost
from ebbtide.sparsity.layout import Shape, matrix
from ebbtide.sparsity.masks import Masks
from ebbtide.sparsity.selection import select


@pytest.fixture(scope="module")
def graph():
    return resnet()


@pytest.fixture(scope="module")
def masks(graph):
    whole = Masks.whole(graph, Shape(8, 2, 4))
    return select(whole, random_scores(whole), kept=0.25)


def test_counted_sparsity_is_that_of_the_formula(graph, masks):
    """C-5: 1 - V'/V N/M for each layer, weighted by weights for all; counted on the weights themselves too."""
    applied = masks.apply(graph).state()
    zeros = total = 0
    for one in masks.masked:
        kept, columns = 1, 1
        if one.carries == "blocks":
            kept, columns = int(masks.blocks[one.name][0].sum()), one.grid(8)[1]
        found = int((applied[one.name] == 0).sum())
        assert found / one.weights == pytest.approx(1 - kept / columns * 2 / 4, abs=1e-12)
        assert masks.sparsity(one) == pytest.approx(found / one.weights, abs=1e-12)
        assert float(1 - masks.kept_by_formula(one)) == pytest.approx(found / one.weights, abs=1e-12)
        zeros, total = zeros + found, total + one.weights
    assert masks.sparsity() == pytest.approx(zeros / total, abs=1e-12)
    assert masks.sparsity_by_formula() == pytest.approx(zeros / total, abs=1e-12)
    assert 0.75 <= masks.sparsity() < 0.77


def test_kept_macs_are_those_of_the_weights_that_are_left(graph, masks):
    applied = masks.apply(graph).state()
    total = cost(graph.module, graph.input_shape).macs
    by_hand = total - sum(
        one.macs * int((applied[one.name] == 0).sum()) // one.weights for one in masks.layers if one in masks.masked
    )
    assert masks.kept_macs() == by_hand < total


def test_only_masked_weights_change_and_the_graph_given_stays(graph, masks):
    before = {name: value.clone() for name, value in graph.state().items()}
    applied = masks.apply(graph)
    for name, value in applied.state().items():
        assert torch.equal(graph.state()[name], before[name])
        if name in masks.groups:
            one = layer(masks, name)
            assert torch.equal(matrix(value), matrix(before[name]).where(masks.keep(one), torch.zeros(())))
        else:
            assert torch.equal(value, before[name])
    assert bool(before["fc.bias"].any())


def test_weights_that_are_not_numbers_go_under_the_mask(graph, masks):
    twin = graph.copy()
    name = masks.masked[0].name
    with torch.no_grad():
        twin.state()[name][~masks.weight_masks()[name]] = float("nan")
    assert bool(masks.apply(twin).state()[name].isfinite().all())


def test_masks_are_the_same_after_saving(masks, tmp_path):
    masks.save(tmp_path / "masks.safetensors")
    found = Masks.load(tmp_path / "masks.safetensors")
    assert found.digest() == masks.digest()
    assert [(one.name, one.size, one.carries, one.reason, one.macs) for one in found.layers] == [
        (one.name, one.size, one.carries, one.reason, one.macs) for one in masks.layers
    ]
    assert all(np.array_equal(a.column_level, b.column_level) for a, b in zip(found.layers, masks.layers, strict=True))
    assert all(torch.equal(found.keep(one), masks.keep(one)) for one in masks.masked)


def test_damaged_masks_are_refused(masks, tmp_path):
    path = tmp_path / "masks.safetensors"
    masks.save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(EbbtideError) as caught:
        Masks.load(path)
    assert caught.value.code == "sparsity.masks"


def test_masks_of_another_graph_are_refused(masks):
    with pytest.raises(EbbtideError) as caught:
        masks.apply(graph_of(Mixed()))
    assert caught.value.code == "sparsity.masks"
    assert caught.value.place == masks.layers[0].name


def test_the_list_for_people_names_every_layer_and_reason(masks):
    told = masks.to_json()
    assert [one["weight"] for one in told["layers"]] == [one.name for one in masks.layers]
    assert [one["reason"] for one in told["layers"] if one["carries"] != "blocks"] == [
        "it reads the model's input",
        "its rows are the classes",
    ]
    assert [one.name for one in masks.excluded] == ["stem.0.weight", "fc.weight"]
