"""``python -m ebbtide.device.schema`` rewrites ``devices/profile.schema.json``; a test keeps it current."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ebbtide.device.profile import schema_bytes

SCHEMA_FILE: Final = Path(__file__).resolve().parents[3] / "devices" / "profile.schema.json"

if __name__ == "__main__":
    SCHEMA_FILE.write_bytes(schema_bytes())
