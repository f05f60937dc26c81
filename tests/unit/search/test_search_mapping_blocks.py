"""The blocks of known networks as listed by hand, and what blocks and exits are counted to need."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import MobileNetV2

from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey
from ebbtide.exits.place import Place
from ebbtide.exits.protocol import build_exit
from ebbtide.model import Graph, capture, cost
from ebbtide.search.mapping_blocks import Block, BlockGraph, block_graph, exit_block

ADAPTERS = Path(__file__).resolve().parents[3] / "pipeline" / "benchmarks" / "adapters"


def lines(blocks: tuple[Block, ...]) -> list[tuple[str, int, int]]:
    return [(one.name, one.macs, one.output_bytes) for one in blocks]


def adds_up(found: BlockGraph, graph: Graph) -> None:
    whole = cost(graph.module, graph.input_shape)
    assert sum(part.macs for part in found.parts) == whole.macs
    assert sum(part.weight_bytes for part in found.parts) == whole.weight_bytes
    assert max(part.peak_bytes for part in found.parts) == whole.peak_bytes


def test_blocks_of_resnet20_as_listed_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ADAPTERS))
    import resnet_cifar

    graph = capture(resnet_cifar.resnet20().eval(), (3, 32, 32))
    found = block_graph(graph)
    conv = 32 * 32 * 16 * 16 * 9  # every convolution of the residual blocks but the two that halve the map
    by_hand = [(27 * 16 * 1024, 16 * 1024)]
    by_hand += [(2 * conv, 16 * 1024)] * 3
    by_hand += [(conv // 2 + conv, 32 * 256)] + [(2 * conv, 32 * 256)] * 2
    by_hand += [(conv // 2 + conv, 64 * 64)] + [(2 * conv, 64 * 64)] * 2
    assert [(one.macs, one.output_bytes) for one in found.stages] == [(macs, 4 * size) for macs, size in by_hand]
    assert (found.head.macs, found.head.output_bytes, found.input_bytes) == (640, 40, 4 * 3 * 1024)
    assert found.candidates == tuple(range(9))
    assert {one.main for one in found.stages} == {"conv2d"}
    adds_up(found, graph)
    for name in ("resnet_cifar", "shared_data"):
        sys.modules.pop(name, None)


def test_blocks_of_dscnn_as_listed_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ADAPTERS))
    import reds_nets

    graph = capture(reds_nets.dscnn_s().eval(), (1, 49, 10))
    found = block_graph(graph)
    pair = 125 * 64 * (9 + 64)  # a depthwise and the pointwise convolution after it, on 25 x 5 places
    expected = [("first.3", 125 * 64 * 40, 32_000)] + [(f"blocks.{i}.5", pair, 32_000) for i in range(4)]
    assert lines(found.stages) == expected
    assert found.head.macs == 64 * 12
    assert found.candidates == (0, 1, 2, 3)
    adds_up(found, graph)
    sys.modules.pop("reds_nets")


MOBILENET = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]


@pytest.mark.parametrize("repeats", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_blocks_of_mobilenetv2_as_listed_by_hand(repeats: int) -> None:
    settings = [[t, c, min(n, repeats), s] for t, c, n, s in (MOBILENET if repeats > 1 else MOBILENET[:2])]
    graph = capture(MobileNetV2(num_classes=10, inverted_residual_setting=settings).eval(), (3, 32, 32))
    side, channels, expected = 16, 32, [(27 * 32 * 256, 32 * 256)]
    for expansion, outputs, count, stride in settings:
        for index in range(count):
            inner, before = channels * expansion, side
            side = side // stride if index == 0 else side
            macs = inner * channels * before**2 if expansion > 1 else 0
            expected.append((macs + inner * side**2 * (9 + outputs), outputs * side**2))
            channels = outputs
    expected.append((channels * 1280 * side**2, 1280 * side**2))
    found = block_graph(graph)
    assert [(one.macs, one.output_bytes) for one in found.stages] == [(macs, 4 * size) for macs, size in expected]
    assert len(found.stages) == {1: 4, 4: 19}[repeats]
    assert found.candidates == tuple(range(len(found.stages) - 1))
    adds_up(found, graph)


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(x).mean((2, 3))
        return self.fc(y), y


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.fc = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.inner(x)[0][:, -1])


@pytest.mark.parametrize(
    ("module", "shape", "code"),
    [(Recurrent(), (4, 6), "model.recurrent"), (TwoOutputs(), (3, 8, 8), "model.outputs")],
)
def test_recurrent_and_multi_output_models_are_refused(module: nn.Module, shape: tuple[int, ...], code: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        block_graph(capture(module, shape))
    assert caught.value.code == code
    assert caught.value.hint


def test_blocks_end_at_the_cuts_when_some_are_named() -> None:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Conv2d(3 if i == 0 else 6, 6, 3, padding=1), nn.ReLU()) for i in range(4)]
    graph = capture(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)), (3, 8, 8))
    every = block_graph(graph)
    names = [one.name for one in every.stages]
    two = block_graph(graph, [names[1], names[3]])
    assert [one.name for one in two.stages] == [names[1], names[3]]
    assert two.stages[0].macs == every.stages[0].macs + every.stages[1].macs
    assert two.candidates == (0,)
    assert two.carried_bytes(0) == 4 * 3 * 64
    assert two.carried_bytes(1) == two.carried_bytes(2) == 4 * 6 * 64
    with pytest.raises(EbbtideError) as caught:
        block_graph(graph, ["nowhere"])
    assert caught.value.code == "model.cut_point"


MACS = {
    "conv1d": (nn.Sequential(nn.Conv1d(4, 6, 5, 2, 2), nn.Flatten(), nn.Linear(72, 5)), (4, 24)),
    "conv2d": (nn.Sequential(nn.Conv2d(4, 6, (3, 5), 2), nn.Flatten(), nn.Linear(6 * 7 * 7, 5)), (4, 15, 17)),
    "depthwise": (nn.Sequential(nn.Conv2d(8, 16, 3, groups=8), nn.Flatten(), nn.Linear(16 * 49, 5)), (8, 9, 9)),
    "grouped": (nn.Sequential(nn.Conv2d(8, 12, 3, groups=4), nn.Flatten(), nn.Linear(12 * 49, 5)), (8, 9, 9)),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_of_blocks_equal_counts_by_hooks(name: str) -> None:
    module, shape = MACS[name]
    counted = [0]

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        # Every value put out takes one product for each weight of its filter, of its group's inputs only.
        counted[0] += out[0].numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(count) for layer in module if hasattr(layer, "weight")]
    with torch.no_grad():
        module(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    assert sum(part.macs for part in block_graph(capture(module, shape)).parts) == counted[0] > 0


def test_exit_needs_its_weights_and_the_map_it_reads() -> None:
    key = ExitKey(2, "pool-linear")
    found = exit_block(key, build_exit("pool-linear", Place((16, 8, 8), 1, 10)), (16, 8, 8))
    assert (found.name, found.macs, found.weight_bytes) == ("2:pool-linear", 160, 4 * 170)
    assert found.peak_bytes == 4 * (16 * 64 + 16)
    assert {"linear", "mean"} <= found.operators
