"""Small real splits and a small model of every kind of layer that has units."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ebbtide.data import Split, image_spec
from ebbtide.model import Graph, capture

SHAPE = (3, 8, 8)
CLASSES = 4


def samples(count: int, *, seed: int = 0, labels: list[int] | None = None) -> Split:
    random = np.random.default_rng(seed)
    return Split(
        name="train",
        ids=tuple(f"s{i}" for i in range(count)),
        labels=np.asarray(labels, np.int64) if labels else random.integers(0, CLASSES, count),
        pixels=random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        input=image_spec((8, 8), "RGB"),
    )


def layered(seed: int = 0) -> Graph:
    """A convolution, a depthwise and a pointwise one with batch norms, then two linear layers and dropout."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.Dropout(0.5),
        nn.ReLU(),
        nn.Linear(5, CLASSES),
    )
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    return capture(module, SHAPE, classes=CLASSES)
