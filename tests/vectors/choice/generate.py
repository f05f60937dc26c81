"""Makes cases.json and schema.json: a catalogue, and which bundle and tier each device gets of the bundles there are.

The cases and what they must give are written by hand in choice_cases.py; README.md says what the fields mean. The
schema comes from the models of the reader, so that it takes what a reader takes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from ebbtide.device.candidate import Candidate, Exclusion
from ebbtide.device.catalog import Catalog
from ebbtide.device.choice import Limit, Reason
from ebbtide.device.facts import Facts

sys.path.insert(0, str(Path(__file__).parent))

from choice_base import CATALOG
from choice_cases import cases


def text() -> str:
    """One case a line: a small file whose changes can be read."""
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases())
    return f'{{"format":1,"catalog":\n{json.dumps(CATALOG, separators=(",", ":"))},\n"cases":[\n{lines}\n]}}\n'


def schema() -> dict[str, Any]:
    """The JSON Schema of cases.json."""
    models = [(model, "validation", TypeAdapter(model)) for model in (Catalog, Facts, Candidate)]
    references, definitions = TypeAdapter.json_schemas(models)
    catalog, facts, candidate = (references[model, "validation"] for model in (Catalog, Facts, Candidate))
    index = {"type": "integer", "minimum": 0}
    tier, width = {"type": "integer", "minimum": 0, "maximum": 3}, {"type": "string", "pattern": "^w[0-9]{1,3}$"}
    chosen = {
        "candidate": index,
        "reason": {"enum": list(get_args(Reason))},
        "group": {"type": ["string", "null"]},
        "limit": {"enum": list(get_args(Limit))},
        "tier": tier,
        "minimum_tier": tier,
        "maximum_tier": tier,
        "width": width,
        "widest": width,
        "unknown": {"type": "array", "items": {"enum": list(Facts.model_fields)}, "uniqueItems": True},
        "excluded": {"type": "array", "items": {"enum": [*get_args(Exclusion), None]}},
    }
    error = {"error": {"enum": ["device.facts", "device.no_bundle"]}}
    case = {
        "name": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "why": {"type": "string", "minLength": 1},
        "facts": {"type": "object"},
        "candidates": {"type": "array", "items": candidate},
        "expected": {"oneOf": [closed(chosen), closed(error)]},
    }
    # Where the facts are not what is wrong, they are right.
    wrong = {"properties": {"expected": {"properties": {"error": {"const": "device.facts"}}, "required": ["error"]}}}
    right = {"if": wrong, "else": {"properties": {"facts": facts}}}
    file = {"format": {"const": 1}, "catalog": catalog, "cases": {"type": "array", "items": closed(case) | right}}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Choice vectors"}
    return head | closed(file) | {"$defs": definitions["$defs"]}


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    """An object with exactly these keys."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def files() -> dict[str, bytes]:
    """File name -> content."""
    return {"cases.json": text().encode(), "schema.json": (json.dumps(schema(), indent=1) + "\n").encode()}
