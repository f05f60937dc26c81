from __future__ import annotations

import pytest
import torch
from torch import nn
from tuning_samples import NETS, SHAPE, sample, samples, settings

from ebbtide.model import capture
from ebbtide.model.operators import name_of
from ebbtide.nesting import TuningOptions
from ebbtide.nesting.batch_norm import fold_tensors, foldable, never_collected, statistics_names
from ebbtide.nesting.tuning import _Joint


def norms(module):
    return [node for node in module.graph.nodes if name_of(node) == "batch_norm"]


@pytest.mark.parametrize(("name", "count"), [("separable", 5), ("shortcut", 4), ("perceptron", 1), ("padded", 3)])
def test_folded_levels_equal_unfolded_ones(name, count):
    nested, (x, _) = sample(name), next(samples(16).batches(16))
    assert len(foldable(nested.graph)) == count == len(norms(nested.graph.module))
    folded, plain = (_Joint(nested, settings(), TuningOptions(fold=fold)) for fold in (True, False))
    for one, two in zip(folded._programs, plain._programs, strict=True):
        assert not norms(one.module)
        assert len(norms(two.module)) == count
        whole, other = folded._whole()[0], plain._whole()[0]
        assert torch.allclose(one(x, one.slices(whole)), two(x, two.slices(other)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_prefix_of_folded_tensors_is_the_folded_prefix_byte_for_byte(name):
    nested = sample(name)
    folds, whole = foldable(nested.graph), nested.graph.state()
    joint = _Joint(nested, settings(), TuningOptions())
    for level, program in zip(nested.levels, reversed(joint._programs), strict=True):
        sliced = program._slices(fold_tensors(folds, whole))
        folded = fold_tensors(folds, program._slices(whole))
        assert all(torch.equal(sliced[tensor], folded[tensor]) for tensor in folded), level.name


class Reused(nn.Module):
    """No norm here can be folded: another reader, a shared weight, batch statistics, channels that are no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.read, self.first, self.second = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.three, self.own = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)
        self.linear, self.tokens = nn.Linear(4, 4), nn.BatchNorm1d(36)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.one(x)
        x = x + self.read(x)
        x = self.second(self.two(self.first(self.two(x))))
        x = self.own(self.three(x)).flatten(2).transpose(1, 2)
        return self.tokens(self.linear(x)).mean(1)


def test_foldable_leaves_out_layers_that_something_else_depends_on():
    graph = capture(Reused(), SHAPE)
    assert len(norms(graph.module)) == 5
    assert foldable(graph) == ()


def test_never_collected_names_the_norms_that_were_never_trained():
    torch.manual_seed(0)
    graph = capture(NETS["shortcut"](), SHAPE)
    assert never_collected(graph) == ("stem.1.running_mean", "a.1.running_mean", "b.1.running_mean", "c.1.running_mean")
    graph.state()["stem.1.running_mean"].fill_(0.5)
    assert "stem.1.running_mean" not in never_collected(graph)
    assert len(statistics_names(graph)) == 8
