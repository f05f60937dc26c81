"""The manifest: vectors shared with other languages, the committed schema, and canonical bytes."""

from __future__ import annotations

import base64
import importlib.util
import json
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.bundle import float32, manifest_bytes, parse_manifest
from ebbtide.bundle.manifest import Manifest
from ebbtide.bundle.schema import SCHEMA_FILE, manifest_schema, schema_bytes
from ebbtide.bundle.strict_json import canonical_bytes, parse_strict
from ebbtide.errors import CODES, EbbtideError

VECTORS = Path(__file__).parents[2] / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    return json.loads((VECTORS / "manifest" / name).read_bytes())


def data_of(vector: dict[str, Any]) -> bytes:
    return vector["text"].encode() if "text" in vector else base64.b64decode(vector["base64"])


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_manifest", VECTORS / "manifest" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate_manifest"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("vector", load("valid.json"), ids=lambda vector: vector["name"])
def test_manifest_parses_and_writes_canonically_when_valid(vector):
    manifest = parse_manifest(data_of(vector))
    if "canonical" in vector:
        assert manifest_bytes(manifest) == vector["canonical"].encode()
    assert parse_manifest(manifest_bytes(manifest)) == manifest


@pytest.mark.parametrize("vector", load("invalid.json"), ids=lambda vector: vector["name"])
def test_manifest_gives_code_and_path_when_invalid(vector):
    with pytest.raises(EbbtideError) as caught:
        parse_manifest(data_of(vector))
    assert {"code": caught.value.code, "path": caught.value.place} == vector["error"]


def test_vectors_cover_every_manifest_code_when_listed():
    used = {vector["error"]["code"] for vector in load("invalid.json")}
    assert used == {code for code in CODES if code.startswith("bundle.manifest_")}


def test_vector_names_are_unique_when_listed():
    names = [vector["name"] for file in ("valid.json", "invalid.json") for vector in load(file)]
    assert len(names) == len(set(names))


def test_schema_is_current_when_generated_again():
    assert SCHEMA_FILE.read_bytes() == schema_bytes(), "run python -m ebbtide.bundle.schema"


def test_schema_agrees_with_reader_when_given_vectors():
    check = jsonschema.Draft202012Validator(manifest_schema()).is_valid
    for vector in load("valid.json"):
        assert check(json.loads(data_of(vector))), vector["name"]
    # What only a reader can tell: numbers that are not float32, dates, the line break that Python's $ lets pass.
    beyond = {"threshold_double", "bias_double", "created_no_day", "name_newline"}
    # JSON Schema has one kind of number: 7.0 is an integer there, and is not in a manifest.
    beyond |= {"format_float", "sequence_float", "policy_float"}
    beyond |= {"name_device", "universal_few", "shape_batch", "layout", "color", "scale_count"}
    relations = {name for name, *_ in generator().relations()}
    for vector in load("invalid.json"):
        reason = vector["error"]["code"].removeprefix("bundle.manifest_")
        if vector["name"] not in beyond | relations and reason in ("unknown_key", "version", "missing_key", "value"):
            assert not check(json.loads(data_of(vector))), vector["name"]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_survives_both_ways_of_parsing_when_written(value):
    text = canonical_bytes([float32(value)]).decode().strip()[1:-1]
    as_double = float(text)
    assert struct.pack("<f", as_double) == struct.pack("<f", value)
    # Parsing as float32 at once cannot round to a neighbour: the double is the float32, exactly.
    assert struct.unpack("<f", struct.pack("<f", as_double))[0] == as_double


def test_unknown_key_names_the_nearest_when_mistyped():
    document = json.loads(load("valid.json")[0]["text"])
    document["sequenz"] = document.pop("sequence")
    with pytest.raises(EbbtideError) as caught:
        parse_manifest(json.dumps(document).encode())
    assert caught.value.code == "bundle.manifest_unknown_key"
    assert "sequence" in (caught.value.hint or "")


def test_manifest_is_refused_when_too_large():
    with pytest.raises(EbbtideError, match="more than the 100"):
        parse_strict(b" " * 101, max_bytes=100)


def test_parsing_is_bounded_when_nested_very_deeply():
    with pytest.raises(EbbtideError, match="deeper"):
        parse_strict(b'{"x_a":' + b"[" * 1_000_000)


def test_manifest_cannot_change_when_created():
    manifest = parse_manifest(data_of(load("valid.json")[0]))
    assert isinstance(manifest, Manifest)
    with pytest.raises(Exception, match="frozen"):
        manifest.sequence = 8
