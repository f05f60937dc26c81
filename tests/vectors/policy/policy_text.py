"""How the hand-made traces are written.

A trace is a text, a step a line: ``when signals -> tier reason`` or ``when signals -> code of an error``, where when is
``t_ms`` or, for several steps with the same signals and outcome, ``first..last/distance``, and a signal is
``name=value`` in JSON. ``[minimum maximum]`` before the signals sets the application's limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

LINE = re.compile(
    r"(?P<first>\S+?)(\.\.(?P<last>\d+)/(?P<distance>\d+))?"
    r"(\s+\[(?P<minimum>\S+) (?P<maximum>\S+)\])?"
    r"(?P<signals>(\s+\w+=\S+)*)\s+->\s+((?P<error>\w+\.\w+)|(?P<tier>\d) (?P<reason>\S+))"
)


def trace(
    name: str,
    why: str,
    text: str,
    *,
    tiers: int = 4,
    policy: dict[str, Any] | None = None,
    limits: tuple[int, int] = (0, 3),
) -> dict[str, Any]:
    return {
        "name": name,
        "why": why,
        "tiers": tiers,
        "policy": policy or {},
        "minimum_tier": limits[0],
        "maximum_tier": limits[1],
        "steps": [step for line in text.strip().splitlines() for step in steps_of(line.strip())],
    }


def steps_of(line: str) -> Iterator[dict[str, Any]]:
    match = LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"not a step: {line!r}")
    signals = {key: json.loads(value) for key, value in (item.split("=", 1) for item in match["signals"].split())}
    limits = {"limits": [json.loads(match["minimum"]), json.loads(match["maximum"])]} if match["minimum"] else {}
    outcome = {"error": match["error"]} if match["error"] else {"tier": int(match["tier"]), "reason": match["reason"]}
    times: list[Any] = [json.loads(match["first"])] if match["first"] != "none" else [None]
    if match["last"]:
        times = list(range(times[0], int(match["last"]) + 1, int(match["distance"])))
    for t_ms in times:
        yield {**limits, "in": {**({} if t_ms is None else {"t_ms": t_ms}), **signals}, **outcome}
