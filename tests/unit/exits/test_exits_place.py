from __future__ import annotations

import json

import pytest
import torch
from exits_samples import SHAPE, ClassTokens, lively, small_graph
from torch import nn

from ebbtide.exits import Classifier, Place, exit_places
from ebbtide.model import capture, choose_cuts


def test_places_follow_the_cuts_and_know_the_classifier() -> None:
    graph = small_graph()
    found = exit_places(graph, choose_cuts(graph, 4))
    assert [place.shape for place in found] == [(8, 16, 16), (16, 8, 8), (16, 8, 8), (32, 4, 4)]
    assert {place.channel_axis for place in found} == {1}
    assert {place.classes for place in found} == {3}
    assert found[0].classifier == Classifier(channels=32, places=16, pools=True, hidden=())
    assert Place.from_json(json.loads(json.dumps(found[0].to_json()))) == found[0]


class ChannelsLast(nn.Module):
    """Maps (H, W, C) whose three sizes are equal, so that no shape tells where the channels are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, 2)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()) for _ in range(3))
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = x + block(x)
        return self.fc(x.mean((1, 2)))


def test_channel_axis_is_found_where_no_shape_tells_it() -> None:
    graph = capture(ChannelsLast().eval(), SHAPE)
    found = exit_places(graph, choose_cuts(graph, 3))
    assert [(place.shape, place.channel_axis) for place in found] == [((8, 8, 8), 3)] * 3


def test_lead_tokens_are_those_that_do_not_follow_from_the_input() -> None:
    graph = capture(ClassTokens().eval(), SHAPE)
    found = exit_places(graph, choose_cuts(graph, 3))
    assert [(place.shape, place.channel_axis, place.lead_tokens) for place in found] == [((18, 12), 2, 2)] * 3


class Flattening(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(6 * 16, 20), nn.ReLU(), nn.Linear(20, 3),
        )  # fmt: skip


@pytest.mark.parametrize("stages", [1, 2])
def test_classifier_that_flattens_is_told_from_one_that_pools(stages: int) -> None:
    graph = capture(lively(Flattening()).eval(), SHAPE)
    found = exit_places(graph, choose_cuts(graph, stages))
    assert found[0].classifier == Classifier(channels=6, places=16, pools=False, hidden=(20,))
