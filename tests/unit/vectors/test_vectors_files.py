"""The vectors that all languages share: made by one generator, current, and as their schemas say."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

VECTORS = Path(__file__).parents[2] / "vectors"
KINDS = sorted(path.name for path in VECTORS.iterdir() if any(path.glob("*.json")))
DATA = sorted(path for path in VECTORS.glob("*/*.json") if path.name != "schema.json")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("vectors_generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = load(VECTORS / "generate.py")


def validator(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((VECTORS / kind / "schema.json").read_bytes()))


def test_generator_finds_every_kind_when_asked():
    assert GENERATE.kinds() == KINDS
    assert {"choice", "manifest", "policy", "preprocessing", "session"} <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_current_when_generated_again(kind: str):
    assert sorted(GENERATE.stale(kind)) == [], "run make vectors"


@pytest.mark.parametrize("kind", KINDS)
def test_schema_is_one_when_checked(kind: str):
    schema = validator(kind).schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", DATA, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_vectors_follow_their_schema_when_read(path: Path):
    document = json.loads(path.read_bytes())
    check = validator(path.parent.name)
    check.validate(document)
    for wrong in mistakes(document):
        assert not check.is_valid(wrong), "the schema takes anything"


def mistakes(document: Any) -> list[Any]:
    """The document with an unknown key at its top or in its first case, and without its first case's name."""
    if isinstance(document, list):
        first = document[0]
        return [[first | {"unknown": 1}], [{key: first[key] for key in first if key != "why"}]]
    name = next(key for key, value in document.items() if isinstance(value, list))
    first = document[name][0]
    short = {key: first[key] for key in list(first)[1:]}
    changed = [document | {name: [case]} for case in (first | {"unknown": 1}, short)]
    return [*changed, document | {"unknown": 1}, document | {"format": 2}]


def test_generator_writes_what_is_stale_and_says_so_when_run(tmp_path: Path):
    copied = tmp_path / "vectors"
    kept = ("choice", "preprocessing")
    others = [kind for kind in KINDS if kind not in kept]
    shutil.copytree(VECTORS, copied, ignore=shutil.ignore_patterns("__pycache__", *others))

    def run() -> list[str]:
        command = [sys.executable, str(copied / "generate.py")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    end = "files written; kinds: choice, preprocessing"
    assert run() == [f"0 {end}"]
    before = (copied / "choice/schema.json").stat().st_mtime_ns
    (copied / "choice/cases.json").unlink()
    with (copied / "preprocessing/images.json").open("a") as stream:
        stream.write(" ")
    (copied / "choice/more.json").write_text("{}")
    said = "nothing makes choice/more.json: delete it"
    assert run() == ["wrote choice/cases.json", said, "wrote preprocessing/images.json", f"2 {end}"]
    for name in ("choice/cases.json", "preprocessing/images.json"):
        assert (copied / name).read_bytes() == (VECTORS / name).read_bytes()
    assert (copied / "choice/schema.json").stat().st_mtime_ns == before
    assert run() == [said, f"0 {end}"]
