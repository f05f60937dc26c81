"""The recipe's JSON Schema as a file, for editors.

``python -m ebbtide.recipe.schema`` rewrites it, and the tables of docs/recipe.md, from the models.
"""

from __future__ import annotations

import json
from pathlib import Path

from ebbtide.recipe.reference import DOCS_FILE, with_reference
from ebbtide.recipe.wording import recipe_schema

SCHEMA_FILE = Path(__file__).with_name("recipe.schema.json")


def schema_text() -> str:
    """The schema as the committed file must hold it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **recipe_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def rewrite() -> list[Path]:
    """Write what is generated from the models; the page only where this is a checkout."""
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
    if not DOCS_FILE.is_file():
        return [SCHEMA_FILE]
    DOCS_FILE.write_text(with_reference(DOCS_FILE.read_text(encoding="utf-8")), encoding="utf-8")
    return [SCHEMA_FILE, DOCS_FILE]


if __name__ == "__main__":
    for file in rewrite():
        print(f"wrote {file.name}")
