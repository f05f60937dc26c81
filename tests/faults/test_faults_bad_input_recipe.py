"""A wrong recipe is refused before anything is made: code, line, way out, exit status 2."""

from __future__ import annotations

import pytest
import torch
from faults_command import Command


def test_check_names_line_and_nearest_key_when_a_recipe_key_is_unknown(ebb: Command) -> None:
    recipe = ebb.recipe("model: {factory: net.py:net}\ndata: {npz: data.npz}\ntraning: {epochs: 1}\n")
    found = ebb.refused(recipe, code="recipe.unknown_key")
    assert f"{recipe}:3" in found.place
    assert "traning" in found.place
    assert "training" in found.hint
    ebb.assert_no_steps()


def test_check_says_where_the_file_should_be_when_one_is_missing(ebb: Command) -> None:
    recipe = ebb.recipe(data={"npz": "dat.npz"})
    found = ebb.refused(recipe, code="recipe.missing_file")
    assert str(recipe) in found.place
    assert "data.npz" in found.hint
    ebb.assert_no_steps()


def test_check_says_so_when_the_recipe_itself_is_missing(ebb: Command) -> None:
    recipe = ebb.recipe().rename(ebb.folder / "other.yaml")
    found = ebb.refused(recipe.with_name("recipe.yaml"), code="recipe.missing_file")
    assert "recipe.yaml" in found.place


def test_build_is_refused_like_check_when_the_recipe_is_wrong(ebb: Command) -> None:
    ebb.refused(ebb.recipe(devices=[]), code="recipe.value", command="build")
    assert not ebb.output.exists()
    ebb.assert_no_steps()


def test_check_names_the_nearest_class_when_the_class_set_has_an_unknown_one(ebb: Command) -> None:
    ebb.data(names=["cat", "dog", "owl"])
    found = ebb.refused(ebb.recipe(classes=["cat", "dgo"]), code="data.class_unknown")
    assert "dgo" in found.text
    assert "dog" in found.hint
    assert "classes" in found.place


def test_check_is_refused_when_the_class_set_is_empty(ebb: Command) -> None:
    found = ebb.refused(ebb.recipe(classes=[]), code="recipe.value")
    assert "classes" in found.place
    ebb.assert_no_steps()


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"model": {"factory": "net.py:net"}}, "net.py:net"),
        ({"model": {"torchvision": "resnet18"}, "data": {"function": "net.py:net"}}, "net.py:net"),
        ({"model": {"exported": "net.pt2"}, "training": None}, "net.pt2"),
    ],
    ids=["factory", "function", "pt2"],
)
@pytest.mark.parametrize("command", ["check", "build"])
def test_no_code_refuses_whatever_runs_code(ebb: Command, command: str, sections: dict, named: str) -> None:
    touched = ebb.folder / "touched"
    ebb.net(f"\nopen({str(touched)!r}, 'w').close()\n")
    torch.save({}, ebb.folder / "net.pt2")
    found = ebb.refused(ebb.recipe(**sections), "--no-code", code="recipe.no_code", command=command)
    assert named in found.text
    assert "recipe.yaml:" in found.place
    assert "--no-code" in found.hint
    assert not touched.exists()
    assert not ebb.output.exists()
    ebb.assert_no_steps()


def test_no_code_lets_a_recipe_without_code_through(ebb: Command) -> None:
    recipe = ebb.recipe(
        model={"torchvision": "squeezenet1_1"}, data={"npz": "data.npz", "input": {"size": 32, "color": "RGB"}}
    )
    assert ebb.run("check", recipe, "--no-code").status == 0
