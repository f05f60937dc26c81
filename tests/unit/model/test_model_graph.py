from __future__ import annotations

import pytest
import torch
from model_samples import SHAPES, SmallResNet, lively
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ebbtide.errors import EbbtideError
from ebbtide.model import capture, choose_cuts, cost, cut_points, restrict_head, split
from ebbtide.model.operators import WEIGHTED, name_of


@pytest.fixture(scope="module", params=SHAPES)
def captured(request):
    kind, shape = SHAPES[request.param]
    torch.manual_seed(0)
    module = lively(kind()).eval()
    return request.param, module, capture(module, shape, classes=10)


@pytest.fixture(scope="module")
def residual():
    return capture(lively(SmallResNet()), (3, 16, 16))


def sample(shape, batch=3, seed=1):
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def plain_attention():
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize("batch", [1, 5])
def test_capture_equals_source_when_batch_varies(captured, batch):
    _, module, graph = captured
    x = sample(graph.input_shape, batch)
    with torch.no_grad():
        torch.testing.assert_close(graph(x), module(x), rtol=1e-5, atol=1e-5)
    assert set(graph.state()) == set(module.state_dict())
    assert not any(name_of(node).endswith("_") for node in graph.module.graph.nodes)


def test_split_is_bit_equal_when_cut_anywhere(captured):
    name, _, graph = captured
    points = cut_points(graph)
    assert len(points) >= 2, name
    x = sample(graph.input_shape)
    names = [point.name for point in points]
    with torch.no_grad():
        expected = graph(x)
        for cuts in ([], names[:1], names[-1:], names, names[::2]):
            staged = split(graph, cuts)
            assert torch.equal(staged(x), expected)
            assert torch.equal(staged(x[:1]), graph(x[:1]))
            y = x
            for stage, shape in zip(staged.stages, staged.boundaries, strict=True):
                y = stage(y)
                assert tuple(y.shape[1:]) == shape


def test_stages_export_again_when_batch_is_one(captured):
    _, _, graph = captured
    staged = split(graph, choose_cuts(graph, 2), clone=True)
    x = sample(graph.input_shape, 1)
    for position, part in enumerate([*staged.stages, staged.head]):
        again = torch.export.export(part, (staged.example(position),)).module()
        with torch.no_grad():
            expected = part(x)
            assert torch.equal(again(x), expected)
        x = expected


def test_gradients_and_statistics_equal_source_when_training():
    torch.manual_seed(0)
    module = lively(SmallResNet())
    graph = capture(module, (3, 16, 16), classes=10).copy().train()
    module.train()
    x = sample((3, 16, 16), 8)
    for model in (module, graph):
        torch.manual_seed(7)  # the same dropout
        nn.functional.cross_entropy(model(x), torch.arange(8)).backward()
    own = dict(graph.module.named_parameters())
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter.grad, own[name].grad), name
    for name, tensor in module.state_dict().items():
        if "running" in name:
            assert torch.equal(tensor, graph.state()[name]), name
    module.eval(), graph.eval()
    with torch.no_grad():
        assert torch.equal(module(x), graph(x))


def test_copy_has_tensors_of_its_own_when_one_is_changed(residual):
    graph = residual.copy()
    graph.module.to(memory_format=torch.channels_last)
    twin = graph.copy()
    before = graph.state()["fc.weight"].clone()
    with torch.no_grad():
        twin.module.get_parameter("fc.weight").zero_()
    assert torch.equal(graph.state()["fc.weight"], before)
    assert all(tensor.is_contiguous() for tensor in twin.state().values())


def test_split_shares_parameters_unless_cloned(residual):
    graph = residual
    cuts = choose_cuts(graph, 2)
    shared = split(graph, cuts).head.get_parameter("fc.weight")
    assert shared.data_ptr() == graph.state()["fc.weight"].data_ptr()
    assert split(graph, cuts, clone=True).head.get_parameter("fc.weight").data_ptr() != shared.data_ptr()


def test_cut_points_end_blocks_when_model_is_residual(residual):
    graph = residual
    assert [point.name for point in cut_points(graph)] == [
        "stem.2", "blocks.0.relu", "blocks.1.relu", "blocks.2.relu", "blocks.3.relu",
    ]  # fmt: skip
    head = split(graph, choose_cuts(graph, "auto")).head
    assert [name_of(n) for n in head.graph.nodes if name_of(n)] == ["mean", "dropout", "linear"]


def test_cut_points_skip_depthwise_half_when_model_is_separable():
    kind, shape = SHAPES["dscnn"]
    graph = capture(lively(kind()), shape)
    assert [p.name for p in cut_points(graph)] == ["0.2", "2.2", "4.2", "6.2"]


def test_choose_cuts_balances_best_of_all_choices(residual):
    from itertools import combinations, pairwise

    graph = residual
    points = cut_points(graph)

    def score(chosen):
        ends = [0, *(points[i].macs_before for i in chosen)]
        return sum((b - a) ** 2 for a, b in pairwise(ends))

    last = len(points) - 1
    best = min(score([*c, last]) for c in combinations(range(last), 2))
    names = [p.name for p in points]
    assert score([names.index(name) for name in choose_cuts(graph, 3)]) == best
    assert choose_cuts(graph, ["blocks.0.relu"]) == ("blocks.0.relu", "blocks.3.relu")
    assert choose_cuts(graph, 1) == ("blocks.3.relu",)
    assert 2 <= len(choose_cuts(graph, "auto")) <= 4


@pytest.mark.parametrize("stages", [["blocks.0.rel"], 9, 0])
def test_choose_cuts_refuses_when_stages_are_impossible(residual, stages):
    graph = residual
    with pytest.raises(EbbtideError) as caught:
        choose_cuts(graph, stages)
    assert caught.value.code == "model.cut_point"
    assert "auto" in caught.value.hint or "blocks.0.relu" in caught.value.hint


def test_cost_equals_flop_counter_when_graph_is_whole(captured):
    _, module, graph = captured
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module(sample(graph.input_shape, 1))
    assert 2 * cost(graph.module, graph.input_shape).macs == counter.get_total_flops() > 0


def test_costs_of_parts_add_up_to_the_model(captured):
    _, _, graph = captured
    staged = split(graph, choose_cuts(graph, 2))
    parts = [cost(part, staged.inputs_of(i)) for i, part in enumerate([*staged.stages, staged.head])]
    whole = cost(graph.module, graph.input_shape)
    assert whole.macs > 0
    assert sum(part.macs for part in parts) == whole.macs
    assert sum(part.parameters for part in parts) == whole.parameters
    assert sum(part.weight_bytes for part in parts) == whole.weight_bytes
    assert max(part.peak_bytes for part in parts) == whole.peak_bytes
    assert whole.parameters == sum(p.numel() for p in graph.module.parameters())
    assert all(node.macs == 0 for node in whole.nodes if node.op not in WEIGHTED)


def test_restrict_head_slices_rows_when_linear(residual):
    graph = residual
    small = restrict_head(graph, (7, 2, 5))
    x = sample((3, 16, 16))
    with torch.no_grad():
        torch.testing.assert_close(small(x), graph(x)[:, [7, 2, 5]])
    assert (small.classes, graph.classes) == (3, 10)
    assert set(small.state()) == set(graph.state())
    assert torch.equal(small.state()["fc.weight"], graph.state()["fc.weight"][[7, 2, 5]])
    assert small.state()["fc.weight"].untyped_storage().nbytes() == 3 * 32 * 4
    assert small.notes == graph.notes


def test_restrict_head_selects_and_says_so_when_not_linear():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    graph = capture(module, (3, 16, 16))
    small = restrict_head(graph, (4, 1))
    x = sample((3, 16, 16))
    assert torch.equal(small(x), graph(x)[:, [4, 1]])
    assert "flatten" in small.notes[-1]


@pytest.mark.parametrize("indices", [(0, 10), (1, 1), ()])
def test_restrict_head_refuses_when_classes_are_wrong(residual, indices):
    graph = residual
    with pytest.raises(EbbtideError) as caught:
        restrict_head(graph, indices)
    assert caught.value.code == "model.classes"
