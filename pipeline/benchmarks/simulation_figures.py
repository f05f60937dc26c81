"""The figures of the phone simulator: how long it takes, and how the product's policy stands on the judging runs.

Functions for `behaviour.py`. The figures of policies are simulated, not measured on a phone; they come from runs on
which nothing was chosen (see `policy_study`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from figures import FigureFile
from policy_study import AIR_C, HOURS, JUDGING, PHONE, WORK, scenario

from ebbtide.bundle import DEFAULT_POLICY
from ebbtide.simulation import LABEL, Outcome, PolicyRow, load_phone, policy_kinds, policy_rows, simulate
from ebbtide.steps import code_digest

IDS = (
    "simulate_s",
    "sim_changes_per_h",
    "sim_throttled_percent",
    "sim_quality",
    "sim_throttled_over_unity_points",
    "sim_quality_over_unreal",
)


def key(figure: str) -> dict[str, Any]:
    """What a figure depends on: the simulator, the policy and the runs."""
    sources = ("ebbtide.simulation", "ebbtide.runtime.policy", "ebbtide.bundle.manifest")
    return {"code": code_digest(sources), "seeds": list(JUDGING), "figure": figure}


def twelve_runs() -> tuple[Outcome, float]:
    """Twelve runs of two hours of six policies, and the seconds it took."""
    runs, kinds = scenario(JUDGING), policy_kinds(4, DEFAULT_POLICY)
    start = time.perf_counter()
    return simulate(load_phone(PHONE), runs, WORK, kinds), time.perf_counter() - start


def measure(file: FigureFile, command: str, wanted: set[str] | None = None, *, turns: int = 3) -> None:
    """Record the figures that are missing, or those wanted.

    Args:
        file: where they go.
        command: what measures them again.
        wanted: ids; None for all.
        turns: how often the simulation is timed.
    """
    missing = [one for one in IDS if (wanted is None or one in wanted) and not file.has(one, key(one))]
    if not missing:
        return
    timed = [twelve_runs() for _ in range(turns if "simulate_s" in missing else 1)]
    if "simulate_s" in missing:
        seconds = sorted(took for _, took in timed)
        found = file.record(
            "simulate_s",
            value=round(seconds[len(seconds) // 2], 3),
            spread=(round(seconds[0], 3), round(seconds[-1], 3)),
            unit="s",
            goal="< 10",
            about="phone simulator: 12 runs of 2 hours of 6 policies",
            command=f"{command} simulate_s",
            key=key("simulate_s"),
        )
        print(found.told, flush=True)
    rows = {row.name: row for row in policy_rows(timed[0][0])}
    for name, fields in _of_policies(rows).items():
        if name in missing:
            about = (
                f"{fields.pop('about')}, 12 runs of {HOURS:g} h in air of {AIR_C[0]:g} to {AIR_C[1]:g} degrees; {LABEL}"
            )
            found = file.record(name, about=about, seeds=JUDGING, command=f"{command} {name}", key=key(name), **fields)
            print(found.told, flush=True)


def _of_policies(rows: dict[str, PolicyRow]) -> dict[str, dict[str, Any]]:
    ours, unity, unreal = rows["ours"], rows["unity"], rows["unreal"]

    def others(show: Callable[[PolicyRow], str]) -> str:
        return f"Unity's indexer {show(unity)}, the Unreal plug-in {show(unreal)}"

    throttled, quality, changes = ours.throttled, ours.quality, ours.changes_per_h
    return {
        "sim_changes_per_h": {
            "value": round(changes.mean, 2),
            "spread": (round(changes.least, 2), round(changes.greatest, 2)),
            "unit": "changes/h",
            "goal": "<= 5",
            "anchor": others(lambda row: f"{row.changes_per_h.mean:.0f}"),
            "about": "changes of tier by our policy",
        },
        "sim_throttled_percent": {
            "value": round(100 * throttled.mean, 2),
            "spread": (round(100 * throttled.least, 2), round(100 * throttled.greatest, 2)),
            "unit": "%",
            "goal": "<= 3.4",
            "anchor": others(lambda row: f"{100 * row.throttled.mean:.2f}"),
            "about": "time that the system throttles inference under our policy",
        },
        "sim_quality": {
            "value": round(quality.mean, 4),
            "spread": (round(quality.least, 4), round(quality.greatest, 4)),
            "unit": "",
            "goal": ">= 0.756",
            "anchor": others(lambda row: f"{row.quality.mean:.4f}"),
            "about": "mean accuracy of the tiers under our policy",
        },
        "sim_throttled_over_unity_points": {
            "value": round(100 * (throttled.mean - unity.throttled.mean), 2),
            "unit": "points",
            "goal": "<= 0",
            "anchor": "Unity's indexer in the same runs",
            "about": "time throttled under our policy over Unity's",
        },
        "sim_quality_over_unreal": {
            "value": round(quality.mean - unreal.quality.mean, 4),
            "unit": "",
            "goal": ">= 0",
            "anchor": "the Unreal plug-in in the same runs",
            "about": "mean accuracy under our policy over the Unreal plug-in's",
        },
    }
