from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from saliency_samples import CLASSES, SHAPE, layered, samples
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.model import capture
from ebbtide.model.operators import name_of, set_argument
from ebbtide.saliency import Statistics, collect


def bytes_of(graph):
    return {name: tensor.numpy().tobytes() for name, tensor in graph.state().items()}


def naive(graph, split, order, batch_size, *, train):
    """One batch after the other, with nothing shared between them."""
    signed, absolute = {}, {}
    for start in range(0, len(order), batch_size):
        twin = graph.copy()
        for node in twin.module.graph.nodes:
            if train and name_of(node) == "batch_norm":
                set_argument(node, "training", True)
        twin.module.recompile()
        indices = order[start : start + batch_size]
        F.cross_entropy(twin(split.tensor(indices)), split.targets(indices)).backward()
        for name, parameter in twin.module.named_parameters():
            gradient = parameter.grad.double()
            signed[name] = signed.get(name, 0) + gradient
            absolute[name] = absolute.get(name, 0) + gradient.abs() / (len(order) // batch_size)
    return signed, absolute


@pytest.mark.parametrize("norm", ["eval", "train"])
def test_collect_equals_a_naive_loop_over_the_same_batches(norm):
    graph, split = layered(), samples(24)
    # Three batches of eight are one pass, so only the order inside the pass matters: it is the seed's.
    found = collect(graph, split, batches=3, batch_size=8, seed=5, norm=norm)
    order = np.random.default_rng(5).permutation(24)
    signed, absolute = naive(graph, split, order, 8, train=norm == "train")
    assert set(found.signed) == set(found.absolute) == set(signed) == set(dict(graph.module.named_parameters()))
    for name in signed:
        torch.testing.assert_close(found.signed[name].double(), signed[name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.absolute[name].double(), absolute[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", ["eval", "train"])
def test_collect_leaves_the_graph_as_it_was_to_the_bit(norm):
    graph = layered()
    graph.module.get_parameter("0.weight").requires_grad_(False)
    before, code = bytes_of(graph), graph.module.code
    collect(graph, samples(24), batches=3, batch_size=8, norm=norm)
    assert bytes_of(graph) == before
    assert graph.module.code == code
    assert all(parameter.grad is None for parameter in graph.module.parameters())
    assert not graph.module.get_parameter("0.weight").requires_grad


def test_collect_takes_frozen_parameters_as_all_others():
    frozen, free = layered(), layered()
    for parameter in frozen.module.parameters():
        parameter.requires_grad_(False)
    one, other = (collect(graph, samples(16), batches=2, batch_size=8) for graph in (frozen, free))
    assert torch.equal(one.signed["0.weight"], other.signed["0.weight"])


def test_statistics_differ_when_norms_use_the_batch():
    by_running, by_batch = (collect(layered(), samples(24), batches=3, batch_size=8, norm=n) for n in ("eval", "train"))
    assert not torch.allclose(by_running.signed["0.weight"], by_batch.signed["0.weight"], rtol=0.05)


def test_collect_is_the_same_again_for_a_seed_and_not_for_another():
    graph, split = layered(), samples(40)
    first, again, other = (collect(graph, split, batches=2, batch_size=8, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(first.signed[name], again.signed[name]) for name in first.signed)
    assert any(not torch.equal(first.signed[name], other.signed[name]) for name in first.signed)


def test_signed_sum_cancels_where_absolute_mean_does_not_when_batches_pull_apart():
    # Logits w * x and 0 with w = 0: the gradient is -x / 2 for the first class and x / 2 for the second.
    class Pulled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(SHAPE[0], 2, bias=False)
            nn.init.zeros_(self.linear.weight)

        def forward(self, x):
            return self.linear(x.mean((2, 3)))

    split = samples(2, labels=[0, 1])
    split = replace(split, pixels=np.repeat(split.pixels[:1], 2, axis=0))
    found = collect(capture(Pulled(), SHAPE), split, batches=2, batch_size=1)
    assert torch.count_nonzero(found.signed["linear.weight"]) == 0
    assert torch.all(found.absolute["linear.weight"] > 0)


def test_collect_takes_only_samples_of_the_classes_when_they_are_given():
    graph = layered()
    split = samples(40)
    members = np.flatnonzero(np.isin(split.labels, [1, 3]))
    only = replace(
        split,
        ids=tuple(split.ids[i] for i in members),
        labels=split.labels[members],
        pixels=split.pixels[members],
    )
    found = collect(graph, split, batches=4, batch_size=5, classes=[3, 1])
    wanted = collect(graph, only, batches=4, batch_size=5)
    assert (found.classes, found.samples, wanted.classes) == ((1, 3), len(members), None)
    assert all(torch.equal(found.signed[name], wanted.signed[name]) for name in wanted.signed)


def test_samples_are_drawn_again_when_they_are_used_up():
    found = collect(layered(), samples(10), batches=7, batch_size=4)
    assert (found.batches, found.samples) == (7, 10)
    assert all(torch.isfinite(tensor).all() for tensor in found.signed.values())


def test_parameters_without_influence_have_no_gradient():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(SHAPE[0], CLASSES)
            self.idle = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return self.linear(x.mean((2, 3))) + 0 * self.idle.sum()

    found = collect(capture(Idle(), SHAPE), samples(8), batches=2, batch_size=4)
    assert torch.count_nonzero(found.absolute["idle"]) == 0
    assert torch.count_nonzero(found.absolute["linear.weight"]) > 0


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("saliency.too_few", {"batch_size": 25}),
        ("saliency.too_few", {"classes": [0], "batch_size": 24}),
        ("saliency.plan", {"classes": []}),
        ("saliency.plan", {"classes": [0, CLASSES]}),
        ("saliency.plan", {"batches": 0}),
        ("saliency.plan", {"batch_size": 1, "norm": "train"}),
        ("saliency.plan", {"norm": "frozen"}),
        ("saliency.plan", {"seed": -1}),
    ],
)
def test_collect_refuses_when_the_plan_does_not_fit(code, more):
    with pytest.raises(EbbtideError) as caught:
        collect(layered(), samples(24), **{"batches": 2, "batch_size": 8, **more})
    assert caught.value.code == code


def test_collect_refuses_labels_that_the_model_has_no_output_for():
    with pytest.raises(EbbtideError) as caught:
        collect(layered(), samples(8, labels=[0, 1, 2, 3, 4, 0, 1, 2]), batches=1, batch_size=8)
    assert (caught.value.code, caught.value.found) == ("saliency.plan", "4")


def test_collect_names_the_gradient_that_is_not_finite():
    graph = layered()
    with torch.no_grad():
        graph.module.get_parameter("13.weight").fill_(torch.inf)
    with pytest.raises(EbbtideError) as caught:
        collect(graph, samples(8), batches=1, batch_size=8)
    assert caught.value.code == "saliency.nonfinite"
    assert "batch 1 of 1" in caught.value.message


def test_statistics_are_the_same_when_saved_and_loaded(tmp_path):
    found = collect(layered(), samples(24), batches=3, batch_size=8, seed=2, norm="train", classes=[2, 0, 1])
    found.save(tmp_path / "a.safetensors")
    found.save(tmp_path / "b.safetensors")
    again = Statistics.load(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    facts = ("batches", "batch_size", "norm", "classes", "samples", "seed")
    assert [getattr(again, fact) for fact in facts] == [getattr(found, fact) for fact in facts]
    assert again.classes == (0, 1, 2)
    for kept, loaded in ((found.signed, again.signed), (found.absolute, again.absolute)):
        assert set(kept) == set(loaded)
        assert all(torch.equal(kept[name], loaded[name]) for name in kept)


def test_statistics_are_refused_when_the_file_is_damaged(tmp_path):
    path = tmp_path / "a.safetensors"
    collect(layered(), samples(8), batches=1, batch_size=8).save(path)
    for content in (path.read_bytes()[:100], b"", None):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(EbbtideError) as caught:
            Statistics.load(path)
        assert (caught.value.code, caught.value.place) == ("saliency.statistics", str(path))
