from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sparsity_samples import CLASSES, Mixed, graph_of, resnet, samples

from ebbtide.data import Split, image_spec
from ebbtide.errors import EbbtideError
from ebbtide.model.training import fit
from ebbtide.recipe import TrainingSection
from ebbtide.saliency import collect
from ebbtide.sparsity.patterns.hybrid import Hybrid
from ebbtide.sparsity.protocol import Shrunk, pattern_type


def pictures(count=64, seed=0):
    random = np.random.default_rng(seed)
    return Split(
        name="train",
        ids=tuple(f"s{i}" for i in range(count)),
        labels=random.integers(0, CLASSES, count),
        pixels=random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        input=image_spec((8, 8), "RGB"),
    )


@pytest.fixture(scope="module")
def graph():
    return resnet()


@pytest.fixture(scope="module")
def statistics(graph):
    return collect(graph, pictures(), batches=4, batch_size=16)


def test_the_pattern_is_found_by_its_name():
    assert pattern_type("hybrid") is Hybrid


def test_a_removal_meets_its_budget_and_says_what_it_did(graph, statistics):
    pattern = Hybrid(block=8)
    before = graph.digest()
    found = pattern.shrink(graph, statistics, kept=0.2, masks=None, seed=0)
    assert graph.digest() == before == found.graph.digest()
    assert 0.19 < found.facts["kept"] <= 0.2
    assert found.facts["kept"] == pytest.approx(1 - found.masks.sparsity())
    assert found.facts["macs"] > found.facts["kept_macs"]
    assert json.loads(json.dumps(found.facts)) == found.facts
    assert [name for name, _, _ in found.facts["excluded"]] == ["stem.0.weight", "fc.weight"]
    done = pattern.finish(found)
    assert done.graph.digest() == found.masks.apply(graph).digest() != before
    assert pattern.rebuild(graph, found.facts).digest() == before


def test_the_same_seed_gives_the_same_masks(graph, statistics):
    """C-11, the masks' part; random masks differ by seed, all others do not."""
    for kind in ("absolute", "signed", "magnitude", "random"):
        pattern = Hybrid(kind=kind, block=8)
        given = statistics if pattern.needs_statistics() else None
        digests = [pattern.shrink(graph, given, kept=0.25, masks=None, seed=seed).masks.digest() for seed in (5, 5, 6)]
        assert digests[0] == digests[1]
        assert (digests[0] != digests[2]) is (kind == "random")


def test_kinds_of_scores_choose_different_weights(graph, statistics):
    digests = {
        kind: Hybrid(kind=kind, block=8).shrink(graph, statistics, kept=0.25, masks=None, seed=0).masks.digest()
        for kind in ("absolute", "signed", "magnitude", "random")
    }
    assert len(set(digests.values())) == 4


def test_the_heads_bias_survives(graph, statistics):
    """C-11, the bias's part."""
    pattern = Hybrid(block=8)
    done = pattern.finish(pattern.shrink(graph, statistics, kept=0.2, masks=None, seed=0))
    assert torch.equal(done.graph.state()["fc.bias"], graph.state()["fc.bias"])
    assert bool(graph.state()["fc.bias"].any())


def test_removals_and_fine_tuning_in_turn(graph):
    pattern = Hybrid(block=8)
    given = samples()
    settings = TrainingSection.model_validate(
        {"epochs": 1, "batch_size": 16, "learning_rate": 0.02, "device": "cpu", "precision": "float32"}
    )
    shrunk, kept_before = Shrunk(graph.copy(), None, {}), None
    for kept in (0.5, 0.3, 0.2):
        found = collect(pattern.finish(shrunk).graph, pictures(), batches=2, batch_size=16)
        shrunk = pattern.shrink(shrunk.graph, found, kept=kept, masks=shrunk.masks, seed=0)
        history = fit(pattern.trainee(shrunk, settings, None), given, given, settings=settings, metric="accuracy")
        assert np.isfinite(history.epochs[-1].loss)
        blocks = {name: kept_blocks.clone() for name, kept_blocks in shrunk.masks.blocks.items()}
        if kept_before is not None:
            assert all(not bool((blocks[name] & ~kept_before[name]).any()) for name in blocks)
        kept_before = blocks
    done = pattern.finish(shrunk)
    zeros = sum(int((done.graph.state()[one.name] == 0).sum()) for one in done.masks.masked)
    assert zeros / sum(one.weights for one in done.masks.masked) == pytest.approx(1 - done.facts["kept"], abs=1e-9)
    assert done.facts["kept"] <= 0.2


@pytest.mark.parametrize("unit", ["weights", "macs", "ranks"])
def test_budgets_in_every_unit(graph, statistics, unit):
    pattern = Hybrid(block=8, unit=unit)
    least = pattern.least(graph)
    kept = least + 0.5 * (0.5 - least)
    pattern.check(graph, kept=kept)
    found = pattern.shrink(graph, statistics, kept=kept, masks=None, seed=0)
    assert kept - 0.03 < found.facts["kept"] <= kept
    with pytest.raises(EbbtideError) as caught:
        pattern.check(graph, kept=0.9 * least)
    assert caught.value.code == "pruning.floor"


def test_controls_of_blocks_alone_and_of_groups_alone(graph, statistics):
    alone = Hybrid(block=8, n=4, m=4).shrink(graph, statistics, kept=0.2, masks=None, seed=0).masks
    assert all(bool(groups.all()) for groups in alone.groups.values())
    assert 0.8 <= alone.sparsity() < 0.83
    groups = Hybrid(block=8).shrink(graph, statistics, kept=1.0, masks=None, seed=0).masks
    assert all(bool(blocks.all()) for blocks in groups.blocks.values())
    assert groups.sparsity() == 0.5


def test_settings_are_told_and_layers_that_do_not_divide_too():
    pattern = Hybrid(block=8, n=1, unit="macs", levels=({"a": 8},))
    told = pattern.describe()
    assert json.loads(json.dumps(told)) == told
    assert Hybrid(**{name: value for name, value in told.items() if name != "pattern"}).describe() == told
    graph = graph_of(Mixed())
    found = Hybrid(kind="magnitude", block=8).shrink(graph, None, kept=0.48, masks=None, seed=0)
    assert ["3.0.weight", "groups", "12 output channels are no multiple of 8"] in found.facts["excluded"]
