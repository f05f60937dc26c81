"""Small networks with layers that carry blocks, N:M only, or nothing, and what tests ask of their masks."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "model"))

from model_samples import ListSplit, SmallResNet, conv_bn, learnable, lively

from ebbtide.model import Graph, capture
from ebbtide.sparsity.layout import Layer, matrix
from ebbtide.sparsity.masks import Masks

SHAPE = (3, 8, 8)
CLASSES = 4


class Mixed(nn.Sequential):
    """A stem, a depthwise convolution, layers that divide by 8, by 4 and by neither, and a head with a bias."""

    def __init__(self) -> None:
        super().__init__(
            conv_bn(3, 16), conv_bn(16, 16, groups=16), conv_bn(16, 24, 1), conv_bn(24, 12), conv_bn(12, 10, 1),
            conv_bn(10, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES),
        )  # fmt: skip


def graph_of(module: nn.Module, seed: int = 0) -> Graph:
    """A graph with random weights and statistics."""
    torch.manual_seed(seed)
    return capture(lively(module, seed), SHAPE, classes=CLASSES)


@functools.cache
def _resnet() -> Graph:
    torch.manual_seed(0)
    return graph_of(SmallResNet(CLASSES))


def resnet() -> Graph:
    """Convolutions of 8, 16 and 32 channels, 3x3 and 1x1, with shortcuts; the same weights each time."""
    return _resnet().copy()


def samples(count: int = 48, classes: int = CLASSES) -> ListSplit:
    """Samples that can be learned."""
    return learnable(count, classes, SHAPE)


def random_scores(masks: Masks, seed: int = 0) -> dict[str, np.ndarray]:
    """Scores that are nowhere equal."""
    random = np.random.default_rng(seed)
    return {layer.name: random.random(layer.size) for layer in masks.masked}


def layer(masks: Masks, name: str) -> Layer:
    """A layer by a part of its name."""
    return next(one for one in masks.layers if name in one.name)


def zero_blocks(graph: Graph, one: Layer, edge: int) -> np.ndarray:
    """Which blocks of a weight are all zero, (H, V), counted one by one."""
    weight = matrix(graph.state()[one.name]).numpy()
    height, width = one.grid(edge)
    return np.array(
        [
            [not weight[h * edge : (h + 1) * edge, v * edge : (v + 1) * edge].any() for v in range(width)]
            for h in range(height)
        ]
    )
