from __future__ import annotations

import numpy as np
import pytest
import torch
from sparsity_samples import SHAPE, Mixed, graph_of
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.model import capture, cost
from ebbtide.sparsity.layout import Shape, layers_of, matrix, tensor


def test_columns_run_over_kernel_positions_with_input_channels_fastest():
    weight = torch.arange(2 * 3 * 2 * 5).reshape(2, 3, 2, 5)
    rows = matrix(weight)
    for r in range(2):
        by_hand = [int(weight[r, c, i, j]) for i in range(2) for j in range(5) for c in range(3)]
        assert rows[r].tolist() == by_hand
    assert torch.equal(tensor(rows, weight.shape), weight)


@pytest.mark.parametrize("size", [(6, 4), (6, 4, 1), (6, 4, 3), (2, 4, 3, 3)])
def test_every_rank_of_weight_goes_there_and_back(size):
    weight = torch.randn(size)
    assert torch.equal(tensor(matrix(weight), size), weight)


def test_layers_are_listed_with_the_reason_they_are_excluded():
    """C-12: nothing is skipped silently."""
    graph = graph_of(Mixed())
    found = {layer.name: layer for layer in layers_of(graph, Shape(8, 2, 4))}
    assert [(name, one.carries, one.reason) for name, one in found.items()] == [
        ("0.0.weight", "nothing", "it reads the model's input"),
        ("1.0.weight", "nothing", "it is a convolution of 16 groups"),
        ("2.0.weight", "blocks", ""),
        ("3.0.weight", "groups", "12 output channels are no multiple of 8"),
        ("4.0.weight", "groups", "12 input channels are no multiple of 8"),
        ("5.0.weight", "nothing", "10 input channels are no multiple of 4"),
        ("8.weight", "groups", "its rows are the classes"),
    ]
    macs = {node.op + str(index): node.macs for index, node in enumerate(cost(graph.module, SHAPE).nodes) if node.macs}
    assert sum(one.macs for one in found.values()) == sum(macs.values())


def test_attention_and_shared_weights_are_seen():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.tied, self.head = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 4)
            self.free = nn.Parameter(torch.randn(8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x.flatten(2)).mean(1)
            return self.head(self.tied(torch.relu(self.tied(x))) @ self.free)

    graph = capture(Tied(), SHAPE, classes=4)
    found = {layer.name: layer for layer in layers_of(graph, Shape(8, 2, 4))}
    assert found["tied.weight"].carries == "blocks"
    assert found["tied.weight"].macs == 2 * 64
    assert found["free"].carries == "nothing"
    assert "only convolutions and linear layers" in found["free"].reason


def test_bands_of_a_layer_without_levels_are_one_of_all_block_columns():
    found = {layer.name: layer for layer in layers_of(graph_of(Mixed()), Shape(4, 2, 4))}
    (band,) = found["3.0.weight"].bands(4)
    assert found["3.0.weight"].grid(4) == (3, 54)
    np.testing.assert_array_equal(band, np.arange(54))


@pytest.mark.parametrize(("block", "n", "m"), [(6, 2, 4), (8, 5, 4), (8, 0, 4), (0, 1, 1)])
def test_sizes_that_do_not_fit_are_refused(block, n, m):
    with pytest.raises(EbbtideError) as caught:
        Shape(block, n, m)
    assert caught.value.code == "sparsity.shape"


def test_a_model_that_can_carry_nothing_is_refused_with_reasons():
    with pytest.raises(EbbtideError) as caught:
        layers_of(graph_of(Mixed()), Shape(64, 2, 64))
    assert caught.value.code == "sparsity.nothing_to_prune"
    assert "0.0.weight: it reads the model's input" in (caught.value.found or "")
