"""From a recipe to a model for the class set: targets, the automatic budget, masks under widths, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from ebbtide.build.nesting import load_nested
from ebbtide.build.project import Project
from ebbtide.build.sparsity import Shrinking, check_levels, shrink_universal
from ebbtide.build.sparsity_packing import pack_model
from ebbtide.build.universal import Universal, make_universal
from ebbtide.build.widths import backbones_of
from ebbtide.errors import EbbtideError
from ebbtide.recipe import load_recipe
from ebbtide.sparsity.packed import unpack
from ebbtide.steps import StepStore, silent

NET = """
import torch
from torch import nn


def block(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def net():
    return nn.Sequential(
        block(1, 8, 1), block(8, 16, 2), block(16, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )
"""
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 32, "views": None}
SMALL: dict[str, Any] = {
    "pattern": "channels",
    "multiple": 4,
    "schedule": {"steps": 2, "epochs_between": 1, "batches": 2},
    "tuning": QUICK,
}
HYBRID: dict[str, Any] = {**SMALL, "pattern": "hybrid", "multiple": "auto", "block": 4, "n": 2, "m": 4}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests of the file: the universal model is trained once."""
    return tmp_path_factory.mktemp("cache")


def project(folder: Path, cache: Path, **sections: Any) -> Project:
    (folder / "net.py").write_text(NET)
    recipe = {
        "model": {"factory": "net.py:net"},
        "data": {"digits": True},
        "training": {"epochs": 2, "batch_size": 64, "device": "cpu"},
        "classes": [3, 5, 8],
        **sections,
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    read = load_recipe(folder / "r.yaml")
    return Project(recipe=read, text="", store=StepStore(cache), allow_code=True, progress=silent)


def shrunk(folder: Path, cache: Path, **sections: Any) -> tuple[Universal, Shrinking]:
    universal = make_universal(project(folder, cache, **sections))
    return universal, shrink_universal(universal)


def test_model_of_a_class_set_comes_from_one_that_was_trained_on_all_classes(tmp_path: Path, cache: Path) -> None:
    everything = make_universal(project(tmp_path, cache, classes="all"))
    section = {**SMALL, "target": {"macs": 0.5}}
    made = project(tmp_path, cache, sparsity=section)
    universal = make_universal(made)
    assert [step.reused for step in made.store.records if step.name == "model"] == [True]
    assert universal.classes == 3
    x = universal.dataset.select.tensor(np.arange(8))
    assert torch.allclose(universal.graph(x), everything.graph(x)[:, [3, 5, 8]], atol=1e-6)
    seen = set(everything.dataset.train.ids)
    assert not seen & {*universal.dataset.select.ids, *universal.dataset.test.ids}


def test_target_is_met_and_the_build_goes_on_with_the_smaller_model(tmp_path: Path, cache: Path) -> None:
    universal, found = shrunk(tmp_path, cache, sparsity={**SMALL, "target": {"macs": 0.3}, "reference": "universal"})
    assert found.tuned is None
    assert found.reference is found.untouched
    (trial,) = found.trials
    assert trial.facts["passes"] == 2
    assert trial.model["macs"] <= 0.3 * universal.model["macs"]
    small = found.small
    assert small.model["macs"] == trial.model["macs"]
    assert small.structure() != universal.structure()
    select = universal.dataset.select
    again = small.graph(select.tensor(np.arange(len(select)))).argmax(1).numpy() == select.labels
    assert np.array_equal(again, trial.right)
    # Widths are nested in what is left.
    made = project(
        tmp_path,
        cache,
        sparsity={**SMALL, "target": {"macs": 0.3}, "reference": "universal"},
        widths={"levels": [0.6, 1.0], "multiple": 4, "batches": 1, "tuning": {"epochs": 0}},
    )
    (wide, narrow), nesting, shrinking = backbones_of(make_universal(made), given=None)
    assert shrinking is not None
    assert nesting is not None
    assert wide.model["macs"] == trial.model["macs"]
    assert narrow.model["macs"] <= 0.6 * trial.model["macs"]


def test_teacher_answers_other_classes_beside_each_batch_where_the_recipe_asks(tmp_path: Path, cache: Path) -> None:
    section = {**SMALL, "target": {"macs": 0.3}, "reference": "universal"}
    asked = {**section, "distillation": {"others": 16, "others_samples": 70}}
    universal, found = shrunk(tmp_path, cache, sparsity=asked)
    transfer = universal.dataset.transfer
    assert transfer is not None
    assert len(transfer) == 70
    assert set(transfer.labels.tolist()) == {0, 1, 2, 4, 6, 7, 9}
    everything = make_universal(project(tmp_path, cache, classes="all"))
    assert set(transfer.ids) <= set(everything.dataset.train.ids)
    _, plain = shrunk(tmp_path, cache, sparsity=section)
    assert found.taken.inputs["transfer"] != plain.taken.inputs["transfer"]
    assert found.taken.weights.read_bytes() != plain.taken.weights.read_bytes()
    # A hybrid model's trainee learns by the same loss.
    _, masked = shrunk(tmp_path, cache, sparsity={**HYBRID, "target": {"weights": 0.4}, "reference": "universal"})
    _, beside = shrunk(
        tmp_path,
        cache,
        sparsity={**HYBRID, "target": {"weights": 0.4}, "reference": "universal", "distillation": {"others": 16}},
    )
    assert beside.taken.weights.read_bytes() != masked.taken.weights.read_bytes()


def test_budget_is_looked_for_against_the_model_fine_tuned_whole(tmp_path: Path, cache: Path) -> None:
    section = {
        **SMALL,
        "max_drop_points": 40.0,
        "budgets": [0.2, 0.5, 0.8],
        "tuning": {**QUICK, "epochs": 2},
        "distillation": {"teacher": "tuned"},
    }
    universal, found = shrunk(tmp_path, cache, sparsity=section)
    assert found.tuned is not None
    assert found.tuned.facts["passes"] == 3
    assert found.tuned.model["macs"] == universal.model["macs"]
    assert [trial.facts["budget"] for trial in found.trials] == [0.5, 0.2]
    starts = [trial.inputs["start"] for trial in found.trials]
    assert [start["budget"] for start in starts] == [0.8, 0.5]
    assert starts[1]["start"] == starts[0], "what is made on the way serves every trial"
    assert [start["epochs"] for start in starts] == [1, 1]
    assert [trial.facts["passes"] for trial in found.trials] == [3, 4]
    made = [step for step in universal.project.store.records if step.name == "personalised" and not step.reused]
    assert len(made) == 4
    assert found.taken.facts["budget"] == 0.2
    for trial, verdict in zip(found.trials, found.verdicts, strict=True):
        lost = int((found.tuned.right & ~trial.right).sum())
        assert verdict["drop"]["lost"] == lost
        assert verdict["within"] is (verdict["drop"]["bound_points"] <= 40.0)
    before = len(universal.project.store.records)
    again = shrink_universal(universal)
    assert again.chosen == found.chosen
    assert all(step.reused for step in universal.project.store.records[before:])


def test_masks_serve_every_width_and_hold_through_joint_tuning(tmp_path: Path, cache: Path) -> None:
    section = {**HYBRID, "target": {"weights": 0.3}, "reference": "universal"}
    widths = {"levels": [0.5, 1.0], "batches": 1, "tuning": {"epochs": 1, "batch_size": 32}}
    universal = make_universal(project(tmp_path, cache, sparsity=section, widths=widths))
    backbones, nesting, found = backbones_of(universal, given=None)
    assert found is not None
    assert nesting is not None
    masks = found.masks
    assert masks is not None
    assert [backbone.width for backbone in backbones] == ["w100", "w50"]
    nested = load_nested(found.small, nesting.own.folder)
    check_levels(found, nested)
    # Every edge of a width is one of the blocks.
    for level in nested.levels:
        assert all(width % 4 == 0 for width in level.widths.values())
    # Tuning did change the weights that count.
    before = found.small.graph.state()
    assert any(not torch.equal(before[name], t) for name, t in nested.graph.state().items())
    name = next(layer.name for layer in masks.masked if layer.carries == "blocks")
    keep = masks.weight_masks()[name]
    loosened = nested.graph.state()[name]
    loosened[~keep] = 1.0
    with pytest.raises(EbbtideError) as caught:
        check_levels(found, nested)
    assert caught.value.code == "sparsity.masks"


def test_masked_model_is_packed_beside_the_report_to_the_bit(tmp_path: Path, cache: Path) -> None:
    section = {**HYBRID, "target": {"weights": 0.25}, "reference": "universal"}
    universal = make_universal(project(tmp_path, cache, sparsity=section))
    (backbone,), _, found = backbones_of(universal, given=None)
    assert found is not None
    facts = pack_model(found, backbone, None, tmp_path)
    assert facts is not None
    read = unpack((tmp_path / facts["file"]).read_bytes())
    state = backbone.graph.state()
    assert set(read.state) == set(state)
    assert all(torch.equal(value, state[name]) for name, value in read.state.items())
    assert facts["sparsity"] >= 0.75
    assert facts["packed"] < facts["dense"]
    told = [notice.text for notice in universal.project.notices if notice.subject == "sparsity"]
    assert any("dense network" in text for text in told)
    assert any("reads the model's input" in text for text in told)


def test_class_set_of_all_classes_is_allowed_and_said(tmp_path: Path, cache: Path) -> None:
    section = {**SMALL, "target": {"macs": 0.5}, "reference": "universal"}
    universal, _ = shrunk(tmp_path, cache, sparsity=section, classes="all")
    assert any("all classes" in notice.text for notice in universal.project.notices)


@pytest.mark.parametrize(
    ("section", "code", "said"),
    [
        ({**SMALL, "target": {"macs": 0.0001}}, "pruning.floor", ""),
        ({**HYBRID, "target": {"weights": 0.01}}, "pruning.floor", "at least"),
        ({**HYBRID, "block": 64, "m": 64, "n": 1, "target": {"weights": 0.3}}, "sparsity.nothing_to_prune", ""),
        ({**SMALL, "max_drop_points": 1.0}, "sparsity.few_samples", "points or more"),
    ],
)
def test_what_nothing_meets_is_refused_before_anything_is_trained(
    tmp_path: Path, section: dict[str, Any], code: str, said: str
) -> None:
    from ebbtide.build.road import _refuse_early

    made = project(tmp_path, tmp_path / "cache", sparsity=section)
    with pytest.raises(EbbtideError) as caught:
        _refuse_early(made)
    assert caught.value.code == code
    assert said in str(caught.value.expected)
    assert not (tmp_path / "cache" / "model").exists()


def test_limit_that_no_budget_keeps_names_the_least_loss(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = {
        **SMALL,
        "max_drop_points": 4.0,
        "budgets": [0.02],
        "multiple": 1,
        "scores": "random",
        "reference": "tuned",
        "schedule": {"steps": 1, "batches": 1},
        "tuning": {"epochs": 0, "views": None},
    }
    with pytest.raises(EbbtideError) as caught:
        shrunk(tmp_path, cache, sparsity=section)
    assert caught.value.code == "sparsity.none_within"
    assert "the least loss was at 2 %" in str(caught.value.found)
