"""Where a build's recipe lies, and what `ebb personalise` makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ebbtide.api.personalise import Request, name_for, parse_classes, personalise, recipe_of, wanted
from ebbtide.build.origin import write_origin
from ebbtide.build.project import Project
from ebbtide.errors import EbbtideError
from ebbtide.recipe import Recipe, load_recipe
from ebbtide.steps import StepStore, silent

SMALL = "model: {timm: resnet18}\ndata: {digits: true}\ntraining: {}\n"


def recipe(folder: Path, text: str = "") -> Path:
    path = folder / "r.yaml"
    path.write_text(SMALL + text)
    return path


def built(folder: Path, overrides: tuple[str, ...] = ("seed=3",)) -> Path:
    """As much of a build's output as others are made from."""
    path, output = recipe(folder), folder / "out"
    (output / "bundles" / "host").mkdir(parents=True)
    (output / "report.json").write_text("{}")
    text = path.read_text() + "".join(f"# --set {one}\n" for one in overrides)
    read = load_recipe(path, overrides=overrides)
    store = StepStore(folder / "cache")
    write_origin(Project(read, text, store, True, silent, path, overrides), output)
    return output


def test_recipe_is_found_from_its_build_and_from_a_bundle_in_it(tmp_path: Path) -> None:
    output = built(tmp_path)
    for source in (output, output / "bundles" / "host"):
        assert recipe_of(source) == ((tmp_path / "r.yaml").resolve(), ["seed=3"])
    assert recipe_of(tmp_path / "r.yaml") == (tmp_path / "r.yaml", [])


def test_build_is_refused_when_its_recipe_changed_or_is_gone(tmp_path: Path) -> None:
    output = built(tmp_path)
    recipe(tmp_path, "seed: 9\n")
    for gone in (None, tmp_path / "r.yaml", output / "origin.json"):
        if gone is not None:
            gone.unlink()
        with pytest.raises(EbbtideError) as caught:
            recipe_of(output / "bundles" / "host")
        assert caught.value.code == "api.changed"


def test_recipe_of_a_class_set_alone_has_no_universal_model(tmp_path: Path) -> None:
    with pytest.raises(EbbtideError) as caught:
        personalise(recipe(tmp_path, "classes: [1, 2, 3]\n"), [1, 2])
    assert caught.value.code == "api.class_set"


def plain(**sections: object) -> Recipe:
    return Recipe.model_validate({"model": {"timm": "a"}, "data": {"digits": True}, "training": {}, **sections})


@pytest.mark.parametrize(
    ("sections", "request_", "said", "quick"),
    [
        ({}, Request(), ["sparsity.target=null", "sparsity.max_drop_points=1.0"], False),
        ({}, Request(macs=0.2), ["sparsity.max_drop_points=null", "sparsity.target={macs: 0.2}"], False),
        ({"sparsity": {"max_drop_points": 2.0}}, Request(), [], False),
        ({"sparsity": {"target": {"macs": 0.2}}}, Request(quick=True), [], True),
        (
            {"sparsity": {"target": {"macs": 0.2}}},
            Request(max_drop_points=0.5),
            ["sparsity.target=null", "sparsity.max_drop_points=0.5"],
            False,
        ),
        ({}, Request(quick=True), ["sparsity.max_drop_points=null", "sparsity.target={macs: 0.5}"], True),
        (
            {},
            Request(quick=True, pattern="hybrid"),
            ["sparsity.pattern=hybrid", "sparsity.max_drop_points=null", "sparsity.target={weights: 0.4}"],
            True,
        ),
    ],
)
def test_overrides_say_what_is_asked_for_and_load(
    tmp_path: Path, sections: dict[str, object], request_: Request, said: list[str], quick: bool
) -> None:
    found = wanted(plain(**sections), request_)
    assert found[: len(said)] == said
    assert ("sparsity.reference=universal" in found) is quick
    read = load_recipe(recipe(tmp_path, json.dumps(sections)[1:-1] + "\n"), overrides=found).sparsity
    assert read is not None
    assert (read.schedule.steps == 1) is quick


def test_two_ends_at_once_are_refused() -> None:
    for asked in (Request(macs=0.1, max_drop_points=1.0), Request(quick=True, max_drop_points=1.0)):
        with pytest.raises(EbbtideError) as caught:
            wanted(plain(), asked)
        assert caught.value.code == "recipe.conflict"


def test_classes_are_read_as_names_and_indices() -> None:
    assert parse_classes("cat, 7,a dog") == ["cat", 7, "a dog"]
    assert parse_classes('"7","a, b",c') == ["7", "a, b", "c"]


def test_bundle_is_named_after_few_classes_and_by_a_digest_of_many() -> None:
    assert name_for("net", ["Cat", 7]) == "net-cat-7"
    many = name_for("net", list(range(10)))
    assert many.startswith("net-10-classes-")
    assert many != name_for("net", list(range(1, 11)))
    assert len(name_for("n" * 64, ["a" * 60, "b"])) <= 64
