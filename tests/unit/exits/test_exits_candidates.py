"""From a backbone to exits, records and scores: what frozen training must leave alone, and what scores must equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from exits_samples import SHAPE, Trained, cache_of, samples, small_graph, train_all

from ebbtide.exits import (
    ExitKey,
    Place,
    Records,
    exit_logits,
    exit_macs,
    fit_temperature,
    possible_exits,
    record,
)
from ebbtide.model import cost, coupling_groups, narrow
from ebbtide.search import OFF, Costs, score


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_all(small_graph(), tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def recorded(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Records:
    select = cache_of(trained.staged, trained.places, trained.keys, samples(150, seed=1), tmp_path_factory.mktemp("s"))
    logits = exit_logits(trained.exits, select)
    return record(
        select.labels,
        logits,
        np.asarray(select.logits),
        temperatures={key: fit_temperature(values, select.labels) for key, values in logits.items()},
        head_temperature=fit_temperature(np.asarray(select.logits), select.labels),
        level="w100",
        precision="float32",
        split="select",
    )


@pytest.fixture(scope="module")
def costs(trained: Trained) -> Costs:
    staged = trained.staged
    parts = [cost(part, staged.inputs_of(i)).macs for i, part in enumerate([*staged.stages, staged.head])]
    macs = {key: exit_macs(module, trained.places[key.position]) for key, module in trained.exits.items()}
    return Costs(tuple(parts[:-1]), macs, parts[-1])


def test_one_exit_is_trained_for_each_position_and_type_that_fits(trained: Trained) -> None:
    kinds = ("conv-branch", "pool-linear", "pool-mlp", "pool-mlp-deep")
    assert trained.keys == tuple(ExitKey(p, kind) for p in range(3) for kind in kinds)
    assert tuple(trained.exits) == trained.keys
    assert len({id(module) for module in trained.exits.values()}) == len(trained.keys)


def test_types_that_cannot_stand_somewhere_are_left_out_with_the_reason() -> None:
    found = possible_exits({0: Place((9, 6), 2, 3, 1), 2: Place((6, 1, 1), 1, 3)}, ["token-pool", "pool-linear"])
    assert found.keys == (ExitKey(0, "pool-linear"), ExitKey(0, "token-pool"), ExitKey(2, "pool-linear"))
    assert "class token" in found.left_out[ExitKey(2, "token-pool")]


def test_backbone_is_bit_identical_with_exits_attached_and_gets_no_gradient(trained: Trained) -> None:
    fresh = small_graph()
    x = samples(50, seed=2).x
    with torch.no_grad():
        expected = fresh(x)
        value = x
        for position, stage in enumerate(trained.staged.stages):
            value = stage(value)
            for key in trained.keys:
                if key.position == position:
                    assert trained.exits[key](value).shape == (50, 3)
        assert torch.equal(trained.staged.head(value), expected)
        assert torch.equal(trained.graph(x), expected)
    assert all(parameter.grad is None for parameter in trained.graph.module.parameters())
    assert trained.graph.digest() == fresh.digest()


def test_weights_and_statistics_of_every_level_are_bit_identical_after_exit_training(tmp_path: Path) -> None:
    graph = small_graph()
    coupling = coupling_groups(graph)
    halves = {group.name: max(1, group.size // 2) for group in coupling.groups}
    levels = {"w50": narrow(graph, coupling, halves), "w100": graph}
    before = {name: level.digest() for name, level in levels.items()}
    for name, level in levels.items():
        made = train_all(level, tmp_path / name, stages=2)
        assert made.places[0].channels == made.staged.boundaries[0][0]
        assert {n: lv.digest() for n, lv in levels.items()} == before


def test_score_equals_running_the_model_sample_by_sample(trained: Trained, recorded: Records, costs: Costs) -> None:
    chosen = {key: _middle(recorded, key) for key in (ExitKey(0, "pool-mlp"), ExitKey(2, "conv-branch"))}
    thresholds = np.array([chosen.get(key, OFF) for key in recorded.keys], np.float32)
    found = score(recorded, costs, thresholds, metric="accuracy", classes=3)
    right = paid = 0.0
    data = samples(150, seed=1)
    temperatures = _temperatures(trained, data, recorded)
    for index in range(len(data)):
        value, label, spent = data.x[index : index + 1], int(data.labels[index]), 0.0
        answer: int | None = None
        with torch.no_grad():
            for position, stage in enumerate(trained.staged.stages):
                value = stage(value)
                spent += costs.stages[position]
                for key, threshold in chosen.items():
                    if key.position == position and answer is None:
                        logits = trained.exits[key](value)[0] / temperatures[key]
                        spent += exit_macs(trained.exits[key], trained.places[position])
                        best = int(logits.argmax())
                        others = torch.cat([logits[:best], logits[best + 1 :]])
                        if float(logits[best] - others.logsumexp(0)) > threshold:
                            answer = best
                if answer is not None:
                    break
            if answer is None:
                answer = int(trained.staged.head(value).argmax())
                spent += costs.head
        right += answer == label
        paid += spent
    assert 0.05 < found.shares[-1] < 0.95
    assert found.value == pytest.approx(right / len(data), abs=1e-9)
    assert found.mean_cost == pytest.approx(paid / len(data), rel=1e-9)


def _middle(recorded: Records, key: ExitKey) -> float:
    """A threshold in the widest gap of the middle third of an exit's confidences."""
    values = np.sort(recorded.confidences[recorded.keys.index(key)].astype(np.float64))[50:100]
    widest = int(np.diff(values).argmax())
    return float(np.float32((values[widest] + values[widest + 1]) / 2))


def _temperatures(trained: Trained, data: object, recorded: Records) -> dict[ExitKey, float]:
    x, labels = data.x, data.labels
    found = {}
    with torch.no_grad():
        for position, stage in enumerate(trained.staged.stages):
            x = stage(x)
            for key in trained.keys:
                if key.position == position:
                    found[key] = fit_temperature(trained.exits[key](x).numpy(), labels)
    return found


def test_all_off_is_the_model_itself(trained: Trained, recorded: Records, costs: Costs) -> None:
    found = score(recorded, costs, np.full(len(recorded.keys), OFF), metric="accuracy", classes=3)
    data = samples(150, seed=1)
    with torch.no_grad():
        alone = float((trained.graph(data.x).argmax(1).numpy() == data.labels).mean())
    assert found.value == alone
    assert found.mean_cost / cost(trained.graph.module, SHAPE).macs == 1.0


def test_everybody_leaving_first_is_that_exit_alone(trained: Trained, recorded: Records, costs: Costs) -> None:
    key = ExitKey(0, "conv-branch")
    # Log-odds of the best of three classes are at least -log 2.
    thresholds = np.where([one == key for one in recorded.keys], np.float32(-1.0), OFF).astype(np.float32)
    found = score(recorded, costs, thresholds, metric="accuracy", classes=3)
    data = samples(150, seed=1)
    with torch.no_grad():
        alone = trained.exits[key](trained.staged.stages[0](data.x)).argmax(1).numpy()
    assert found.value == float((alone == data.labels).mean())
    assert found.mean_cost == costs.stages[0] + exit_macs(trained.exits[key], trained.places[0])
