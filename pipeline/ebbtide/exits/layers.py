"""Layers that several exit types are made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

SMALLEST_WIDTH = 64


def hidden_width(classes: int) -> int:
    """Width of the hidden layers of an exit's perceptron: half the number of classes, at least 64.

    DyCE (arXiv:2403.01695) takes 500 for 1000 classes at every position; on a small backbone of few classes a layer
    of that width costs more than a block.
    """
    return max(SMALLEST_WIDTH, classes // 2)


def perceptron(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them.

    Args:
        sizes: inputs, hidden widths, outputs.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
