"""``python -m ebbtide.profiling.schema`` rewrites ``devices/results.schema.json``; a test keeps it current."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from ebbtide.profiling.results import Results

SCHEMA_FILE: Final = Path(__file__).resolve().parents[3] / "devices" / "results.schema.json"


def results_schema() -> dict[str, Any]:
    """The JSON Schema of a results file (draft 2020-12)."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return head | Results.model_json_schema() | {"title": "Ebbtide results of a measurement"}


def schema_bytes() -> bytes:
    """The file as it must be."""
    return (json.dumps(results_schema(), indent=2, ensure_ascii=False) + "\n").encode()


if __name__ == "__main__":
    SCHEMA_FILE.write_bytes(schema_bytes())
