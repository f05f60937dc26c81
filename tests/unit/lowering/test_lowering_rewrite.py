from __future__ import annotations

import torch
from torch import nn

from ebbtide.lowering.capture import plain_graph
from ebbtide.lowering.rewrite import fold_batch_norm, rewrite_for_delegate


def randomise(norm):
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.2, 2.0)
    return norm


def targets(graph):
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


def check_folds(net, x):
    net.eval()
    expected = net(x)
    graph = plain_graph(net, x)
    assert fold_batch_norm(graph) == 1
    assert not any("batch_norm" in target for target in targets(graph))
    assert torch.allclose(graph(x), expected, atol=1e-5)


def test_batch_norm_is_folded_when_it_follows_a_convolution_without_bias():
    check_folds(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), randomise(nn.BatchNorm2d(8))), torch.randn(1, 3, 9, 9))


def test_batch_norm_is_folded_when_it_follows_a_padded_1d_convolution():
    net = nn.Sequential(nn.Conv1d(4, 6, 5, padding="same", groups=2), randomise(nn.BatchNorm1d(6)))
    check_folds(net, torch.randn(1, 4, 20))


def test_batch_norm_is_folded_when_it_follows_a_linear_layer():
    check_folds(nn.Sequential(nn.Linear(7, 5), randomise(nn.BatchNorm1d(5))), torch.randn(1, 7))


def test_batch_norm_is_folded_when_it_has_no_affine_part():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False))
    nn.init.normal_(net[1].running_mean)
    check_folds(net, torch.randn(1, 3, 4, 4))


def test_batch_norm_stays_when_the_convolution_is_read_elsewhere_too():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), randomise(nn.BatchNorm2d(3))

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    net, x = Both().eval(), torch.randn(1, 3, 4, 4)
    graph = plain_graph(net, x)
    assert fold_batch_norm(graph) == 0
    assert torch.equal(graph(x), net(x))


def test_folded_weights_are_a_byte_prefix_when_channels_are_a_prefix():
    wide = nn.Sequential(nn.Conv2d(3, 37, 3, bias=False), randomise(nn.BatchNorm2d(37))).eval()
    narrow = nn.Sequential(nn.Conv2d(3, 11, 3, bias=False), nn.BatchNorm2d(11)).eval()
    state = {name: value if value.dim() == 0 else value[:11].clone() for name, value in wide.state_dict().items()}
    narrow.load_state_dict(state)
    x = torch.randn(1, 3, 8, 8)
    graphs = [plain_graph(net, x) for net in (wide, narrow)]
    for graph in graphs:
        fold_batch_norm(graph)
    for name in ("folded_weight_0", "folded_bias_0"):
        whole, part = (getattr(graph, name).detach().numpy() for graph in graphs)
        assert whole[:11].tobytes() == part.tobytes()


class Strided(nn.Module):
    def forward(self, x):
        return nn.functional.pad(x[:, :, ::2, 0::3], (0, 0, 0, 0, 1, 1))


class StridedSignal(nn.Module):
    def forward(self, x):
        return x[:, :, ::2]


class Cropped(nn.Module):
    def forward(self, x):
        return x[:, ::2, 1::2, :3]


def rewritten(net, x):
    graph = plain_graph(net, x)
    rewrite_for_delegate(graph)
    assert torch.equal(graph(x), net(x))
    return targets(graph)


def test_strided_slices_become_a_convolution_bit_equal_when_they_are_over_space():
    found = rewritten(Strided(), torch.randn(1, 4, 11, 10))
    assert "aten.conv2d.default" in found
    assert not any("slice" in target for target in found)
    assert "aten.conv1d.default" in rewritten(StridedSignal(), torch.randn(1, 4, 11))


def test_slices_stay_when_they_are_over_channels_or_start_inside():
    found = rewritten(Cropped(), torch.randn(1, 4, 8, 8))
    assert sum("slice" in target for target in found) >= 3
    assert not any("conv" in target for target in found)


def test_mean_over_space_keeps_its_dimensions_when_it_did_not():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((-1, -2)) + x.mean((1, 2, 3)).unsqueeze(1)

    found = rewritten(Mean(), torch.randn(1, 4, 5, 6))
    assert found.count("aten.flatten.using_ints") == 1


def test_pooling_to_one_becomes_a_mean_bit_equal_when_inputs_are_4d():
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert "aten.mean.dim" in rewritten(net, torch.randn(1, 4, 5, 6))
