from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ebbtide.errors import EbbtideError
from ebbtide.exits import (
    Classifier,
    Exit,
    ExitSettings,
    Place,
    build_exit,
    fit_temperature,
    load_exit,
    save_exit,
    train_exit,
    train_exits,
)
from ebbtide.exits.training import _Group, _hold_out, _loss
from ebbtide.steps import silent

PLACE = Place((5, 8, 8), 1, 3, 0, Classifier(5, 16, pools=True, hidden=()))
QUICK = ExitSettings(epochs=5, batch_size=64)


def separable(count: int = 300, *, seed: int = 0, grid: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Features of three classes, far from zero and of different scales."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    means = np.random.default_rng(7).normal(0, 4.0, (3, 5))
    features = means[labels] + generator.normal(size=(count, 5))
    if grid:
        features = features[:, :, None, None] + generator.normal(size=(count, 5, 4, 4))
        return (features * 3 + 10).astype(np.float32), labels
    return (features * np.array([1, 10, 0.1, 1, 5]) + 20).astype(np.float32), labels


def accuracy(module: Exit, features: np.ndarray, labels: np.ndarray) -> float:
    with torch.no_grad():
        return float((module.classify(torch.from_numpy(features)).argmax(1).numpy() == labels).mean())


@pytest.mark.parametrize("kind", ["pool-linear", "pool-mlp", "pool-mlp-deep", "conv-branch"])
def test_exit_learns_from_features_as_they_are(kind: str) -> None:
    grid = kind == "conv-branch"
    module = build_exit(kind, PLACE)
    train_exit(module, *separable(grid=grid), settings=ExitSettings(epochs=12, batch_size=32))
    assert accuracy(module, *separable(seed=1, grid=grid)) > 0.85


def test_exit_is_the_same_for_the_same_seed_and_comes_back_from_its_file(tmp_path: Path) -> None:
    made = []
    for seed in (0, 0, 1):
        module = build_exit("pool-linear", PLACE)
        train_exit(module, *separable(), settings=ExitSettings(epochs=3, seed=seed))
        made.append(module)
    weights = [module.classify.weight for module in made]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    save_exit(made[0], tmp_path / "exit.safetensors")
    loaded = load_exit(build_exit("pool-linear", PLACE), tmp_path / "exit.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded.classify.bias, made[0].classify.bias)
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("kind", ["pool-mlp", "conv-branch"])
def test_exits_trained_together_are_those_trained_alone(kind: str) -> None:
    data = [separable(seed=seed, grid=kind == "conv-branch")[0] for seed in range(3)]
    labels = separable()[1]
    alone = [build_exit(kind, PLACE) for _ in data]
    kept = [train_exit(one, features, labels, settings=QUICK) for one, features in zip(alone, data, strict=True)]
    together = [build_exit(kind, PLACE) for _ in data]
    histories = train_exits(together, data, labels, settings=QUICK)
    for index, features in enumerate(data):
        with torch.no_grad():
            found, expected = (one[index].classify(torch.from_numpy(features)) for one in (together, alone))
        assert torch.allclose(found, expected, atol=2e-3)
        assert histories[index].epochs == kept[index].epochs


def test_channel_that_is_almost_always_off_gets_no_enormous_weight() -> None:
    features, labels = separable()
    features[:, 1] = 0.0
    features[3, 2:] = [1e-4, *features[3, 3:]]
    module = build_exit("pool-linear", PLACE)
    train_exit(module, features, labels, settings=QUICK)
    assert float(module.classify.weight.detach().abs().max()) < 10
    constant = build_exit("pool-linear", PLACE)
    train_exit(constant, np.ones_like(features), labels, settings=QUICK)
    assert all(bool(parameter.isfinite().all()) for parameter in constant.parameters())


def test_every_exit_gets_the_gradient_of_its_own_loss_and_of_no_other() -> None:
    features, labels = separable(120)
    other = np.random.default_rng(3).normal(size=features.shape).astype(np.float32)
    rows, y = torch.arange(120), torch.from_numpy(labels)
    gradients = {}
    for name, data in (("both", [features, other]), ("first", [features]), ("second", [other])):
        exits = [build_exit("pool-mlp", PLACE) for _ in data]
        group = _Group(exits, data, rows)
        parameters = group.begin(0)
        (_loss(group.logits(rows), y, None, QUICK) * len(data)).backward()
        gradients[name] = {key: tensor.grad for key, tensor in parameters.items()}
    for key, both in gradients["both"].items():
        assert torch.allclose(both[0], gradients["first"][key][0], atol=1e-6)
        assert torch.allclose(both[1], gradients["second"][key][0], atol=1e-6)
        assert (both.flatten(1).abs().sum(1) > 0).all()


class Counting:
    """A progress that counts epochs."""

    count = 0

    def say(self, text: str) -> None: ...

    def task(self, label: str, total: float | None = None) -> Counting:
        return self

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self, count: float = 1, **facts: object) -> None:
        self.count += 1


def test_training_stops_when_held_out_samples_do_not_get_better_and_keeps_the_best_epoch() -> None:
    features, _ = separable(400)
    labels = np.random.default_rng(0).integers(0, 3, 400)
    settings = ExitSettings(epochs=60, batch_size=16, held_out=0.25, patience=4)
    module, counting = build_exit("pool-mlp", PLACE), Counting()
    history = train_exit(module, features, labels, settings=settings, progress=counting)
    # There is nothing to learn, so what is learned is wrong on other samples.
    assert counting.count == history.epochs + 4 < 60
    _, held_out = _hold_out(400, 1, settings)
    assert len(held_out) == 100
    with torch.no_grad():
        found = F.cross_entropy(
            module.classify(torch.from_numpy(features)[held_out]), torch.from_numpy(labels)[held_out]
        )
    assert float(found) == pytest.approx(history.held_out_loss, abs=1e-4)
    last = train_exit(build_exit("pool-mlp", PLACE), features, labels, settings=ExitSettings(epochs=60, held_out=0.0))
    assert (last.epochs, last.held_out_loss) == (60, None)


def test_all_passes_of_a_sample_are_held_out_together() -> None:
    learning, held_out = _hold_out(90, 3, ExitSettings(held_out=0.2))
    assert sorted([*learning.tolist(), *held_out.tolist()]) == list(range(90))
    assert len(held_out) == 18
    assert not {row % 30 for row in learning.tolist()} & {row % 30 for row in held_out.tolist()}


def test_exit_agrees_with_the_head_where_it_learns_from_it() -> None:
    features, _ = separable(600)
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 3, 600)
    standard = (features - features.mean(0)) / features.std(0)
    head = (standard @ generator.normal(0, 2, (5, 3))).astype(np.float32)
    agreement = {}
    for weight in (0.0, 1.0):
        module = build_exit("pool-linear", PLACE)
        settings = ExitSettings(epochs=25, batch_size=32, kl_weight=weight)
        train_exit(module, features, labels, settings=settings, head_logits=head)
        agreement[weight] = accuracy(module, features, head.argmax(1))
    assert agreement[1.0] > 0.9
    assert agreement[0.0] < 0.7


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (ExitSettings(kl_weight=0.5), "exits.settings"),
        (ExitSettings(held_out=1.0), "exits.settings"),
        (ExitSettings(kl_weight=1.5), "exits.settings"),
        (ExitSettings(kl_temperature=0.0), "exits.settings"),
        (ExitSettings(), "exits.features"),
    ],
)
def test_training_refuses_what_it_cannot_use(wrong: ExitSettings, code: str) -> None:
    features, labels = separable(20)
    features[0, 1] = np.nan
    with pytest.raises(EbbtideError) as caught:
        train_exit(build_exit("pool-linear", PLACE), features, labels, settings=wrong, progress=silent)
    assert caught.value.code == code


def test_fit_temperature_recovers_the_scale_of_honest_logits() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (20_000, 5))
    odds = np.exp(logits - logits.max(1, keepdims=True))
    chances = odds / odds.sum(1, keepdims=True)
    labels = (chances.cumsum(1) > generator.random((len(chances), 1))).argmax(1)
    assert fit_temperature((logits * 3.0).astype(np.float32), labels) == pytest.approx(3.0, rel=0.03)
    # All right: the loss falls until it underflows, far below 1.
    assert 0.05 <= fit_temperature(np.eye(5, dtype=np.float32)[labels] * 10, labels) < 0.3
