"""What is nested in the model is nested in the files: a narrow program's constants are slices of the wide one's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ebbtide.lowering import ProgramSpec, lower
from ebbtide.lowering.constants import constants, kept_places, not_slices
from ebbtide.model import Graph, capture
from ebbtide.model.coupling import Coupling, coupling_groups, narrow

SHAPE = (3, 12, 12)


class Mixed(nn.Module):
    """Convolution, depthwise, squeeze and excite, a shortcut that pads channels, a flatten: all with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.depthwise, self.norm2 = nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.BatchNorm2d(16)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.conv3, self.norm3 = nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.hidden, self.norm4 = nn.Linear(16 * 36, 10), nn.BatchNorm1d(10)
        self.last = nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm0(self.stem(x)))
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.depthwise(y)))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = self.norm3(self.conv3(y))
        y = F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        return self.last(F.relu(self.norm4(self.hidden(y.flatten(1)))))


def program(graph: Graph, file: Path) -> Path:
    return lower(ProgramSpec(file.stem, [], {}, graph.module, {"head": 1.5}, SHAPE), file).file


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    model = Mixed()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.2, 2.0)
    return capture(model.eval(), SHAPE).eval()


@pytest.fixture(scope="module")
def coupling(graph: Graph) -> Coupling:
    return coupling_groups(graph)


@pytest.fixture(scope="module")
def wide(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program(graph, tmp_path_factory.mktemp("wide") / "wide.pte")


def half(coupling: Coupling) -> dict[str, int]:
    return {group.name: group.size - group.size // 2 for group in coupling.groups}


def test_constants_are_the_folded_weights_when_read_from_a_file(graph: Graph, wide: Path) -> None:
    state = graph.state()
    found = {c.place: c.values for c in constants(wide)}
    scale = state["norm0.weight"].double() / torch.sqrt(state["norm0.running_var"].double() + 1e-5)
    stem = (state["stem.weight"].double() * scale.reshape(-1, 1, 1, 1)).float()
    np.testing.assert_array_equal(found["xnnpack0/1"], stem.permute(0, 2, 3, 1).numpy())
    shapes = {values.shape for values in found.values()}
    assert {(16, 3, 3, 8), (1, 3, 3, 16), (10, 576), (5, 10)} <= shapes
    weights = sum(values.size for values in found.values() if values.ndim > 1 and values.size > 5)
    expected = sum(v.numel() for name, v in state.items() if name.endswith(".weight") and v.dim() > 1)
    assert weights == expected + 8, "and eight ones that take every second pixel for the shortcut"


def test_every_constant_is_a_slice_when_a_narrow_graph_is_lowered(
    graph: Graph, coupling: Coupling, wide: Path, tmp_path: Path
) -> None:
    assert len(coupling.groups) >= 4
    for name, widths in {"half": half(coupling), "one": {coupling.groups[0].name: 3}}.items():
        small = program(narrow(graph, coupling, widths), tmp_path / f"{name}.pte")
        assert small.stat().st_size < wide.stat().st_size
        assert not_slices(small, wide) == ()


def test_constants_are_named_when_a_width_has_batch_norms_of_its_own(
    graph: Graph, coupling: Coupling, wide: Path, tmp_path: Path
) -> None:
    small = narrow(graph, coupling, half(coupling))
    with torch.no_grad():
        small.state()["norm1.running_var"].mul_(1.01)
    strange = not_slices(program(small, tmp_path / "small.pte"), wide)
    shapes = {c.values.shape for c in constants(tmp_path / "small.pte") if f"{c.method}/{c.place}" in strange}
    assert len(strange) == 2, "a folded weight and its bias"
    assert len(shapes) == 2


def test_places_are_found_when_an_array_is_no_prefix() -> None:
    wide = np.random.default_rng(0).standard_normal((6, 5, 4)).astype(np.float32)
    rows, columns = np.array([1, 2, 5]), np.array([0, 3])
    found = kept_places(wide[np.ix_(rows, range(5), columns)], wide)
    assert found is not None
    assert [list(place) for place in found] == [[1, 2, 5], [0, 1, 2, 3, 4], [0, 3]]


def test_places_are_none_when_values_differ_in_a_bit_or_in_order() -> None:
    wide = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    near = wide[:4].copy()
    near[2, 3] = np.nextafter(near[2, 3], np.float32(9))
    assert kept_places(near, wide) is None
    assert kept_places(wide[[2, 1]], wide) is None
    assert kept_places(-np.zeros((1, 1), np.float32), np.zeros((2, 2), np.float32)) is None
    assert kept_places(np.zeros((7, 5), np.float32), wide) is None


def test_constants_refuse_when_the_file_is_no_program(tmp_path: Path, wide: Path) -> None:
    for name, content in (("text", b"not a program at all"), ("short", wide.read_bytes()[:3000])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            constants(tmp_path / name)
