"""What is generated from the models: JSON Schema, template and reference page; and the recipes in this repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from ebbtide.errors import CODES
from ebbtide.recipe import Recipe, init_text, load_recipe
from ebbtide.recipe.reference import DOCS_FILE, reference_text, with_reference
from ebbtide.recipe.schema import SCHEMA_FILE, schema_text
from ebbtide.recipe.template import START

ROOT = Path(__file__).parents[3]


def sections(model: type[BaseModel] = Recipe) -> Iterator[type[BaseModel]]:
    def inner(annotation: object) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from sections(annotation)
        for argument in get_args(annotation):
            yield from inner(argument)

    yield model
    for field in model.model_fields.values():
        yield from inner(field.annotation)


def load_text(folder: Path, text: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def test_schema_file_is_current_when_models_change() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run python -m ebbtide.recipe.schema"


def test_reference_page_is_current_when_models_change() -> None:
    page = DOCS_FILE.read_text(encoding="utf-8")
    assert page == with_reference(page), "run python -m ebbtide.recipe.schema"
    for section in sections():
        for key in section.model_fields:
            assert f"`{key}`" in reference_text()


def test_every_key_has_a_description_when_listed() -> None:
    for section in sections():
        assert section.__doc__
        for key, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{key}"


def test_schema_agrees_with_the_models_when_recipes_are_good_or_bad() -> None:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    good = {"model": {"timm": "a"}, "data": {"digits": True}, "training": {}, "exits": "auto", "tiers": 3}
    assert check.is_valid(good)
    for bad in ({"tiers": 5}, {"clases": "all"}, {"exits": "x"}, {"metric": "x"}, {"devices": []}, {"seed": "1"}):
        assert not check.is_valid({**good, **bad})


def test_template_loads_and_shows_every_default_when_written(tmp_path: Path) -> None:
    recipe = load_text(tmp_path, init_text("mine"))
    assert recipe == Recipe(name="mine", **START)
    text = init_text("mine")
    for section in sections():
        if section.__name__ != "ClassDraw":
            for key in section.model_fields:
                assert f" {key}: " in text.replace("\n", "\n ") or f" {key}:\n" in text.replace("\n", "\n "), key
    jsonschema.validate(yaml.safe_load(text), json.loads(schema_text()))


def test_template_holds_what_is_given_when_it_differs_from_the_defaults(tmp_path: Path) -> None:
    given = {
        "model": {"timm": "yes: no", "arguments": {"a": [1, "2", None], "b c": "x, y"}},
        "data": {"torchvision": {"name": "CIFAR10", "root": str(tmp_path)}},
        "training": {"epochs": 7, "augmentation": {"flip": True}},
        "classes": ["1", 2, "true", "dog #1", " pad", "-", "é"],
        "tiers": 2,
        "devices": ["host", "any-android"],
    }
    assert load_text(tmp_path, init_text("n", given=given)) == Recipe(name="n", **given)


@pytest.mark.parametrize("key", ["training", "exits"])
def test_template_shows_a_section_as_off_when_not_given(tmp_path: Path, key: str) -> None:
    (tmp_path / "w.pt").touch()
    given = {"model": {"timm": "a", "weights": "w.pt"}, "data": {"digits": True}}
    text = init_text("n", given=given)
    assert getattr(load_text(tmp_path, text), key) is None
    lines = text.splitlines()
    start = lines.index(f"# {key}:")
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("#"))
    lines[start:end] = [line.removeprefix("# ") for line in lines[start:end]]
    assert getattr(load_text(tmp_path, "\n".join(lines)), key) is not None


def test_examples_load_and_follow_the_schema_when_shipped() -> None:
    examples = sorted((ROOT / "pipeline" / "examples").glob("*.yaml"))
    benchmarks = sorted((ROOT / "pipeline" / "benchmarks" / "recipes").glob("*.yaml"))
    assert examples
    assert {path.stem for path in benchmarks} >= {"cifar10_resnet20", "cifar10_resnet56"}
    for path in (*examples, *benchmarks):
        assert load_recipe(path).name == path.stem.replace("_", "-")
        jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), json.loads(schema_text()))


def test_codes_of_this_package_are_tested_when_listed() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for code in CODES:
        if code.startswith("recipe."):
            assert code in text or f'"{code.partition(".")[2]}"' in text, code


def test_demo_network_gives_logits_when_loaded_as_the_recipe_names_it() -> None:
    import torch

    from ebbtide.recipe import code_entry

    recipe = load_recipe(ROOT / "pipeline" / "examples" / "digits.yaml")
    assert recipe.trains_model
    network = code_entry(str(recipe.model.factory), ROOT).load()().eval()
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
