"""``python -m ebbtide.device.schema`` rewrites what is generated in ``devices``; a test keeps it current.

That is ``profile.schema.json`` and ``groups.schema.json`` for editors, and ``catalog.json`` for applications.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from ebbtide.device.catalog import catalog_bytes
from ebbtide.device.groups import Groups
from ebbtide.device.profile import Profile

DEVICES: Final = Path(__file__).resolve().parents[3] / "devices"


def document_schema(kind: type[BaseModel], title: str) -> dict[str, Any]:
    """The JSON Schema of a document (draft 2020-12)."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return head | kind.model_json_schema() | {"title": title}


def profile_schema() -> dict[str, Any]:
    """The JSON Schema of a profile."""
    return document_schema(Profile, "Ebbtide device profile")


def groups_schema() -> dict[str, Any]:
    """The JSON Schema of the groups."""
    return document_schema(Groups, "Ebbtide device groups")


def files() -> dict[str, bytes]:
    """File name -> content, as it must be."""
    schemas = {"profile.schema.json": profile_schema(), "groups.schema.json": groups_schema()}
    written = {name: (json.dumps(one, indent=2, ensure_ascii=False) + "\n").encode() for name, one in schemas.items()}
    return written | {"catalog.json": catalog_bytes()}


if __name__ == "__main__":
    for name, content in files().items():
        (DEVICES / name).write_bytes(content)
