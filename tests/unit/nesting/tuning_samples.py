"""Small networks with levels, and samples that they can learn, for the tests of joint tuning."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "model"))

from model_samples import ListSplit, Padded, learnable, lively

from ebbtide.model import Graph, capture
from ebbtide.model.coupling import coupling_groups, parameters_of
from ebbtide.nesting import Level, Nested
from ebbtide.recipe import TrainingSection

SHAPE = (3, 8, 8)
SHARES = {"w25": 0.4, "w50": 0.6, "w75": 0.8, "w100": 1.0}


class Separable(nn.Sequential):
    """A convolution and two separable blocks of given widths; one convolution has a bias, one norm no weights."""

    def __init__(self, first: int = 10, second: int = 12, third: int = 8) -> None:
        super().__init__(
            nn.Conv2d(3, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.LeakyReLU(0.1),
            nn.Conv2d(first, first, 3, 1, 1, groups=first), nn.BatchNorm2d(first), nn.ReLU(),
            nn.Conv2d(first, second, 1, bias=False), nn.BatchNorm2d(second, affine=False), nn.ReLU(),
            nn.Conv2d(second, second, 3, 1, 1, groups=second, bias=False), nn.BatchNorm2d(second), nn.ReLU(),
            nn.Conv2d(second, third, 1), nn.BatchNorm2d(third, eps=1e-3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(third, 3),
        )  # fmt: skip


class Shortcut(nn.Module):
    """A residual block without, and one with a convolution in its shortcut."""

    def __init__(self, inner: int = 6, outer: int = 8, last: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU())
        self.a = nn.Sequential(nn.Conv2d(outer, inner, 3, padding=1), nn.BatchNorm2d(inner), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer))
        self.c = nn.Sequential(nn.Conv2d(outer, last, 3, 2, 1, bias=False), nn.BatchNorm2d(last))
        self.short = nn.Conv2d(outer, last, 1, 2)
        self.fc = nn.Linear(last, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.b(self.a(x)))
        x = torch.relu(self.c(x) + self.short(x))
        return self.fc(x.mean((2, 3)))


class Perceptron(nn.Sequential):
    """Convolution, flatten, two linear layers; the second one's norm can be folded."""

    def __init__(self, first: int = 6, second: int = 10) -> None:
        super().__init__(
            nn.Conv2d(3, first, 3, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(first * 16, second), nn.BatchNorm1d(second), nn.ReLU(), nn.Linear(second, 3),
        )  # fmt: skip


def padded() -> nn.Module:
    """A shortcut that fills channels up with zeros."""
    return Padded(3)


NETS = {"separable": Separable, "shortcut": Shortcut, "perceptron": Perceptron, "padded": padded}


def nested_of(graph: Graph, *, norm: str = "shared") -> Nested:
    """The same share of every group at each of four levels."""
    coupling = coupling_groups(graph)
    parameters = parameters_of(graph, coupling)
    levels = []
    for name, share in SHARES.items():
        widths = {group.name: max(1, math.ceil(share * group.size)) for group in coupling.groups}
        levels.append(Level(name, share, widths, 0, share, parameters.at(coupling, widths), 0, share))
    return Nested(graph, coupling, tuple(levels), norm)


def sample(name: str = "separable", *, norm: str = "shared") -> Nested:
    """A network of random weights and statistics with its levels."""
    torch.manual_seed(0)
    return nested_of(capture(lively(NETS[name]()), SHAPE, classes=3), norm=norm)


def samples(count: int = 65, seed: int = 0) -> ListSplit:
    """Samples of three classes."""
    return learnable(count, shape=SHAPE, seed=seed)


def settings(**more: object) -> TrainingSection:
    """Three epochs of five steps."""
    return TrainingSection.model_validate(
        {"epochs": 3, "batch_size": 16, "learning_rate": 0.05, "device": "cpu", **more}
    )


def scattered(nested: Nested, level: Level, name: str, value: torch.Tensor) -> np.ndarray:
    """A tensor of a level at its places in a tensor of zeros as large as the whole network's."""
    whole = np.zeros(tuple(nested.graph.state()[name].shape), np.float32)
    places = nested.coupling.places(level.widths)
    index = [places.get((name, axis), np.arange(size)) for axis, size in enumerate(whole.shape)]
    whole[np.ix_(*index)] = value.detach().numpy()
    return whole
