from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from saliency_samples import layered, samples
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.model import capture, coupling_groups
from ebbtide.saliency import collect, unit_scores


@pytest.fixture(scope="module")
def scored():
    graph = layered()
    coupling = coupling_groups(graph)
    return graph, coupling, collect(graph, samples(48), batches=4, batch_size=12)


def by_hand(graph, kind, statistics):
    """What each unit of `layered` is worth: its filter, its depthwise filter, its row; counted one by one."""
    state = graph.state()

    def weight(name, *index):
        value = state[name][index].double()
        if kind == "magnitude":
            return value.abs().sum()
        gradients = statistics.signed if kind == "signed" else statistics.absolute
        return (value * gradients[name][index].double()).abs().sum()

    first = [float(weight("0.weight", u) + weight("3.weight", u)) for u in range(8)]
    second = [float(weight("6.weight", u)) for u in range(6)]
    third = [float(weight("10.weight", u)) for u in range(5)]
    return [first, second, third]


@pytest.mark.parametrize("kind", ["signed", "absolute", "magnitude"])
def test_score_sums_over_filters_depthwise_filters_and_rows(scored, kind):
    graph, coupling, statistics = scored
    scores = unit_scores(graph, coupling, kind, statistics=statistics)
    assert [group.name for group in coupling.groups] == list(scores)
    for found, wanted in zip(scores.values(), by_hand(graph, kind, statistics), strict=True):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_score_ignores_biases_and_norms(scored):
    graph, coupling, statistics = scored
    other = graph.copy()
    with torch.no_grad():
        for name in ("1.weight", "1.bias", "3.bias", "4.weight", "6.bias", "10.bias"):
            other.module.get_parameter(name).mul_(7)
    for kind in ("signed", "magnitude"):
        before, after = (unit_scores(g, coupling, kind, statistics=statistics) for g in (graph, other))
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_score_is_zero_for_signed_and_not_for_absolute_when_batches_pull_apart():
    class Balanced(nn.Module):
        """White pixels give four hidden units of 1 and logits of 0, so the two classes pull equally."""

        def __init__(self):
            super().__init__()
            self.hidden, self.linear = nn.Linear(3, 4, bias=False), nn.Linear(4, 2)
            nn.init.constant_(self.hidden.weight, 1 / 3)
            with torch.no_grad():
                self.linear.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 4))
                self.linear.bias.copy_(torch.tensor([-4.0, 4.0]))

        def forward(self, x):
            return self.linear(torch.relu(self.hidden(x.mean((2, 3)))))

    graph = capture(Balanced(), (3, 8, 8))
    white = replace(samples(2, labels=[0, 1]), pixels=np.full((2, 8, 8, 3), 255, np.uint8))
    statistics = collect(graph, white, batches=2, batch_size=1)
    coupling = coupling_groups(graph)
    signed, absolute = (
        unit_scores(graph, coupling, k, statistics=statistics)["hidden"] for k in ("signed", "absolute")
    )
    np.testing.assert_allclose(signed, 0, atol=1e-6)
    np.testing.assert_allclose(absolute, 1, rtol=1e-5)


def test_score_of_a_residual_group_sums_over_all_convolutions_that_write_to_it():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 6, 3, padding=1)
            self.inner = nn.Conv2d(6, 6, 3, padding=1)
            self.linear = nn.Linear(6, 4)

        def forward(self, x):
            x = self.stem(x)
            x = x + self.inner(torch.relu(x))
            return self.linear(x.mean((2, 3)))

    torch.manual_seed(0)
    graph = capture(Residual(), (3, 8, 8))
    coupling = coupling_groups(graph)
    scores = unit_scores(graph, coupling, "magnitude")
    state = graph.state()
    wanted = state["stem.weight"].abs().double().sum((1, 2, 3)) + state["inner.weight"].abs().double().sum((1, 2, 3))
    assert len(scores) == 1
    np.testing.assert_allclose(next(iter(scores.values())), wanted.numpy(), rtol=1e-6)


def test_random_scores_follow_from_seed_and_name(scored):
    graph, coupling, _ = scored
    first, again, other = (unit_scores(graph, coupling, "random", seed=seed) for seed in (3, 3, 4))
    fewer = unit_scores(graph, replace(coupling, groups=coupling.groups[1:]), "random", seed=3)
    for name, score in first.items():
        assert score.min() >= 0
        assert score.max() < 1
        assert np.array_equal(score, again[name])
        assert not np.array_equal(score, other[name])
    assert all(np.array_equal(first[name], fewer[name]) for name in fewer)
    assert len({tuple(score[:5]) for score in first.values()}) == len(first)


def test_scores_do_not_change_the_graph(scored):
    graph, coupling, statistics = scored
    before = {name: tensor.clone() for name, tensor in graph.state().items()}
    unit_scores(graph, coupling, "signed", statistics=statistics)
    assert all(torch.equal(tensor, before[name]) for name, tensor in graph.state().items())


def test_score_is_refused_when_statistics_are_missing_or_of_another_model(scored):
    graph, coupling, statistics = scored
    without = {name: tensor for name, tensor in statistics.signed.items() if name != "3.weight"}
    shorter = {**statistics.signed, "3.weight": statistics.signed["3.weight"][:4]}
    for given in (None, replace(statistics, signed=without), replace(statistics, signed=shorter)):
        with pytest.raises(EbbtideError) as caught:
            unit_scores(graph, coupling, "signed", statistics=given)
        assert caught.value.code == "saliency.statistics"
        assert given is None or caught.value.place == "3.weight"


def test_score_is_refused_when_weights_are_not_finite_or_the_kind_is_unknown(scored):
    graph, coupling, _ = scored
    broken = graph.copy()
    with torch.no_grad():
        broken.module.get_parameter("6.weight")[2].fill_(torch.nan)
    with pytest.raises(EbbtideError) as caught:
        unit_scores(broken, coupling, "magnitude")
    assert caught.value.code == "saliency.nonfinite"
    with pytest.raises(EbbtideError) as caught:
        unit_scores(graph, coupling, "taylor")
    assert caught.value.code == "saliency.kind"


def test_scale_makes_every_layer_worth_the_same(scored):
    graph, coupling, statistics = scored
    plain = unit_scores(graph, coupling, "absolute", statistics=statistics)
    (first, second, third) = plain
    by_sum = unit_scores(graph, coupling, "absolute", statistics=statistics, scale="l1")
    # The first group is made by two layers, a convolution and the depthwise one after it.
    assert [round(float(by_sum[name].sum()), 9) for name in (first, second, third)] == [2.0, 1.0, 1.0]
    by_root = unit_scores(graph, coupling, "absolute", statistics=statistics, scale="l2")
    assert [float((by_root[name] ** 2).sum()) for name in (second, third)] == pytest.approx([1.0, 1.0])
    for name in (second, third):
        np.testing.assert_array_equal(np.argsort(by_sum[name]), np.argsort(plain[name]))
        np.testing.assert_allclose(by_root[name], plain[name] / np.linalg.norm(plain[name]))


def test_scale_by_share_adds_up_to_the_logarithm_of_the_share_that_is_kept(scored):
    graph, coupling, statistics = scored
    plain = unit_scores(graph, coupling, "absolute", statistics=statistics)
    found = unit_scores(graph, coupling, "absolute", statistics=statistics, scale="share")
    # The first group is made by two layers, a convolution and the depthwise one after it.
    for name, layers in zip(plain, (2, 1, 1), strict=True):
        order = np.argsort(-plain[name], kind="stable")
        kept = np.cumsum(plain[name][order])
        np.testing.assert_array_equal(np.argsort(-found[name], kind="stable"), order)
        worth = np.cumsum(found[name][order])
        np.testing.assert_allclose(worth - worth[0], layers * (np.log(kept) - np.log(kept[0])))


def test_scale_leaves_a_layer_of_zeros_at_zero(scored):
    graph, coupling, statistics = scored
    silent = replace(statistics, absolute={name: 0 * tensor for name, tensor in statistics.absolute.items()})
    for scale in ("sum", "l1", "l2", "share"):
        found = unit_scores(graph, coupling, "absolute", statistics=silent, scale=scale)
        assert all(not values.any() for values in found.values())


def test_scale_that_is_unknown_is_refused(scored):
    graph, coupling, statistics = scored
    with pytest.raises(EbbtideError) as caught:
        unit_scores(graph, coupling, "absolute", statistics=statistics, scale="l3")
    assert caught.value.code == "saliency.kind"
