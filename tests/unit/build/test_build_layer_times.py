"""Measured times of layers in place of MACs: which kinds there are, what lies between, what is not timed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ebbtide.build import layer_times
from ebbtide.build.layer_times import LayerCosts, measure_layers, shape_of
from ebbtide.model import Graph
from ebbtide.model.capture import capture
from ebbtide.model.coupling import coupling_groups, macs_by_node
from ebbtide.nesting import Rules, choose_levels
from ebbtide.profiling.layers import LayerGrid, LayerTimeTable
from ebbtide.steps import silent


def network() -> Graph:
    torch.manual_seed(0)
    return capture(
        nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=2, dilation=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 5),
        ),
        (3, 12, 12),
    ).eval()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[LayerGrid]:
    """Times that grow with the outputs alone, as on a machine that does not care for inputs; the grids asked for."""
    asked: list[LayerGrid] = []

    def table(grids: Sequence[LayerGrid], file: Path, **_: Any) -> dict[str, LayerTimeTable]:
        asked.extend(grids)
        found = {}
        for grid in grids:
            inputs, outputs = np.array(grid.inputs), np.array(grid.outputs)
            us = np.ones((len(inputs), 1)) * outputs[None].astype(float)
            found[grid.shape.key] = LayerTimeTable(grid.shape, inputs, outputs, us, np.zeros_like(us))
        return found

    monkeypatch.setattr(layer_times, "layer_latency_table", table)
    return asked


def test_kinds_of_layers_are_told_apart_and_what_cannot_be_timed_has_none() -> None:
    graph = network()
    shapes = [shape_of(one) for one in macs_by_node(graph, coupling_groups(graph))]
    assert [shape and shape.op for shape in shapes] == ["conv2d", "depthwise", "conv2d", None, "linear"]
    assert [shape.kernel for shape in shapes[:3] if shape] == [(3, 3), (3, 3), (1, 1)]
    assert all(shape.size == (12, 12) for shape in shapes[:3] if shape)


def test_layers_are_timed_at_multiples_and_axes_that_stay_only_whole(timed: list[LayerGrid], tmp_path: Path) -> None:
    graph = network()
    measure_layers(macs_by_node(graph, coupling_groups(graph)), tmp_path / "t.json", multiple=8, progress=silent)
    by_op = {(grid.shape.op, grid.shape.kernel): (grid.inputs, grid.outputs) for grid in timed}
    assert by_op["conv2d", (3, 3)] == ((3,), (8, 16, 24, 32))
    assert by_op["depthwise", (3, 3)] == ((1,), (8, 16, 24, 32))
    assert by_op["conv2d", (1, 1)] == ((8, 16, 24, 32), (16, 32, 48, 64))
    assert by_op["linear", ()] == ((16, 32, 48, 64), (5,))


def test_costs_are_the_measured_times_and_survive_json(timed: list[LayerGrid], tmp_path: Path) -> None:
    graph = network()
    coupling = coupling_groups(graph)
    operators = macs_by_node(graph, coupling)
    costs = measure_layers(operators, tmp_path / "t.json", multiple=8, progress=silent)
    again = LayerCosts.from_json(costs.to_json(), operators)
    for found in (costs, again):
        times = [found.latency_us(o, o.outputs.at(coupling, {}), o.inputs.at(coupling, {})) for o in operators]
        assert times[:3] == [32, 32, 64]
        assert times[4] == 5
        # The dilated convolution is charged by its MACs at the rate of the others.
        assert times[3] == pytest.approx(costs.us_per_mac * operators[3].macs.at(coupling, {}))


def test_widths_are_searched_by_time_when_times_are_given(timed: list[LayerGrid], tmp_path: Path) -> None:
    graph = network()
    coupling = coupling_groups(graph)
    operators = macs_by_node(graph, coupling)
    costs = measure_layers(operators, tmp_path / "t.json", multiple=8, progress=silent)
    worth = {group.name: np.ones(group.size) for group in coupling.groups}

    def spent(widths: dict[str, int]) -> float:
        return sum(
            costs.latency_us(o, o.outputs.at(coupling, widths), o.inputs.at(coupling, widths)) for o in operators
        )

    by_time = choose_levels(graph, coupling, worth, [0.5, 1.0], rules=Rules(multiple=8, cost=costs)).levels[0]
    assert spent(by_time.widths) <= 0.5 * spent({}) + 1e-6
    assert by_time.name == "w50"


def test_network_without_a_layer_to_time_is_charged_by_its_macs(timed: list[LayerGrid], tmp_path: Path) -> None:
    graph = capture(
        nn.Sequential(
            nn.Conv1d(2, 8, 3), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3)
        ),
        (2, 16),
    ).eval()
    operators = [one for one in macs_by_node(graph, coupling_groups(graph)) if one.op != "linear"]
    costs = measure_layers(operators, tmp_path / "t.json", multiple=8, progress=silent)
    assert timed == []
    assert costs.latency_us(operators[0], 8, 2) == 8 * 14 * 2 * 3
