"""The JSON Schema of weights.json and images.json."""

from __future__ import annotations

from typing import Any

COUNT = {"type": "integer", "minimum": 1}
FROM_ZERO = {"type": "integer", "minimum": 0}
WORD = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
BYTES = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}
NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 1}


def closed(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def file_of(case: dict[str, Any]) -> dict[str, Any]:
    return closed({"format": {"const": 1}, "cases": {"type": "array", "minItems": 1, "items": case}})


def axis() -> dict[str, Any]:
    """A case of weights.json."""
    row = {"type": "array", "minItems": 2, "maxItems": 2, "items": False}
    row["prefixItems"] = [FROM_ZERO, {"type": "array", "minItems": 1, "items": {"type": "integer"}}]
    return closed({"inputs": COUNT, "outputs": COUNT, "rows": {"type": "array", "minItems": 1, "items": row}})


def picture() -> dict[str, Any]:
    """A case of images.json."""
    size = {"height": COUNT, "width": COUNT, "channels": {"enum": [1, 3]}}
    image = closed(size | {"pixels": BYTES, "generator_seed": WORD}, "pixels", "generator_seed")
    image["oneOf"] = [{"required": ["pixels"]}, {"required": ["generator_seed"]}]
    spec = {
        "kind": {"const": "image"},
        "shape": {"type": "array", "items": COUNT, "minItems": 3, "maxItems": 3},
        "color": {"enum": ["RGB", "gray"]},
        "scale": NUMBERS,
        "bias": NUMBERS,
        "crop": {"enum": ["center", None]},
        "resize": {"enum": ["bilinear-v1", None]},
    }
    expected = {
        "crop": {"type": "array", "items": FROM_ZERO, "minItems": 4, "maxItems": 4},
        "pixels": BYTES,
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "tensor_bits": {"type": "array", "items": WORD},
    }
    return closed(
        {
            "name": {"type": "string"},
            "image": image,
            "input": closed(spec),
            "expected": closed(expected, "pixels", "tensor_bits"),
        }
    )


def schema() -> dict[str, Any]:
    """Of either file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Preprocessing vectors: weights.json or images.json",
        "oneOf": [file_of(axis()), file_of(picture())],
    }
