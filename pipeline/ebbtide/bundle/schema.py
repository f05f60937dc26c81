"""The normative JSON Schema of the manifest, generated from the models.

``python -m ebbtide.bundle.schema`` rewrites ``manifest.schema.json``; a test keeps it current.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from ebbtide.bundle.manifest import Manifest

SCHEMA_FILE: Final = Path(__file__).with_name("manifest.schema.json")


def manifest_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). ``format`` is required although the model has a default for it."""
    schema = Manifest.model_json_schema(mode="validation")
    schema["required"] = ["format", *schema["required"]]
    for definition in [schema, *schema["$defs"].values()]:
        definition["patternProperties"] = {"^x_": {"type": "object"}}
        definition.pop("title", None)
        for field in definition["properties"].values():
            field.pop("title", None)
            if field.get("default", 0) is None:
                field.pop("default")  # a key with a default is left out, which says the same
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Ebbtide bundle manifest, version 1"}
    return head | schema


def schema_bytes() -> bytes:
    """The file as it must be."""
    return (json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n").encode()


if __name__ == "__main__":
    SCHEMA_FILE.write_bytes(schema_bytes())
