from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_samples import SHAPE, digits, personal, settings, universal

from ebbtide.errors import EbbtideError
from ebbtide.model import cost, coupling_groups, evaluate
from ebbtide.saliency import collect, unit_scores
from ebbtide.sparsity.protocol import pattern_type, pattern_types

Channels = pattern_type("channels")


@pytest.fixture(scope="module")
def graph():
    return personal()


@pytest.fixture(scope="module")
def statistics(graph):
    return collect(graph, digits("train"), batches=5, batch_size=32)


def macs(graph):
    return cost(graph.module, graph.input_shape).macs


def test_patterns_are_found_by_their_files():
    assert set(pattern_types()) >= {"channels", "hybrid"}
    assert all(kind().name == name for name, kind in pattern_types().items())
    with pytest.raises(EbbtideError) as caught:
        pattern_type("chanels")
    assert caught.value.code == "sparsity.unknown_pattern"
    assert "'channels'" in caught.value.hint


@pytest.mark.parametrize("kept", [0.5, 0.1, 0.03])
def test_channels_leave_a_plain_smaller_graph_within_the_budget(graph, statistics, kept):
    shrunk = Channels().shrink(graph, statistics, kept=kept, masks=None, seed=0)
    assert shrunk.masks is None
    assert shrunk.facts["macs"] == macs(shrunk.graph) <= kept * macs(graph)
    assert shrunk.facts["kept"] == macs(shrunk.graph) / macs(graph)
    assert Channels().size(graph) == macs(graph)
    sizes = {group.name: group.size for group in coupling_groups(graph).groups}
    assert shrunk.facts["groups"] == sizes
    assert any(width < sizes[name] for name, width in shrunk.facts["widths"].items())
    operators = [[node.target for node in each.module.graph.nodes] for each in (shrunk.graph, graph)]
    assert operators[0] == operators[1]


def test_channels_take_multiples_that_the_caller_gives(graph, statistics):
    shrunk = Channels(multiple=8).shrink(graph, statistics, kept=0.4, masks=None, seed=0)
    assert all(width % 8 == 0 for width in shrunk.facts["widths"].values())
    assert Channels(multiple=8).least(graph) > Channels().least(graph)


def test_channels_that_score_least_go(graph, statistics):
    scores = unit_scores(graph, coupling_groups(graph), "absolute", statistics=statistics)
    shrunk = Channels().shrink(graph, statistics, kept=0.5, masks=None, seed=0)
    weight = graph.state()["c.0.weight"]
    width = shrunk.facts["widths"]["c.0"]
    stem = np.argsort(-scores["stem.0"], kind="stable")[: shrunk.facts["widths"]["stem.0"]]
    rows = np.argsort(-scores["c.0"], kind="stable")[:width]
    assert torch.equal(shrunk.graph.state()["c.0.weight"], weight[rows.copy()][:, stem.copy()])


def test_channels_by_importance_hold_accuracy_better_than_the_weakest_ones_kept(graph, statistics):
    """The same code with scores turned round must be much worse, or scores would not matter."""
    select = digits("select")
    own = Channels().shrink(graph, statistics, kept=0.6, masks=None, seed=0).graph
    inverse = {name: 1.0 / (tensor + 1e-12) for name, tensor in statistics.absolute.items()}
    weights = dict(graph.module.named_parameters())
    # The score |W A| becomes about 1 / |W A|.
    turned = {name: t / weights[name].detach().abs().clamp_min(1e-6) ** 2 for name, t in inverse.items()}
    worst = Channels().shrink(graph, replace(statistics, absolute=turned), kept=0.6, masks=None, seed=0).graph
    assert evaluate(own, select, metric="accuracy") > evaluate(worst, select, metric="accuracy") + 0.1


@pytest.mark.parametrize("kind", ["magnitude", "random"])
def test_controls_need_no_statistics(graph, kind):
    pattern = Channels(kind=kind)
    assert not pattern.needs_statistics()
    first, same, other = (pattern.shrink(graph, None, kept=0.3, masks=None, seed=s).graph for s in (0, 0, 1))
    assert first.digest() == same.digest()
    assert (first.digest() == other.digest()) == (kind == "magnitude")


def test_channels_need_the_statistics_of_this_graph(graph, statistics):
    shrunk = Channels().shrink(graph, statistics, kept=0.5, masks=None, seed=0).graph
    for given in (None, statistics):
        with pytest.raises(EbbtideError) as caught:
            Channels().shrink(shrunk, given, kept=0.5, masks=None, seed=0)
        assert caught.value.code == "saliency.statistics"


def test_check_refuses_what_shrink_cannot_do(graph, statistics):
    pattern = Channels(floor=8)
    least = pattern.least(graph)
    pattern.check(graph, kept=least)
    assert pattern.shrink(graph, statistics, kept=least, masks=None, seed=0).facts["kept"] == pytest.approx(least)
    with pytest.raises(EbbtideError) as caught:
        pattern.check(graph, kept=0.9 * least)
    assert caught.value.code == "pruning.floor"
    assert "c.0 at 8" in caught.value.found


def test_rebuild_makes_the_structure_again(graph, statistics):
    shrunk = Channels().shrink(graph, statistics, kept=0.2, masks=None, seed=0)
    again = Channels().rebuild(graph, shrunk.facts)
    again.load(shrunk.graph.state())
    x = torch.randn(4, *SHAPE)
    assert torch.equal(again.eval()(x), shrunk.graph(x))


def test_trainee_is_the_smaller_graph_itself(graph, statistics):
    shrunk = Channels().shrink(graph, statistics, kept=0.2, masks=None, seed=0)
    assert Channels().trainee(shrunk, settings(), None).graph is shrunk.graph
    assert Channels().finish(shrunk) is shrunk
    assert universal().classes == 10
