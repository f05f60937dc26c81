"""MACs agree with torch's own counter, which counts two operations for each."""

from __future__ import annotations

import pytest
import torch
from model_samples import SHAPES
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ebbtide.model import capture, cost
from ebbtide.model.shapes import propagate


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(24, 4, batch_first=True)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        return self.fc(self.inner(x, x, x)[0].mean(1))


class Products(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(24, 6))
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        y = torch.einsum("btd,de->bte", x, self.w) + torch.matmul(x, self.w)
        z = torch.bmm(y.transpose(1, 2), y)
        return self.fc(z.mean(1) + torch.einsum("bte,bse->bts", y, y).sum((1, 2))[:, None])


LAYERS = {
    "conv1d": (nn.Sequential(nn.Conv1d(4, 6, 5, 2, 2, bias=False), nn.Flatten(), nn.Linear(72, 5)), (4, 24)),
    "conv2d": (nn.Sequential(nn.Conv2d(4, 6, (3, 5), 2, dilation=2), nn.Flatten(), nn.LazyLinear(5)), (4, 15, 17)),
    "grouped": (nn.Sequential(nn.Conv2d(8, 12, 3, groups=4), nn.Flatten(), nn.LazyLinear(5)), (8, 9, 9)),
    "depthwise": (nn.Sequential(nn.Conv2d(8, 16, 3, groups=8), nn.Flatten(), nn.LazyLinear(5)), (8, 9, 9)),
    "transposed": (
        nn.Sequential(nn.ConvTranspose2d(8, 4, 3, 2, groups=2), nn.Flatten(), nn.LazyLinear(5)), (8, 5, 5)
    ),
    "linear": (nn.Sequential(nn.Linear(24, 7), nn.Flatten(), nn.LazyLinear(5)), (6, 24)),
    "attention": (Attention(), (6, 24)),
    "products": (Products(), (6, 24)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_cost_equals_flop_counter(name):
    module, shape = LAYERS[name]
    module = module.eval()
    module(torch.zeros(2, *shape))  # shapes of lazy layers
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            module(torch.zeros(1, *shape))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    graph = capture(module, shape)
    assert 2 * cost(graph.module, shape).macs == counter.get_total_flops() > 0


def test_cost_counts_parameters_and_peak_by_hand():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 5))
    found = cost(capture(module, (3, 8, 8)).module, (3, 8, 8))
    by_op = {node.op: node for node in found.nodes}
    assert by_op["conv2d"].macs == 4 * 64 * 27
    assert by_op["conv2d"].peak_bytes == 4 * (3 * 64 + 4 * 64)
    assert (by_op["batch_norm"].parameters, by_op["batch_norm"].weight_bytes) == (8, 4 * 16)
    assert by_op["flatten"].peak_bytes == 0
    assert found.parameters == 3 * 4 * 9 + 4 + 8 + 256 * 5 + 5
    assert found.peak_bytes == 4 * 2 * 256


def test_cost_counts_shared_weights_once():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Linear(6, 6)

        def forward(self, x):
            return self.same(self.same(x)).mean(1)

    found = cost(capture(Shared(), (4, 6)).module, (4, 6))
    assert found.parameters == 42
    assert found.macs == 2 * 4 * 36


def test_propagate_makes_the_batch_a_symbol_only():
    graph = capture(SHAPES["resnet"][0](), (3, 16, 16))
    shapes = [v.shape for v in propagate(graph.module, (3, 16, 16)).values() if isinstance(v, torch.Tensor)]
    activations = [shape for shape in shapes if isinstance(shape[0], torch.SymInt)]
    assert len(activations) > 20
    assert all(isinstance(size, int) for shape in activations for size in shape[1:])
