from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.model import capture, cost, coupling_groups
from ebbtide.nesting import Rules
from ebbtide.pruning import check_budget, least_share, remove_channels

SHAPE = (3, 8, 8)


class Block(nn.Module):
    """A stem and a residual block: two coupling groups, of 8 and 6 channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.a = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.fc(torch.relu(x + self.b(self.a(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def block():
    torch.manual_seed(0)
    graph = capture(Block(), SHAPE, classes=3).eval()
    coupling = coupling_groups(graph)
    assert {group.name: group.size for group in coupling.groups} == {"stem.0": 8, "a.0": 6}
    return graph, coupling


def drawn(seed=0):
    random = np.random.default_rng(seed)
    return {"stem.0": random.random(8), "a.0": random.random(6)}


def macs(graph):
    return cost(graph.module, graph.input_shape).macs


def macs_at(stem, inner):
    """Counted by hand: stem and two 3x3 convolutions at 8x8, and the linear layer."""
    return 64 * 9 * (3 * stem + stem * inner + inner * stem) + 3 * stem


@pytest.mark.parametrize("kept", [0.08, 0.2, 0.37, 0.5, 0.71, 0.99])
def test_removal_keeps_the_most_score_of_all_widths_within_the_budget(block, kept):
    graph, coupling = block
    scores = drawn()
    removed = remove_channels(graph, coupling, scores, kept=kept)
    order = {name: np.sort(values)[::-1] for name, values in scores.items()}
    best = max(
        float(order["stem.0"][:stem].sum() + order["a.0"][:inner].sum())
        for stem, inner in itertools.product(range(1, 9), range(1, 7))
        if macs_at(stem, inner) <= kept * macs_at(8, 6)
    )
    everything = sum(float(values.sum()) for values in scores.values())
    assert removed.exact
    assert removed.level.value * everything == pytest.approx(best, rel=1e-9)
    widths = removed.level.widths
    assert removed.level.macs == macs(removed.graph) == macs_at(widths["stem.0"], widths["a.0"])
    assert removed.level.share == macs(removed.graph) / macs(graph) <= kept


def test_removal_of_channels_that_do_nothing_changes_no_logit(block):
    graph = block[0].copy()
    scores = {"stem.0": np.ones(8), "a.0": np.ones(6)}
    dead = [1, 4]
    with torch.no_grad():
        for name in ("a.1.weight", "a.1.bias"):
            graph.module.get_parameter(name)[dead] = 0.0
    scores["a.0"][dead] = 0.0
    coupling = coupling_groups(graph)
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1))
    before, digest = graph(x), graph.digest()
    removed = remove_channels(graph, coupling, scores, kept=macs_at(8, 4) / macs_at(8, 6))
    assert removed.level.widths == {"stem.0": 8, "a.0": 4}
    torch.testing.assert_close(removed.graph(x), before, rtol=1e-4, atol=1e-5)
    assert graph.digest() == digest
    assert torch.equal(graph(x), before)
    assert all(tensor.is_contiguous() for tensor in removed.graph.state().values())


def test_removal_keeps_multiples_and_floors(block):
    graph, coupling = block
    multiples = remove_channels(graph, coupling, drawn(), kept=0.5, rules=Rules(multiple=4))
    assert all(width % 4 == 0 or width == 6 for width in multiples.level.widths.values())
    floored = remove_channels(graph, coupling, drawn(), kept=0.3, rules=Rules(floor=3))
    assert min(floored.level.widths.values()) >= 3


def test_removal_at_the_whole_keeps_everything(block):
    graph, coupling = block
    removed = remove_channels(graph, coupling, {"stem.0": np.zeros(8), "a.0": np.zeros(6)}, kept=1.0)
    assert removed.level.widths == {"stem.0": 8, "a.0": 6}
    x = torch.randn(2, *SHAPE)
    torch.testing.assert_close(removed.graph(x), graph(x))


def test_uniform_allocation_keeps_the_same_share_of_every_group(block):
    graph, coupling = block
    scores = {"stem.0": np.arange(8.0) + 1, "a.0": 100 * (np.arange(6.0) + 1)}
    even = remove_channels(graph, coupling, scores, kept=0.31, allocation="uniform").level.widths
    # By score the inner channels, worth a hundred times as much, would all stay.
    assert even == {"stem.0": 4, "a.0": 3}
    assert remove_channels(graph, coupling, scores, kept=0.31).level.widths["a.0"] > 3


@pytest.mark.parametrize("rules", [Rules(), Rules(floor=2), Rules(multiple=4)])
def test_least_share_is_the_smallest_budget_that_is_not_refused(block, rules):
    graph, coupling = block
    least = least_share(graph, coupling, rules=rules)
    check_budget(graph, coupling, kept=least, rules=rules)
    assert remove_channels(graph, coupling, drawn(), kept=least, rules=rules).level.share == pytest.approx(least)
    for refuse in (check_budget, lambda *a, **k: remove_channels(*a, drawn(), **k)):
        with pytest.raises(EbbtideError) as caught:
            refuse(graph, coupling, kept=least * 0.999, rules=rules)
        assert caught.value.code == "pruning.floor"
        assert "the floors that cost most: " in str(caught.value.found)
        assert "stem.0 at " in str(caught.value.found)


def test_budget_is_refused_with_the_groups_where_nothing_can_shrink(block):
    graph, coupling = block
    rules = Rules(multiple=16)
    assert least_share(graph, coupling, rules=rules) == 1.0
    check_budget(graph, coupling, kept=1.0, rules=rules)
    with pytest.raises(EbbtideError) as caught:
        check_budget(graph, coupling, kept=0.9, rules=rules)
    assert caught.value.code == "pruning.floor"
    assert "stem.0: 8 channels allow no smaller multiple of 16" in str(caught.value.found)


@pytest.mark.parametrize("kept", [0.0, -0.1, 1.01, float("nan")])
def test_budget_out_of_range_is_refused(block, kept):
    for refuse in (check_budget, lambda *a, **k: remove_channels(*a, drawn(), **k)):
        with pytest.raises(EbbtideError) as caught:
            refuse(*block, kept=kept)
        assert caught.value.code == "pruning.budget"


def test_scores_that_are_all_zero_are_refused(block):
    with pytest.raises(EbbtideError) as caught:
        remove_channels(*block, {"stem.0": np.zeros(8), "a.0": np.zeros(6)}, kept=0.5)
    assert caught.value.code == "pruning.scores"
