"""The shape of walks.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def schema() -> dict[str, Any]:
    number: dict[str, Any] = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
    whole = {"type": "integer", "minimum": 0}
    method = {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?/[a-z][a-z0-9_]{0,63}$"}

    def record(optional: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [name for name in properties if name not in optional],
            "properties": properties,
        }

    def many(items: Any, least: int = 1) -> dict[str, Any]:
        return {"type": "array", "minItems": least, "items": items}

    kinds = [
        record(method=method, kind={"const": "stage"}),
        record(
            ["outside"],
            method=method,
            kind={"const": "exit"},
            position=whole,
            threshold={"type": "number"},
            outside={"type": "number"},
        ),
        record(
            ["outside"],
            method=method,
            kind={"enum": ["head", "model"]},
            position=whole,
            outside={"type": "number"},
        ),
    ]
    values = {"$ref": "#/$defs/number"}
    one_output = record(step=whole, probabilities=many(values, 2), confidence=values, logits=many(values, 2))
    answer = record(step=whole, position=whole, label=whole, confidence=values, outside={"type": ["boolean", "null"]})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Session vectors (walks.json)",
        **record(format={"const": 1}, cases=many({"$ref": "#/$defs/case"})),
        "$defs": {
            "number": number,
            "case": record(
                name={"type": "string", "pattern": "^[a-z0-9_]+$"},
                why={"type": "string"},
                classes={"type": "integer", "minimum": 2},
                path=many({"oneOf": kinds}),
                outside={"enum": [None, "energy", "confidence"]},
                samples=many(
                    record(outputs=many(one_output), expected={"oneOf": [answer, record(error={"type": "string"})]})
                ),
            ),
        },
    }
