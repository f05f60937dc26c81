"""The families of classifiers that are promised: captured, cut and costed as they come from timm and torchvision."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ebbtide.model import capture, choose_cuts, cost, cut_points, split

FAMILIES = [
    "torchvision:resnet18", "timm:resnet50", "torchvision:resnext50_32x4d", "torchvision:vgg11_bn", "timm:vgg11",
    "torchvision:mobilenet_v2", "torchvision:mobilenet_v3_small", "timm:mobilenetv3_small_100",
    "torchvision:efficientnet_b0", "torchvision:convnext_tiny", "timm:convnext_atto", "torchvision:densenet121",
    "torchvision:shufflenet_v2_x0_5", "torchvision:squeezenet1_1", "torchvision:regnet_y_400mf", "timm:regnetx_002",
    "timm:vit_tiny_patch16_224", "torchvision:vit_b_32", "timm:deit_tiny_patch16_224", "timm:mixer_s32_224",
    "timm:swin_tiny_patch4_window7_224",
]  # fmt: skip


def make(name):
    library, _, model = name.partition(":")
    if library == "timm":
        timm = pytest.importorskip("timm")
        sized = {"img_size": 64} if model.split("_")[0] in ("vit", "deit", "mixer", "swin") else {}
        return timm.create_model(model, pretrained=False, num_classes=10, **sized)
    models = pytest.importorskip("torchvision").models
    return models.get_model(model, num_classes=10, **({"image_size": 64} if "vit" in model else {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_family_is_captured_cut_and_costed(name):
    torch.manual_seed(0)
    module, shape = make(name).eval(), (3, 64, 64)
    graph = capture(module, shape, classes=10)
    assert set(graph.state()) == set(module.state_dict())
    x = torch.randn(2, *shape)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            torch.testing.assert_close(graph(x), module(x), rtol=1e-5, atol=1e-5)
            points = cut_points(graph)
            assert len(points) >= 2
            assert points[-1].share > 0.6
            for cuts in ([point.name for point in points], choose_cuts(graph, "auto")):
                assert torch.equal(split(graph, cuts)(x), graph(x))
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                module(x[:1])
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert 2 * cost(graph.module, shape).macs == counter.get_total_flops()
