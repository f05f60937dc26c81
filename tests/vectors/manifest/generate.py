"""Makes valid.json and invalid.json, to which the reader of every language is held, and their schema.json.

A vector is a whole document, as ``text`` or, where it is not UTF-8, as ``base64``. An invalid one has the error that a
reader gives: its code and the JSON path. These are written by hand in manifest_mistakes.py and below, not taken from a
reader. A valid one may have ``canonical``: the bytes that a writer makes of the same content.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from manifest_base import (
    XZ,
    Change,
    base,
    changed,
    channels_last,
    core_ml,
    dense,
    latencies,
    outside,
    put,
    signal,
    two_exits,
    written,
)
from manifest_mistakes import relations, values

from ebbtide.errors import CODES

EXTENSION = {"x": [1, None, {"deep": True}], "format": 9}


def valid() -> Iterator[dict[str, Any]]:
    cases: list[tuple[str, str, tuple[Change, ...]]] = [
        ("base", "two widths, one exit, two tiers", ()),
        ("one_tier", "a table may be one configuration", (put("tiers", ["c1"]),)),
        ("xz_payload", "packed for download", (put("payload", XZ),)),
        ("outside", "tells what belongs to no class", (outside("flowers-universal"),)),
        ("outside_alone", "no bundle to fall back on", (outside(None),)),
        ("outside_confidence", "by confidence instead of energy", (outside(None, "confidence"),)),
        ("test_unknown", "the test split has not been opened", (put("configurations.0.expected.test", None),)),
        ("signal", "one-dimensional input", (signal,)),
        ("dense_program", "a program of one method", (dense,)),
        ("channels_last", "a boundary in another order of memory", (channels_last(0, 1, 2),)),
        ("mlpackage", "a folder for each method", (core_ml(),)),
        (
            "server",
            "the end of a path may run on a server",
            (put("configurations.0.path.2.at", "server"), put("configurations.0.path.3.at", "server")),
        ),
        ("server_head", "as may the head alone", (put("configurations.1.path.2.at", "server"),)),
        ("exit_types", "several types of exit at one position", (two_exits,)),
        (
            "latency_orders_tiers",
            "MACs rise, measured times fall",
            (latencies(90, 80), put("configurations.0.expected.mean_macs", 10)),
        ),
        ("unused_configuration", "a configuration that no tier names", (put("tiers", ["c0"]),)),
        (
            "unicode",
            "class names and paths in any script",
            (
                put("model.classes", ["Gänseblümchen", "薔薇"]),
                put("files.1.path", "programs/ж.pte"),
                put("programs.1.file", "programs/ж.pte"),
            ),
        ),
        ("zero_size", "an empty file has a size", (put("files.1.size", 0),)),
        ("largest_integer", "2^53 - 1 fits", (put("sequence", 2**53 - 1),)),
        (
            "integer_as_float",
            "a float32 may be written without a fraction",
            (put("configurations.0.path.1.threshold", 2), put("model.input.bias", [-2, -1, 0])),
        ),
    ]
    for name, why, changes in cases:
        document = changed(*changes)
        text = written(document)
        vector = {"name": name, "why": why, "text": text}
        if name != "integer_as_float":
            vector["canonical"] = text
        yield vector
    for name, why, changes in [
        ("extension_at_top", "x_ objects are ignored", (put("x_own", EXTENSION),)),
        ("extension_inside", "in any object", (put("programs.0.methods.0.x_own", EXTENSION), put("policy.x_", {}))),
        (
            "optional_null",
            "null is as good as absent where a key is optional",
            (put("model.outside", None), put("configurations.0.path.0.threshold", None)),
        ),
    ]:
        yield {"name": name, "why": why, "text": written(changed(*changes)), "canonical": written(base())}
    spaced = json.dumps(base(), indent=2)
    yield {"name": "spaced", "why": "white space is free", "text": spaced, "canonical": written(base())}
    backwards = json.dumps(dict(reversed(base().items())))
    yield {"name": "any_order", "why": "keys are in any order", "text": backwards, "canonical": written(base())}
    spelled = written(changed(put("x_own", EXTENSION))).replace('"x_own"', '"\\u0078_own"')
    yield {
        "name": "extension_escaped",
        "why": "escapes are read in keys, too",
        "text": spelled,
        "canonical": written(base()),
    }
    escaped = written(base()).replace('"daisy"', '"\\u0064aisy"')
    yield {"name": "escaped", "why": "escapes are read", "text": escaped, "canonical": written(base())}


def syntax() -> Iterator[tuple[str, str, bytes]]:
    good = written(base()).encode()
    yield "empty", "nothing", b""
    yield "truncated", "cut short", good[: len(good) // 2]
    yield "twice", "two documents", good + good
    yield "trailing", "something after the end", good + b"x"
    yield "array", "not an object", b"[]"
    yield "byte_order_mark", "a byte order mark", b"\xef\xbb\xbf" + good
    yield "utf16", "not UTF-8", good.decode().encode("utf-16")
    yield "latin1", "not UTF-8", good.replace(b"daisy", b"da\xefsy")
    yield "overlong", "UTF-8 in one form only", good.replace(b"daisy", b"da\xc0\xaf")
    yield "surrogate", "half a pair", good.replace(b"daisy", b"\\ud83d")
    yield "duplicate_key", "a key twice", good.replace(b'{"format":1', b'{"format":1,"format":1')
    yield "duplicate_inner", "a key twice, inside", good.replace(b'"payload":{', b'"payload":{"format":"xz",')
    yield "duplicate_extension", "a key twice, in an extension", good[:-2] + b',"x_a":{"b":1,"b":2}}'
    for name, number in {
        "nan": b"NaN",
        "infinity": b"-Infinity",
        "overflow": b"1e999",
        "plus": b"+2.5",
        "leading_zero": b"02.5",
        "hexadecimal": b"0x2",
        "bare_point": b"2.",
        "beyond_2_53": b"9007199254740992",
    }.items():
        yield f"number_{name}", "not a number of JSON, or beyond a double", good.replace(b"2.440000057220459", number)
    yield "comment", "a comment", good[:-2] + b"/* end */}"
    yield "trailing_comma", "a comma too many", good[:-2] + b",}"
    yield "single_quotes", "quotes", good.replace(b'"daisy"', b"'daisy'")
    yield "control_character", "a raw line break in a text", good.replace(b"daisy", b"da\nisy")
    yield "deep", "nested too deeply", good[:-2] + b',"x_a":{"b":' + b"[" * 40 + b"]" * 40 + b"}}"


def document_of(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def invalid() -> Iterator[dict[str, Any]]:
    for name, why, change, code, path in values():
        error = {"code": f"bundle.manifest_{code}", "path": path}
        yield {"name": name, "why": why, "error": error, "text": written(changed(change))}
    for name, why, changes, code, path in relations():
        error = {"code": f"bundle.manifest_{code}", "path": path}
        yield {"name": name, "why": why, "error": error, "text": written(changed(*changes))}
    for name, why, data in syntax():
        error = {"code": "bundle.manifest_syntax", "path": "$"}
        yield {"name": f"syntax_{name}", "why": why, "error": error, **document_of(data)}


def schema() -> dict[str, Any]:
    """The JSON Schema of both files."""
    text = {"type": "string", "minLength": 1}
    code = {"enum": sorted(code for code in CODES if code.startswith("bundle.manifest_"))}
    error = {"code": code, "path": {"type": "string", "pattern": "^\\$"}}
    named = {"name": {"type": "string", "pattern": "^[A-Za-z0-9_]+$"}, "why": text}
    document = {"text": {"type": "string"}, "base64": {"type": "string", "contentEncoding": "base64"}}
    right = {"canonical": text}
    wrong = {"error": closed(error, required=list(error))}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manifest vectors: valid.json or invalid.json",
        "oneOf": [
            vectors(named | document | right, required=["name", "why"]),
            vectors(named | document | wrong, required=["name", "why", "error"]),
        ],
    }


def vectors(properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    """A list of documents, each in one of the two ways of writing it."""
    written_either_way = {"oneOf": [{"required": ["text"]}, {"required": ["base64"]}]}
    return {"type": "array", "minItems": 1, "items": closed(properties, required=required) | written_either_way}


def closed(properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def files() -> dict[str, bytes]:
    """File name -> content."""
    made = {"valid.json": list(valid()), "invalid.json": list(invalid()), "schema.json": schema()}
    return {name: (json.dumps(content, indent=1) + "\n").encode() for name, content in made.items()}
