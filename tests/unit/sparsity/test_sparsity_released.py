"""The ablation "as released" does what it is said to, and its index loses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sparsity_samples import resnet

from ebbtide.saliency import Statistics, weight_scores
from ebbtide.sparsity.patterns.hybrid import Hybrid

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "pipeline" / "benchmarks"))

from crisp_released import Released, misread


@pytest.fixture(scope="module")
def given():
    graph = resnet()
    torch.manual_seed(1)
    gradients = {name: torch.rand(p.shape) ** 4 for name, p in graph.module.named_parameters()}
    # Whole blocks matter more than others, as in a trained network.
    for value in gradients.values():
        if value.dim() == 4:
            value *= (torch.rand(value.shape[0] // 8, 1, *value.shape[2:]) ** 2).repeat_interleave(8, 0) * 10
    return graph, Statistics(gradients, gradients, 1, 1, "eval", None, samples=1, seed=0)


def test_sums_are_read_in_the_wrong_order():
    names = np.array([["a0", "a1", "a2", "a3"], ["b0", "b1", "b2", "b3"]])
    found = misread(torch.arange(8).reshape(2, 4))
    read = names.reshape(-1)[found.numpy()]
    assert read.tolist() == [["a0", "b0", "a1", "b1"], ["a2", "b2", "a3", "b3"]]


def kept_score(pattern, given, kept=0.2):
    """What share of all scores is kept, and the masks, after three removals without training between."""
    graph, statistics = given
    masks = None
    for budget in (0.45, 0.3, kept):
        masks = pattern.shrink(graph, statistics, kept=budget, masks=masks, seed=0).masks
    scores = weight_scores(graph, masks.groups, "absolute", statistics=statistics)
    held = sum(float((torch.from_numpy(scores[n]) * kept).sum()) for n, kept in masks.weight_masks().items())
    return held / sum(float(value.sum()) for value in scores.values()), masks


def test_the_misaligned_index_keeps_less_of_what_matters_at_equal_sparsity(given):
    ours, masks = kept_score(Hybrid(block=8), given)
    wrong, other = kept_score(Released(block=8, squared=False, frozen=False), given)
    aligned, _ = kept_score(Released(block=8, misaligned=False, squared=False, frozen=False), given)
    random, _ = kept_score(Hybrid(block=8, kind="random"), given)
    assert other.sparsity() == pytest.approx(masks.sparsity(), abs=0.01)
    assert wrong < 0.85 * ours
    assert wrong < 0.85 * aligned
    assert ours > random


def test_block_rows_end_unequal_and_frozen_groups_never_return(given):
    _, masks = kept_score(Released(block=8), given)
    assert any(len(set(blocks.sum(dim=1).tolist())) > 1 for blocks in masks.blocks.values())
    pattern, (graph, statistics) = Released(block=8), given
    first = pattern.shrink(graph, statistics, kept=0.45, masks=None, seed=0).masks
    torch.manual_seed(2)
    moved = {name: torch.rand(value.shape) for name, value in statistics.absolute.items()}
    other = Statistics(moved, moved, 1, 1, "eval", None, samples=1, seed=0)
    second = pattern.shrink(graph, other, kept=0.3, masks=first, seed=0).masks
    assert not any(bool((second.keep(one) & ~first.keep(one)).any()) for one in second.masked)
