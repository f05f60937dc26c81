"""Heads and outside detection in a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebbtide.errors import EbbtideError
from ebbtide.recipe import OutsideSection, Recipe, init_text, load_recipe

BASE = "name: mine\nmodel: {timm: resnet18}\ndata: {digits: true}\ntraining: {}\nclasses: [1, 2]\n"


def loaded(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(BASE + text)
    return load_recipe(path, overrides=overrides)


def refused(folder: Path, text: str) -> EbbtideError:
    with pytest.raises(EbbtideError) as caught:
        loaded(folder, text)
    return caught.value


def test_head_is_restricted_and_nothing_outside_when_left_out(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "")
    assert (recipe.head, recipe.outside) == ("restricted", None)


@pytest.mark.parametrize("score", ["energy", "confidence"])
def test_score_alone_stands_for_the_section(tmp_path: Path, score: str) -> None:
    short, long = loaded(tmp_path, f"outside: {score}\n"), loaded(tmp_path, f"outside: {{score: {score}}}\n")
    assert short.outside == long.outside
    assert short.outside is not None
    assert (short.outside.score, short.outside.false_outside, short.outside.fallback) == (score, 0.05, None)


def test_short_form_is_opened_when_a_key_in_it_is_set(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "outside: confidence\n", "outside.false_outside=0.1", "outside.fallback=universal")
    assert recipe.outside == OutsideSection(score="confidence", false_outside=0.1, fallback="universal")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("outside: entropy\n", "recipe.value", "energy"),
        ("outside: true\n", "recipe.value", "outside"),
        ("outside: {false_outside: 5}\n", "recipe.value", "0.5"),
        ("outside: {fallback: '../other'}\n", "recipe.value", "fallback"),
        ("outside: {samples: 0}\n", "recipe.value", "samples"),
        ("outside: {fallback: mine}\n", "recipe.conflict", "instead of itself"),
        ("outside: {treshold: 1}\n", "recipe.unknown_key", "treshold"),
        ("head: full\noutside: energy\n", "recipe.conflict", "full head"),
        ("head: whole\n", "recipe.value", "restricted"),
    ],
)
def test_mistakes_are_refused_with_what_was_expected(tmp_path: Path, text: str, code: str, words: str) -> None:
    error = refused(tmp_path, text)
    assert error.code == code
    assert words in str(error)


def test_template_shows_the_section_as_off_and_loads_with_it_on(tmp_path: Path) -> None:
    text = init_text("mine")
    assert "# outside:\n" in text
    assert "\nhead: restricted" in text
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert load_recipe(path, overrides=["outside.score=energy"]).outside == OutsideSection()
