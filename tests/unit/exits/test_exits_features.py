from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from exits_samples import SHAPE, ListSplit, small_graph
from torch import nn

from ebbtide.data import Augmentation, InputSpec, Split
from ebbtide.exits import FeatureCache, cache_features, exit_places, pools_of, possible_exits
from ebbtide.exits.pools import MeanPool
from ebbtide.model import choose_cuts, split


class Samples:
    """Random images, served like a split."""

    def __init__(self, count: int = 150) -> None:
        self.labels = (np.arange(count) % 3).astype(np.int64)
        self.inputs = torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, *, augmentation: Augmentation | None = None):
        labels = torch.from_numpy(self.labels)
        shift = 0.0 if augmentation is None else augmentation.seed % 1000 / 1000
        yield from zip((self.inputs + shift).split(size), labels.split(size), strict=True)


def backbone() -> tuple[list[nn.Module], nn.Module]:
    torch.manual_seed(0)
    stages = [
        nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU()),
        nn.Sequential(nn.Conv2d(5, 7, 1), nn.ReLU()),
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 3))
    return [stage.eval() for stage in stages], head.eval()


POOLS = {0: [MeanPool(5, 1)], 1: [MeanPool(7, 1)]}


def test_cache_equals_the_backbone_when_batches_are_ragged(tmp_path: Path) -> None:
    stages, head = backbone()
    cache_features(Samples(), stages, head, pools=POOLS, folder=tmp_path, batch_size=64)
    cached = FeatureCache.load(tmp_path)
    with torch.no_grad():
        first = stages[0](Samples().inputs)
        second = stages[1](first)
        assert np.allclose(cached.pooled[0, "mean"], first.mean((2, 3)).numpy(), atol=1e-6)
        assert np.allclose(cached.pooled[1, "mean"], second.mean((2, 3)).numpy(), atol=1e-6)
        assert np.allclose(cached.logits, head(second).numpy(), atol=1e-6)
    assert cached.labels.tolist() == Samples().labels.tolist()


def test_cache_moves_no_weight_and_no_statistic(tmp_path: Path) -> None:
    stages, head = backbone()
    before = {k: v.clone() for k, v in nn.ModuleList([*stages, head]).state_dict().items()}
    cache_features(Samples(), stages, head, pools={}, folder=tmp_path)
    after = nn.ModuleList([*stages, head]).state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in nn.ModuleList([*stages, head]).parameters())


def test_one_pass_serves_every_pooling_of_a_position_and_each_is_kept_once(tmp_path: Path) -> None:
    graph = small_graph()
    cuts = choose_cuts(graph, 3)
    staged, places = split(graph, cuts), dict(enumerate(exit_places(graph, cuts)[:-1]))
    keys = possible_exits(places, ["pool-linear", "pool-mlp", "conv-branch"]).keys
    pools = pools_of(keys, places)
    assert [[pool.name for pool in pools[p]] for p in sorted(pools)] == [["grid4", "mean"], ["grid2", "mean"]]
    x = torch.randn(40, *SHAPE)
    data = ListSplit(x, np.zeros(40, np.int64), tuple(map(str, range(40))))
    runs = []
    staged.stages[0].register_forward_hook(lambda *_: runs.append(1))
    cache_features(data, staged.stages, staged.head, pools=pools, folder=tmp_path, batch_size=40)
    assert len(runs) == 1
    found = FeatureCache.load(tmp_path).pooled
    assert {at: values.shape for at, values in found.items()} == {
        (0, "mean"): (40, 8),
        (0, "grid4"): (40, 8, 4, 4),
        (1, "mean"): (40, 16),
        (1, "grid2"): (40, 16, 4, 4),
    }
    # Windows that fill the map have the map's mean.
    assert np.allclose(found[0, "grid4"].mean((2, 3)), found[0, "mean"], atol=1e-5)


def test_half_precision_keeps_three_digits(tmp_path: Path) -> None:
    stages, head = backbone()
    for half in (False, True):
        (tmp_path / str(half)).mkdir()
        cache_features(Samples(), stages, head, pools=POOLS, folder=tmp_path / str(half), half=half)
    whole, small = (FeatureCache.load(tmp_path / str(half)) for half in (False, True))
    assert small.pooled[0, "mean"].dtype == np.float16
    assert np.allclose(small.pooled[0, "mean"], whole.pooled[0, "mean"], rtol=2**-10, atol=1e-6)
    assert np.array_equal(small.logits, whole.logits)


def test_passes_change_the_images_anew_and_repeat_for_the_same_seed(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    spec = InputSpec("image", SHAPE, "RGB", (1 / 64,) * 3, (-2.0,) * 3, None, None)
    pixels = generator.integers(0, 256, (30, 16, 16, 3)).astype(np.uint8)
    ids = tuple(map(str, range(30)))
    data = Split("train", ids, np.arange(30) % 3, pixels, spec)
    graph = small_graph()
    staged = split(graph, choose_cuts(graph, 2))
    made = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        augmentation = Augmentation(crop_padding=2, flip=True, seed=5)
        cache_features(data, staged.stages, staged.head, pools={}, folder=folder, passes=3, augmentation=augmentation)
        made.append(FeatureCache.load(folder))
    once = made[0]
    assert once.passes == 3
    assert once.labels.tolist() == [*(np.arange(30) % 3)] * 3
    first, second, third = np.split(np.array(once.logits), 3)
    assert not np.allclose(first, second, atol=1e-3)
    assert not np.allclose(second, third, atol=1e-3)
    assert np.array_equal(made[0].logits, made[1].logits)
    with pytest.raises(ValueError, match="augmentation"):
        cache_features(data, staged.stages, staged.head, pools={}, folder=tmp_path, passes=2)
