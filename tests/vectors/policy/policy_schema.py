"""The JSON Schema of the policy vectors, made from the ranges that the policy itself checks."""

from __future__ import annotations

from typing import Any

from ebbtide.bundle.manifest import PolicyEntry
from ebbtide.runtime.policy import DEMANDING, MAX_TIERS
from ebbtide.runtime.policy_signals import RANGES

ERRORS = ("policy.limits", "policy.signal", "policy.time")


def schema() -> dict[str, Any]:
    """Draft 2020-12. A step with an error may hold anything where its fault lies, so only its keys are fixed there."""
    tier = {"type": "integer", "minimum": 0, "maximum": MAX_TIERS - 1}
    moves = "|".join(DEMANDING)
    policy = PolicyEntry.model_json_schema()
    parameters = {name: _plain(value) for name, value in policy["properties"].items()}
    limits = {"type": "array", "minItems": 2, "maxItems": 2}
    good = {
        "type": "object",
        "additionalProperties": False,
        "required": ["in", "tier", "reason"],
        "properties": {
            "limits": {**limits, "items": tier},
            "in": {"$ref": "#/$defs/signals"},
            "tier": tier,
            "reason": {"type": "string", "pattern": f"^(keep:none|(keep|down):({moves})|hold|up|up:application)$"},
        },
    }
    refused = {
        "type": "object",
        "additionalProperties": False,
        "required": ["in", "error"],
        "properties": {"limits": limits, "in": {"type": "object"}, "error": {"enum": list(ERRORS)}},
    }
    trace = {
        "name": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "why": {"type": "string", "minLength": 1},
        "tiers": {"type": "integer", "minimum": 1, "maximum": MAX_TIERS},
        "policy": {"type": "object", "additionalProperties": False, "properties": parameters},
        "minimum_tier": tier,
        "maximum_tier": tier,
        "steps": {"type": "array", "minItems": 1, "items": {"oneOf": [good, refused]}},
    }
    whole = {
        "format": {"const": 1},
        "policy": _closed(parameters),
        "traces": {"type": "array", "minItems": 1, "items": _closed(trace)},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policy vectors (traces.json, random.json)",
        **_closed(whole),
        "$defs": {"signals": _signals()},
    }


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _signals() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, (low, high) in RANGES.items():
        kind = "boolean" if name in ("charging", "saver") else "integer"
        bounds = {} if kind == "boolean" else {"minimum": low, "maximum": high}
        fields[name] = {"type": kind if name == "t_ms" else [kind, "null"], **bounds}
    return {"type": "object", "additionalProperties": False, "required": ["t_ms"], "properties": fields}


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != "title"}
