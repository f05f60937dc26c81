from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ebbtide.engine import ExecuTorchEngine
from ebbtide.lowering import ProgramSpec, compare, lower
from ebbtide.lowering.capture import plain_graph
from ebbtide.lowering.layout import boundary_layout, layout_of


class Residual(nn.Module):
    """A convolution beside a path that has none."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return torch.cat([nn.functional.hardswish(self.conv(x)) + x, x], 1)


class RowsLast(nn.Module):
    """As in windowed transformers: the channels are the last dimension of the shape itself."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(4, 6, 1), nn.Linear(6, 6)

    def forward(self, x):
        return self.linear(self.conv(x).permute(0, 2, 3, 1))


def found(module, *, before="contiguous"):
    return boundary_layout(plain_graph(module.eval(), torch.randn(1, 4, 6, 6)), before=before)


@pytest.mark.parametrize("module", [nn.Conv2d(4, 2, 1), nn.MaxPool2d(2), Residual()])
def test_boundary_is_channels_last_when_spatial_operators_made_it(module):
    assert found(module) == "channels_last"


@pytest.mark.parametrize(
    "module", [RowsLast(), nn.Conv2d(4, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ReLU(), nn.PixelShuffle(2)]
)
def test_boundary_is_contiguous_when_nothing_spatial_made_it_or_orders_are_the_same(module):
    assert found(module) == "contiguous"


def test_boundary_keeps_its_order_when_a_stage_is_elementwise():
    assert found(nn.ReLU(), before="channels_last") == "channels_last"
    assert found(nn.Flatten(), before="channels_last") == "contiguous"


def test_layout_is_contiguous_when_both_orders_are_the_same():
    x = torch.zeros(1, 4, 6, 6)
    assert layout_of(x.contiguous(memory_format=torch.channels_last)) == "channels_last"
    assert layout_of(x) == "contiguous"
    assert layout_of(torch.zeros(1, 4, 1, 1).contiguous(memory_format=torch.channels_last)) == "contiguous"


class Backwards(nn.Module):
    """Begins and ends with operators that the delegate leaves to the runtime's kernels."""

    def forward(self, x):
        return torch.roll(torch.flip(x[:, 1:5, ::2], [3]), 1, 2)


class Tail(nn.Module):
    """Reads the boundary in the order of its shape."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4 * 3 * 6, 5)

    def forward(self, x):
        return self.linear(x.flatten(1))


class Corner(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, x):
        return self.linear(x[:, :, 1, 2])


def test_numbers_are_those_of_the_modules_when_boundaries_meet_what_the_delegate_leaves(tmp_path):
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 6, 3, padding=1).eval(), Backwards().eval()]
    temperatures = {"exit0": 1.0, "head": 2.0}
    spec = ProgramSpec("mixed", stages, {0: Corner().eval()}, Tail().eval(), temperatures, (3, 6, 6))
    lowered = lower(spec, tmp_path / "mixed.pte")
    layouts = {method.name: (method.inputs[0].layout, method.outputs[0].layout) for method in lowered.methods}
    assert layouts == {
        "stage0": ("contiguous", "channels_last"),
        "exit0": ("channels_last", "contiguous"),
        "stage1": ("channels_last", "contiguous"),
        "head": ("contiguous", "contiguous"),
    }
    assert any(method.portable for method in lowered.methods if method.kind == "stage")
    samples = np.random.default_rng(0).standard_normal((8, 3, 6, 6)).astype(np.float32)
    _, _, gaps = compare(spec, ExecuTorchEngine().load(lowered.file), samples)
    assert all(gap.logits < 1e-4 and gap.confidence < 1e-4 for gap in gaps)
