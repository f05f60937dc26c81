"""From a recipe to a backbone for each width: importance, controls, what is told, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from ebbtide.build.nesting import Variant
from ebbtide.build.project import Project
from ebbtide.build.universal import Universal, make_universal
from ebbtide.build.widths import Nesting, _control, backbones_of, check_widths
from ebbtide.errors import EbbtideError
from ebbtide.recipe import load_recipe
from ebbtide.saliency import Statistics
from ebbtide.steps import StepStore, silent

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.down(self.block(self.stem(x))).mean((2, 3)))


def net():
    torch.manual_seed(3)
    made = Net()
    # Batch norm has statistics, as in a network that was trained.
    for _ in range(40):
        made(torch.rand(64, 1, 6, 6) * 2 - 1)
    return made
"""


def project(folder: Path, **sections: Any) -> Project:
    (folder / "net.py").write_text(NET)
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    images = rng.integers(0, 60, (240, 6, 6), dtype=np.uint8)
    # The class shows in which quarter is bright.
    for index, label in enumerate(labels):
        row, column = 3 * (label // 2), 3 * (label % 2)
        images[index, row : row + 3, column : column + 3] += 120
    np.savez(folder / "data.npz", images=images, labels=labels)
    recipe = {"model": {"factory": "net.py:net", "trained": True}, "data": {"npz": "data.npz"}, **sections}
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    read = load_recipe(folder / "r.yaml")
    return Project(recipe=read, text="", store=StepStore(folder / "cache"), allow_code=True, progress=silent)


def made(folder: Path, **sections: Any) -> tuple[Universal, Any, Nesting]:
    universal = make_universal(project(folder, **sections))
    backbones, nesting, _ = backbones_of(universal, given=None)
    assert nesting is not None
    return universal, backbones, nesting


PLAIN: dict[str, Any] = {"levels": [0.5, 1.0], "multiple": 4, "batches": 2, "tuning": {"epochs": 0}}


def test_model_without_widths_is_one_backbone_with_the_universal_weights(tmp_path: Path) -> None:
    universal = make_universal(project(tmp_path))
    (backbone,), nesting, _ = backbones_of(universal, given=None)
    assert nesting is None
    assert backbone.width == "w100"
    assert backbone.is_widest
    assert backbone.graph is universal.graph
    assert backbone.weights_digest == universal.weights_digest
    assert backbone.model["macs"] == universal.model["macs"]


def test_every_width_is_a_backbone_of_its_own_the_widest_first(tmp_path: Path) -> None:
    universal, backbones, nesting = made(tmp_path, widths=PLAIN)
    assert [backbone.width for backbone in backbones] == ["w100", "w50"]
    wide, narrow = backbones
    assert narrow.model["macs"] <= 0.5 * wide.model["macs"]
    assert wide.model["macs"] == universal.model["macs"]
    assert wide.identity() != narrow.identity()
    levels = nesting.own.plan["levels"]
    assert [level["macs"] for level in levels] == [narrow.model["macs"], wide.model["macs"]]
    x = universal.dataset.select.tensor(np.arange(8))
    # Ordering leaves the function as it is; the universal model itself is not changed by it.
    assert torch.allclose(wide.graph(x), universal.graph(x), atol=1e-5)
    assert nesting.own.plan["untuned"]["w100"] == pytest.approx(nesting.universal)
    assert nesting.own.tuned == {}


def test_widths_are_tuned_and_scored_when_there_are_epochs(tmp_path: Path) -> None:
    widths = {**PLAIN, "controls": ["random"], "tuning": {"epochs": 2, "learning_rate": 0.05}}
    _, backbones, nesting = made(tmp_path, widths=widths)
    assert set(nesting.own.tuned) == {"w50", "w100"}
    assert nesting.own.tuned["w100"] > nesting.universal
    found = nesting.controls
    assert list(found) == ["uniform", "magnitude", "random"]
    random, uniform = found["random"], found["uniform"]
    assert not isinstance(random, str)
    assert not isinstance(uniform, str)
    assert set(random.tuned) == {"w50", "w100"}
    assert uniform.tuned == {}
    assert backbones[0].graph.training is False


def test_what_stays_whole_is_told_with_its_reason(tmp_path: Path) -> None:
    universal, _, _ = made(tmp_path, widths=PLAIN)
    told = [one for one in universal.project.notices if one.subject == "widths"]
    assert [one.text for one in told] == ["fc stay whole: the classifier's outputs are the classes"]


def test_levels_of_the_same_network_are_built_once_and_that_is_told(tmp_path: Path) -> None:
    widths = {**PLAIN, "levels": [0.5, 0.51, 1.0], "multiple": 8}
    universal, backbones, nesting = made(tmp_path, widths=widths)
    assert [backbone.width for backbone in backbones] == ["w100", "w51"]
    assert nesting.own.plan["same"] == ["w50"]
    assert [one for one in universal.project.notices if one.text.startswith("w50 is the same network")]


def test_control_that_meets_no_budget_gives_its_reason_and_other_errors_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = Variant("uniform", "importance", "uniform", tuned=False)
    for code, stays in (("nesting.infeasible", False), ("nesting.tuning", True)):

        def refuse(*_: Any, code: str = code) -> None:
            raise EbbtideError(code, "No widths", found="the floors cost 12 MACs")

        monkeypatch.setattr("ebbtide.build.widths.make_variant", refuse)
        if stays:
            with pytest.raises(EbbtideError, match="No widths"):
                _control(None, variant, None)  # type: ignore[arg-type]
        else:
            assert _control(None, variant, None) == "the floors cost 12 MACs"  # type: ignore[arg-type]


def test_importance_is_measured_on_all_classes_when_the_recipe_says_so(tmp_path: Path) -> None:
    found = {}
    for images in ("user", "all"):
        (tmp_path / images).mkdir()
        universal, _, _ = made(tmp_path / images, widths={**PLAIN, "images": images}, classes=[0, 3])
        (folder,) = (tmp_path / images / "cache" / "importance").glob("*/statistics.safetensors")
        found[images] = Statistics.load(folder)
        assert universal.classes == 2
    assert found["all"].samples > found["user"].samples
    assert found["all"].signed["fc.weight"].shape[0] == 4
    assert found["user"].signed["fc.weight"].shape[0] == 2


@pytest.mark.parametrize(
    ("widths", "code"),
    [
        ({"levels": [0.02, 1.0], "multiple": 8}, "nesting.infeasible"),
        ({"levels": [0.5, 1.0], "multiple": 16, "floor": 16}, "nesting.nothing_to_shrink"),
        ({"levels": [0.5, 1.0], "memory_limit_kib": 0.1}, "nesting.infeasible"),
    ],
)
def test_widths_are_refused_with_a_reason_when_nothing_meets_them(
    tmp_path: Path, widths: dict[str, Any], code: str
) -> None:
    made_project = project(tmp_path, widths=widths)
    universal = make_universal(made_project)
    for refuse in (
        lambda: check_widths(made_project, universal.facts),
        lambda: backbones_of(universal, given=None),
    ):
        with pytest.raises(EbbtideError) as caught:
            refuse()
        assert caught.value.code == code
        assert caught.value.found
    assert not list((tmp_path / "cache" / "widths").glob("*/*"))


def test_second_call_computes_nothing(tmp_path: Path) -> None:
    universal, _, _ = made(tmp_path, widths=PLAIN)
    before = len(universal.project.store.records)
    backbones_of(universal, given=None)
    again = universal.project.store.records[before:]
    assert again
    assert all(one.reused for one in again)
