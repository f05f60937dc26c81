"""The `widths` section: short forms, what follows from it, and everything that can be wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from ebbtide.errors import EbbtideError
from ebbtide.recipe import Recipe, WidthsSection, init_text, load_recipe
from ebbtide.recipe.schema import schema_text

SMALL = "model: {timm: resnet18}\ndata: {digits: true}\ntraining: {epochs: 3, batch_size: 64, label_smoothing: 0.1}\n"


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(SMALL + text, encoding="utf-8")
    return load_recipe(path, overrides=overrides)


def widths(folder: Path, text: str, *overrides: str) -> WidthsSection:
    found = load(folder, text, *overrides).widths
    assert found is not None
    return found


def problem(folder: Path, text: str) -> dict[str, str]:
    with pytest.raises(EbbtideError) as caught:
        load(folder, text)
    (found,) = caught.value.details["problems"]
    assert found["hint"]
    assert found["place"].endswith("r.yaml:4")
    assert isinstance(found, dict)
    return found


def test_recipe_has_no_widths_when_the_section_is_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, "").widths is None
    assert load(tmp_path, "widths: null").widths is None


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("widths: 4", (0.25, 0.5, 0.75, 1.0)),
        ("widths: 2", (0.5, 1.0)),
        ("widths: [0.3, 1]", (0.3, 1.0)),
        ("widths: {levels: [0.25, 0.5, 1.0]}", (0.25, 0.5, 1.0)),
        ("widths: {}", (0.25, 0.5, 0.75, 1.0)),
    ],
)
def test_shares_follow_from_every_form_when_it_is_valid(tmp_path: Path, text: str, shares: tuple[float, ...]) -> None:
    assert widths(tmp_path, text).shares == shares
    schema = json.loads(schema_text())
    jsonschema.validate(yaml.safe_load(SMALL + text), schema)


def test_short_form_is_opened_when_a_key_is_set_in_it(tmp_path: Path) -> None:
    found = widths(tmp_path, "widths: [0.5, 1.0]", "widths.norm=private", "widths.tuning.epochs=2")
    assert (found.shares, found.norm, found.tuning.epochs) == ((0.5, 1.0), "private", 2)


@pytest.mark.parametrize(
    ("text", "code", "key", "said"),
    [
        ("widths: [0.5, 0.25, 1.0]", "recipe.conflict", "widths.levels", "[0.25, 0.5, 1.0]"),
        ("widths: [1.0, 0.5]", "recipe.conflict", "widths.levels", "[0.5, 1.0]"),
        ("widths: [0.5, 0.5, 1.0]", "recipe.conflict", "widths.levels", "[0.5, 1.0]"),
        ("widths: [0.25, 0.5]", "recipe.conflict", "widths.levels", "[0.25, 0.5, 1.0]"),
        ("widths: [0.5, 1.5]", "recipe.value", "widths.levels", "at most 1"),
        ("widths: [25, 100]", "recipe.value", "widths.levels", "above 0 and at most 1"),
        ("widths: [0.0, 1.0]", "recipe.value", "widths.levels", "above 0"),
        ("widths: [-0.5, 1.0]", "recipe.value", "widths.levels", "above 0"),
        ("widths: [0.501, 0.504, 1.0]", "recipe.conflict", "widths.levels", "a percent apart"),
        ("widths: [0.004, 1.0]", "recipe.conflict", "widths.levels", "at least one percent"),
        ("widths: [1.0]", "recipe.value", "widths", "at least 2"),
        ("widths: 1", "recipe.value", "widths", "from 2 to 16"),
        ("widths: true", "recipe.value", "widths", "from 2 to 16"),
        ("widths: auto", "recipe.value", "widths", "a section with levels"),
        ("widths: {order: best}", "recipe.value", "widths.order", "importance"),
        ("widths: {searches: joint}", "recipe.unknown_key", "widths.searches", "search"),
        ("widths: {floor: 0}", "recipe.value", "widths.floor", "at least 1"),
        ("widths: {memory_limit_kib: 0}", "recipe.value", "widths.memory_limit_kib", "above 0"),
        ("widths: {controls: [uniform, uniform]}", "recipe.conflict", "widths.controls", "once"),
        ("widths: {controls: [best]}", "recipe.value", "widths.controls[0]", "uniform"),
        ("widths: {tuning: {epochs: 3, warmup_epochs: 3}}", "recipe.conflict", "widths.tuning.warmup_epochs", "3"),
        ("widths: {norm: private, tuning: {epochs: 0}}", "recipe.conflict", "widths.tuning.epochs", "at least 1"),
    ],
)
def test_widths_are_refused_with_place_and_remedy_when_wrong(
    tmp_path: Path, text: str, code: str, key: str, said: str
) -> None:
    found = problem(tmp_path, text)
    assert found["code"] == code
    assert found["key"] == key
    assert said in f"{found['expected']} {found['hint']} {found['message']}"


def test_importance_on_all_images_is_refused_when_the_model_is_trained_on_the_class_set(tmp_path: Path) -> None:
    found = problem(tmp_path, "widths: {images: all}\nclasses: [1, 2]")
    assert (found["code"], found["key"]) == ("recipe.conflict", "widths.images")
    assert widths(tmp_path, "widths: {images: all}").images == "all"


def test_tuning_takes_from_training_what_it_does_not_say_itself(tmp_path: Path) -> None:
    recipe = load(tmp_path, "widths: {tuning: {epochs: 7, optimizer: adamw}}\nseed: 5")
    found = recipe.tuning_settings
    assert (found.epochs, found.optimizer, found.learning_rate) == (7, "adamw", 0.005)
    assert (found.batch_size, found.label_smoothing, found.seed) == (64, 0.1, 5)
    assert recipe.training_settings.epochs == 3


def test_template_explains_widths_as_off_when_not_given(tmp_path: Path) -> None:
    text = init_text("n")
    lines = text.splitlines()
    start = lines.index("# widths:")
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("#"))
    lines[start:end] = [line.removeprefix("# ") for line in lines[start:end]]
    (tmp_path / "r.yaml").write_text("\n".join(lines), encoding="utf-8")
    assert load_recipe(tmp_path / "r.yaml").widths == WidthsSection()
