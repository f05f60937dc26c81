"""Times of single layers, measured by the runtime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ebbtide.errors import EbbtideError
from ebbtide.profiling import Plan, layers
from ebbtide.profiling.layers import LayerGrid, LayerShape, LayerTimeTable, layer_latency_table

GRIDS = (
    LayerGrid(LayerShape("conv2d", (3, 3), 2, 1, (16, 16)), (3, 64), (16, 64)),
    LayerGrid(LayerShape("depthwise", (3, 3), 1, 1, (8, 8)), (), (8, 16)),
    LayerGrid(LayerShape("linear"), (32, 64), (10,)),
)
PLAN = Plan(warm_up=2, rounds=5, repeats=3)


def table(us: list[list[float]], *, inputs: list[int], outputs: list[int], op: str = "conv2d") -> LayerTimeTable:
    shape = LayerShape("linear") if op == "linear" else LayerShape(op, (3, 3), 1, 1, (8, 8))
    values = np.array(us)
    return LayerTimeTable(shape, np.array(inputs), np.array(outputs), values, np.zeros_like(values))


def test_table_holds_every_pair_and_is_not_measured_again_when_the_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "layers.json"
    with monkeypatch.context() as killed:
        measured = layers._measured

        def only_first(grid: LayerGrid, *rest: object) -> object:
            if grid is not GRIDS[0]:
                raise KeyboardInterrupt
            return measured(grid, *rest)

        killed.setattr(layers, "_measured", only_first)
        with pytest.raises(KeyboardInterrupt):
            layer_latency_table(GRIDS, file, plan=PLAN)
    first = json.loads(file.read_bytes())["layers"]
    found = layer_latency_table(GRIDS, file, plan=PLAN)
    assert list(found) == ["conv2d 3x3 s2 p1 16x16", "depthwise 3x3 s1 p1 8x8", "linear"]
    assert [one.us.shape for one in found.values()] == [(2, 2), (1, 2), (2, 1)]
    for one in found.values():
        assert (one.us >= 0).all()
        assert one.spread_us.shape == one.us.shape
    convolution = found["conv2d 3x3 s2 p1 16x16"]
    assert convolution.us[1, 1] > 2 * convolution.us[0, 0], "21 times the work takes longer"
    assert json.loads(file.read_bytes())["layers"]["conv2d 3x3 s2 p1 16x16"] == first["conv2d 3x3 s2 p1 16x16"]
    monkeypatch.setattr(layers, "_measured", None)
    again = layer_latency_table(GRIDS, file, plan=PLAN)
    assert all((again[key].us == found[key].us).all() for key in found)
    with pytest.raises(TypeError):
        layer_latency_table(GRIDS[2:], file, plan=Plan(warm_up=3, rounds=5, repeats=3))


def test_time_is_linear_between_and_proportional_beyond_when_channels_are_not_in_the_table() -> None:
    one = table([[10.0, 20.0], [30.0, 60.0]], inputs=[16, 32], outputs=[16, 64])
    assert one.at(16, 16) == 10
    assert one.at(24, 40) == pytest.approx((10 + 20 + 30 + 60) / 4)
    assert one.at(8, 8) == 10, "fewer channels than a block run no faster"
    assert one.at(64, 128) == pytest.approx(4 * 60)


def test_time_of_a_depthwise_layer_depends_on_outputs_alone_when_it_is_read() -> None:
    one = table([[4.0, 8.0]], inputs=[16], outputs=[16, 32], op="depthwise")
    assert one.at(1, 24) == one.at(24, 24) == 6


@pytest.mark.parametrize(
    "content",
    [b"{}", b"not json", b'{"format": 2, "layers": {}}', b'{"format": 1, "layers": {"linear": {"key": "a"}}}'],
)
def test_table_is_refused_when_the_file_is_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "layers.json").write_bytes(content)
    with pytest.raises(EbbtideError) as caught:
        layer_latency_table(GRIDS, tmp_path / "layers.json")
    assert caught.value.code == "profiling.record"
