"""The recipe's JSON Schema as a file, for editors: ``python -m ebbtide.recipe.schema`` rewrites it from the models."""

from __future__ import annotations

import json
from pathlib import Path

from ebbtide.recipe.wording import recipe_schema

SCHEMA_FILE = Path(__file__).with_name("recipe.schema.json")


def schema_text() -> str:
    """The schema as the committed file must hold it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **recipe_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
    print(f"wrote {SCHEMA_FILE.name}")
