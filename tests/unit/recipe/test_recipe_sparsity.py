"""The `sparsity` section: what follows from it, and everything that can be wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebbtide.errors import EbbtideError
from ebbtide.recipe import Recipe, SparsitySection, init_text, load_recipe

SMALL = "model: {timm: resnet18}\ndata: {digits: true}\ntraining: {epochs: 3, label_smoothing: 0.1, momentum: 0.8}\n"


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(SMALL + text, encoding="utf-8")
    return load_recipe(path, overrides=overrides)


def section(folder: Path, text: str, *overrides: str) -> SparsitySection:
    found = load(folder, text, *overrides).sparsity
    assert found is not None
    return found


def test_unit_and_share_follow_from_the_target_when_it_is_given(tmp_path: Path) -> None:
    assert load(tmp_path, "").sparsity is None
    found = section(tmp_path, "sparsity: {pattern: hybrid, target: {ranks: 0.3}}")
    assert found.target is not None
    assert (found.unit, found.target.kept) == ("ranks", 0.3)
    assert section(tmp_path, "sparsity: {max_drop_points: 1.0}").unit == "macs"
    assert section(tmp_path, "sparsity: {pattern: hybrid, max_drop_points: 1.0}").unit == "weights"


def test_target_is_exchanged_for_a_limit_when_both_are_overridden(tmp_path: Path) -> None:
    text = "sparsity: {target: {macs: 0.2}}"
    found = section(tmp_path, text, "sparsity.target=null", "sparsity.max_drop_points=0.5")
    assert (found.target, found.max_drop_points) == (None, 0.5)


def test_learning_takes_what_is_left_out_from_training(tmp_path: Path) -> None:
    found = load(tmp_path, "sparsity: {max_drop_points: 1, tuning: {epochs: 7, learning_rate: null}}")
    settings = found.fine_tuning_settings
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (7, 64, 0.05)
    assert (settings.label_smoothing, settings.momentum) == (0.1, 0.8)
    assert load(tmp_path, "").fine_tuning_settings == load(tmp_path, "").training_settings


@pytest.mark.parametrize(
    ("text", "code", "key", "said"),
    [
        ("sparsity: {}", "recipe.missing_key", "sparsity.max_drop_points", "target"),
        ("sparsity: {max_drop_points: 1, target: {macs: 0.1}}", "recipe.conflict", "sparsity.target", "one of the two"),
        ("sparsity: {target: {}}", "recipe.missing_key", "sparsity.target.macs", "macs, weights or ranks"),
        (
            "sparsity: {pattern: hybrid, target: {macs: 0.1, weights: 0.1}}",
            "recipe.conflict",
            "sparsity.target.weights",
            "macs",
        ),
        ("sparsity: {target: {weights: 0.1}}", "recipe.conflict", "sparsity.target.weights", "macs"),
        ("sparsity: {target: {macs: 1.5}}", "recipe.value", "sparsity.target.macs", "at most 1"),
        ("sparsity: {target: {macs: 0.0}}", "recipe.value", "sparsity.target.macs", "above 0"),
        ("sparsity: {max_drop_points: -1}", "recipe.value", "sparsity.max_drop_points", "from 0"),
        ("sparsity: {max_drop_points: 1, pattern: blocks}", "recipe.value", "sparsity.pattern", "hybrid"),
        ("sparsity: {max_drop_points: 1, block: 6}", "recipe.conflict", "sparsity.block", "a multiple of 4"),
        ("sparsity: {max_drop_points: 1, n: 5}", "recipe.conflict", "sparsity.n", "at most 4"),
        ("sparsity: {max_drop_points: 1, budgets: [0.5, 0.1]}", "recipe.value", "sparsity.budgets", "[0.1, 0.5]"),
        (
            "sparsity: {max_drop_points: 1, schedule: {statistics: moving}}",
            "recipe.conflict",
            "sparsity.schedule.epochs_before",
            "at least 1",
        ),
        (
            "sparsity: {max_drop_points: 1, reference: universal, distillation: {teacher: tuned}}",
            "recipe.conflict",
            "sparsity.distillation.teacher",
            "universal or none",
        ),
        ("metric: macro_f1\nsparsity: {max_drop_points: 1}", "recipe.conflict", "sparsity.max_drop_points", "accuracy"),
        ("widths: {images: all}\nsparsity: {max_drop_points: 1}", "recipe.conflict", "widths.images", "user"),
        (
            "widths: {controls: [random]}\nsparsity: {pattern: hybrid, max_drop_points: 1}",
            "recipe.conflict",
            "widths.controls",
            "[]",
        ),
    ],
)
def test_section_is_refused_when_it_cannot_be_met(tmp_path: Path, text: str, code: str, key: str, said: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        load(tmp_path, text)
    (found,) = caught.value.details["problems"]
    assert (found["code"], found["key"]) == (code, key)
    assert said in f"{found['expected']} {found['hint']}"


def test_template_shows_the_section_as_off_and_loads_when_it_is_switched_on(tmp_path: Path) -> None:
    lines = init_text("mine").splitlines()
    start = lines.index("# sparsity:")
    end = next(index for index in range(start, len(lines)) if not lines[index].startswith("#"))
    lines[start:end] = [line.removeprefix("# ") for line in lines[start:end]]
    lines = [line.replace("# max_drop_points: 1.0", "max_drop_points: 1.0") for line in lines]
    path = tmp_path / "r.yaml"
    path.write_text("\n".join(lines))
    found = load_recipe(path).sparsity
    assert found == SparsitySection(max_drop_points=1.0)
