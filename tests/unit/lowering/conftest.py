from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ebbtide.engine import ExecuTorchEngine
from ebbtide.lowering import ProgramSpec, lower

SHAPE = (3, 12, 12)


class Shortcut(nn.Module):
    """A residual block whose shortcut takes every other pixel and pads channels, as in CIFAR's ResNets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 16, 3, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.norm2 = nn.BatchNorm2d(16)
        self.squeeze = nn.Conv2d(16, 4, 1)
        self.excite = nn.Conv2d(4, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.depthwise(y))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))


class Pooled(nn.Module):
    def __init__(self, channels: int, classes: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.mean((2, 3)))


def settle(module: nn.Module) -> nn.Module:
    """Batch norms as after training: no statistic at its initial value."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.2, 2.0)
    return module.eval()


def as_graph(module: nn.Module, *shape: int) -> torch.fx.GraphModule:
    """As stages arrive: a graph of training operators with a free batch."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(module, (torch.randn(2, *shape),), dynamic_shapes=({0: batch},))
    return program.module()


def _spec(program: str = "w100-f32-cpu", *, seed: int = 0) -> ProgramSpec:
    torch.manual_seed(seed)
    stem = settle(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()))
    block = settle(Shortcut())
    stages = [as_graph(stem, *SHAPE), as_graph(block, 8, 12, 12)]
    head = as_graph(Pooled(16).eval(), 16, 6, 6)
    temperatures = {"exit0": 1.5, "exit1": 0.7, "head": 0.25}
    return ProgramSpec(program, stages, {0: Pooled(8).eval(), 1: Pooled(16).eval()}, head, temperatures, SHAPE)


@pytest.fixture(scope="session")
def spec():
    return _spec()


@pytest.fixture(scope="session")
def lowered(spec, tmp_path_factory):
    return lower(spec, tmp_path_factory.mktemp("lowered") / f"{spec.id}.pte")


@pytest.fixture(scope="session")
def loaded(lowered):
    return ExecuTorchEngine().load(lowered.file)


@pytest.fixture(scope="session")
def samples():
    return np.random.default_rng(0).standard_normal((512, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="session")
def make_spec():
    """The specification anew: ``make_spec(id, seed=0)``."""
    return _spec
