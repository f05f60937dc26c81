"""Makes traces.json, random.json and schema.json.

README.md beside this file says what the fields mean.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from policy_edges import batteries, floors, headroom
from policy_refusals import limits, refusals
from policy_schema import schema
from policy_times import times, together
from policy_traces import ordinary
from policy_walks import walks

from ebbtide.bundle import DEFAULT_POLICY

BY_HAND = (ordinary, headroom, batteries, floors, times, together, limits, refusals)


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def text(made: list[dict[str, Any]]) -> bytes:
    """One step a line: files whose changes can be read."""
    lines = []
    for trace in made:
        head = compact({key: value for key, value in trace.items() if key != "steps"})
        steps = ",\n".join(compact(step) for step in trace["steps"])
        lines.append(f'{head[:-1]},"steps":[\n{steps}\n]}}')
    separator = ",\n"
    policy = compact(DEFAULT_POLICY.model_dump(mode="json"))
    return f'{{"format":1,"policy":{policy},"traces":[\n{separator.join(lines)}\n]}}\n'.encode()


def files() -> dict[str, bytes]:
    """File name -> content."""
    return {
        "traces.json": text([trace for group in BY_HAND for trace in group()]),
        "random.json": text(list(walks())),
        "schema.json": (json.dumps(schema(), indent=1) + "\n").encode(),
    }
