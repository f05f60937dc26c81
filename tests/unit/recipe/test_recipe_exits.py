"""Early exits, and halves of the test samples, in a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebbtide.errors import EbbtideError
from ebbtide.recipe import Recipe, load_recipe

BASE = "name: mine\nmodel: {timm: resnet18}\ndata: {digits: true}\ntraining: {epochs: 4, learning_rate: 0.2}\n"


def loaded(folder: Path, text: str, base: str = BASE) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(base + text)
    return load_recipe(path)


def test_auto_is_the_section_with_its_defaults(tmp_path: Path) -> None:
    short, long = loaded(tmp_path, "exits: auto\n"), loaded(tmp_path, "exits: {}\n")
    assert short.exits == long.exits
    assert short.exits is not None
    assert (short.exits.types, short.exits.train, short.exits.constraint) == ("auto", "frozen", None)


def test_joint_training_goes_on_from_what_training_says(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "exits: {train: joint, joint: {epochs: 2}}\n")
    settings = recipe.joint_settings
    assert (settings.epochs, settings.learning_rate) == (2, 0.2)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("exits: {types: [pool-lineal]}\n", "recipe.value", "pool-linear"),
        ("exits: {types: [pool-mlp, pool-mlp]}\n", "recipe.conflict", "twice"),
        ("exits: {type: pool-linear}\n", "recipe.unknown_key", "types"),
        ("exits: {search: {trade_offs: [0.5, 1.5]}}\n", "recipe.value", "1"),
        ("exits: {search: {trade_offs: [-0.1]}}\n", "recipe.value", "0"),
        ("exits: {search: {folds: 1}}\n", "recipe.conflict", "folds: 5"),
        ("exits: {search: {quantile: 0}}\n", "recipe.value", "above 0"),
        ("exits: {constraint: {max_drop_points: 101}}\n", "recipe.value", "100"),
        ("exits: {constraint: {max_latency_us: 0}}\n", "recipe.value", "above 0"),
        ("exits: {passes: 3}\n", "recipe.conflict", "augmentation"),
        ("exits: {train: joint}\nwidths: 2\n", "recipe.conflict", "frozen"),
        ("exits: {train: joint, joint: {epochs: 0}}\n", "recipe.conflict", "epoch"),
    ],
)
def test_mistakes_are_refused_with_what_was_expected(tmp_path: Path, text: str, code: str, words: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        loaded(tmp_path, text)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_halves_are_for_weights_that_were_trained_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"")
    weights = BASE.replace("{timm: resnet18}", "{timm: resnet18, weights: w.safetensors}")
    halves = "data: {digits: true, split: test-halves}"
    recipe = loaded(tmp_path, "", weights.replace("data: {digits: true}", halves))
    assert (recipe.data.split.protocol, recipe.data.split.choose_on) == ("test-halves", "first")
    with pytest.raises(EbbtideError) as caught:
        loaded(tmp_path, "", BASE.replace("data: {digits: true}", halves))
    assert caught.value.code == "recipe.conflict"
