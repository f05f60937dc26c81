from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.exits import (
    ExitSettings,
    FeatureCache,
    Records,
    cache_features,
    confidences,
    exit_type,
    exit_types,
    fit_temperature,
    load_exit,
    record,
    save_exit,
    train_exit,
)


class Samples:
    """Three classes that a mean over pixels tells apart, served like a split."""

    def __init__(self, count: int = 300) -> None:
        generator = torch.Generator().manual_seed(1)
        self.labels = (np.arange(count) % 3).astype(np.int64)
        noise = torch.randn(count, 2, 4, 4, generator=generator)
        self.inputs = noise + torch.from_numpy(self.labels).view(-1, 1, 1, 1) * torch.tensor([1.0, -2.0]).view(
            1, 2, 1, 1
        )

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int):
        labels = torch.from_numpy(self.labels)
        yield from zip(self.inputs.split(size), labels.split(size), strict=True)


def backbone() -> tuple[list[nn.Module], nn.Module]:
    torch.manual_seed(0)
    stages = [
        nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU()),
        nn.Sequential(nn.Conv2d(5, 7, 1), nn.ReLU()),
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 3))
    return [stage.eval() for stage in stages], head.eval()


@pytest.fixture
def cached(tmp_path: Path) -> FeatureCache:
    stages, head = backbone()
    pools = {p: exit_type("pool-linear").build(n, 3, channel_axis=1).pool for p, n in ((0, 5), (1, 7))}
    cache_features(Samples(), stages, head, pools=pools, folder=tmp_path, batch_size=64)
    return FeatureCache.load(tmp_path)


def test_cache_features_equals_the_backbone_when_batches_are_ragged(cached: FeatureCache) -> None:
    stages, head = backbone()
    with torch.no_grad():
        first = stages[0](Samples().inputs)
        second = stages[1](first)
        assert np.allclose(cached.pooled[0], first.mean((2, 3)).numpy(), atol=1e-6)
        assert np.allclose(cached.pooled[1], second.mean((2, 3)).numpy(), atol=1e-6)
        assert np.allclose(cached.logits, head(second).numpy(), atol=1e-6)
    assert cached.labels.tolist() == Samples().labels.tolist()


def test_cache_features_moves_no_weight_and_no_statistic(tmp_path: Path) -> None:
    stages, head = backbone()
    before = {k: v.clone() for k, v in nn.ModuleList([*stages, head]).state_dict().items()}
    cache_features(Samples(), stages, head, pools={}, folder=tmp_path)
    after = nn.ModuleList([*stages, head]).state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in nn.ModuleList([*stages, head]).parameters())


def test_train_exit_learns_and_is_reproducible(cached: FeatureCache, tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        module = exit_type("pool-linear").build(5, 3, channel_axis=1)
        train_exit(module, cached.pooled[0], cached.labels, settings=ExitSettings(epochs=20, batch_size=64))
        made.append(module)
    assert torch.equal(made[0].classify.weight, made[1].classify.weight)
    logits = made[0].classify(torch.from_numpy(np.array(cached.pooled[0])))
    assert (logits.argmax(1).numpy() == cached.labels).mean() > 0.9
    save_exit(made[0], tmp_path / "exit.safetensors")
    loaded = load_exit(exit_type("pool-linear").build(5, 3, channel_axis=1), tmp_path / "exit.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded.classify.bias, made[0].classify.bias)
    assert not any(p.requires_grad for p in loaded.parameters())


def test_train_exit_refuses_features_that_are_not_finite() -> None:
    module = exit_type("pool-linear").build(2, 2, channel_axis=1)
    features = np.array([[1.0, np.nan], [0.0, 1.0]], dtype=np.float32)
    with pytest.raises(EbbtideError) as caught:
        train_exit(module, features, np.array([0, 1]), settings=ExitSettings(epochs=1))
    assert caught.value.code == "exits.features"


@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 6, 4, 4), 1), ((2, 4, 4, 6), 3), ((2, 9, 6), 2), ((2, 6, 9), 1), ((2, 6), 1)]
)
def test_pool_linear_means_over_all_but_channels(shape: tuple[int, ...], axis: int) -> None:
    module = exit_type("pool-linear").build(6, 3, channel_axis=axis)
    value = torch.randn(shape)
    others = [a for a in range(1, len(shape)) if a != axis]
    expected = value.mean(others) if others else value
    assert torch.allclose(module.pool(value), expected, atol=1e-6)
    assert module(value).shape == (2, 3)


def test_exit_type_names_the_nearest_when_unknown() -> None:
    assert "pool-linear" in exit_types()
    with pytest.raises(EbbtideError, match="pool-linear") as caught:
        exit_type("pool-liner")
    assert caught.value.code == "exits.unknown_type"


def test_fit_temperature_recovers_the_scale_of_honest_logits() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (20_000, 5))
    odds = np.exp(logits - logits.max(1, keepdims=True))
    chances = odds / odds.sum(1, keepdims=True)
    labels = (chances.cumsum(1) > generator.random((len(chances), 1))).argmax(1)
    assert fit_temperature((logits * 3.0).astype(np.float32), labels) == pytest.approx(3.0, rel=0.03)
    # All right: the loss falls until it underflows, far below 1.
    assert 0.05 <= fit_temperature(np.eye(5, dtype=np.float32)[labels] * 10, labels) < 0.3


def test_confidences_do_not_saturate_and_rank_like_probabilities() -> None:
    best, values = confidences(np.array([[100.0, 0.0, 1.0], [40.0, 0.0, 1.0], [1.0, 1.0, 0.0]], np.float32), 1.0)
    assert best.tolist() == [0, 0, 0]
    assert values[0] > values[1] > values[2]
    assert values[0] == pytest.approx(100 - np.log(np.e + 1), rel=1e-6)
    probability = np.e / (2 * np.e + 1)
    assert values[2] == pytest.approx(np.log(probability / (1 - probability)), rel=1e-6)


def test_records_round_trip_and_select_rows(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    made = record(
        np.array([0, 1, 2]),
        {3: generator.normal(size=(3, 3)).astype(np.float32), 1: generator.normal(size=(3, 3)).astype(np.float32)},
        generator.normal(size=(3, 3)).astype(np.float32),
        temperatures={"exit1": 1.0, "exit3": 2.0, "head": 0.5},
    )
    assert made.positions == (1, 3)
    made.save(tmp_path / "r.npz")
    loaded = Records.load(tmp_path / "r.npz")
    assert np.array_equal(loaded.confidences, made.confidences)
    assert loaded.only([3]).confidences.shape == (2, 3)
    assert np.array_equal(loaded.only([3]).confidences[1], made.confidences[2])
    assert len(loaded.first(2)) == 2
