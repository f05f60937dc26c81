"""A small network cut into stages, samples it can learn, and exits trained on it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "model"))

from model_samples import ListSplit, SmallResNet, learnable, lively

from ebbtide.exits import (
    Exit,
    ExitKey,
    ExitSettings,
    FeatureCache,
    Place,
    cache_features,
    exit_places,
    exit_types,
    fit_exits,
    pools_of,
    possible_exits,
)
from ebbtide.model import Graph, StagedGraph, capture, choose_cuts, split

SHAPE = (3, 16, 16)
QUICK = ExitSettings(epochs=6, batch_size=64)


def small_graph() -> Graph:
    torch.manual_seed(0)
    return capture(lively(SmallResNet(3)).eval(), SHAPE)


def samples(count: int = 240, seed: int = 0) -> ListSplit:
    return learnable(count, shape=SHAPE, seed=seed)


@dataclass(frozen=True)
class Trained:
    """A graph with all its exits, trained on cached features."""

    graph: Graph
    cuts: tuple[str, ...]
    staged: StagedGraph
    places: dict[int, Place]
    keys: tuple[ExitKey, ...]
    cache: FeatureCache
    exits: dict[ExitKey, Exit]


def train_all(graph: Graph, folder: Path, *, settings: ExitSettings = QUICK, stages: int = 4) -> Trained:
    cuts = choose_cuts(graph, stages)
    staged = split(graph, cuts).eval()
    places = dict(enumerate(exit_places(graph, cuts)[:-1]))
    keys = possible_exits(places, exit_types()).keys
    cache = cache_of(staged, places, keys, samples(), folder)
    fitted = fit_exits(keys, places, cache, settings=settings)
    exits = {key: module.eval().requires_grad_(False) for key, (module, _) in fitted.items()}
    return Trained(graph, cuts, staged, places, keys, cache, exits)


def cache_of(
    staged: StagedGraph, places: dict[int, Place], keys: tuple[ExitKey, ...], split: ListSplit, folder: Path
) -> FeatureCache:
    folder.mkdir(exist_ok=True)
    cache_features(split, staged.stages, staged.head, pools=pools_of(keys, places), folder=folder, batch_size=100)
    return FeatureCache.load(folder)


class ClassTokens(nn.Module):
    """Patches, a class token and a register before them, two blocks that mix tokens, a head on the class token."""

    def __init__(self, width: int = 12, classes: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.register = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 20), nn.GELU(), nn.Linear(20, width)) for _ in range(3)
        )
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        lead = torch.cat([self.token, self.register], 1).expand(x.shape[0], -1, -1)
        x = torch.cat([lead, x], 1)
        for block in self.blocks:
            x = x + block(x)
        return self.fc(self.norm(x)[:, 0])
