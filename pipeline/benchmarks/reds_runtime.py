"""Figures of widths at run time: switches, the compressed stream, latency; `reds.py` calls this by the figures' ids.

Networks are the shared trained ones, their units ordered by magnitude, so that nothing but the weights is needed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from reds_starts import Printed, adapter
from widths_programs import lower_widths
from widths_runtime import latency_ratio, payload_ratio, switch_active, switch_resident

from ebbtide.build.layer_times import measure_layers
from ebbtide.lowering import LoweredProgram
from ebbtide.model import capture, coupling_groups
from ebbtide.model.coupling import macs_by_node
from ebbtide.nesting import Level, Nested, Rules, choose_levels, extract, order_units
from ebbtide.saliency import unit_scores

IDS = ("payload_ratio", "switch_resident_us", "switch_resident_paced_us", "switch_active_ms", "latency_ratio_25")
SHAPE = (3, 32, 32)
LATENCY_GOAL = 3.6
Note = Callable[..., None]


def runtime(ids: Sequence[str], scratch: Path, note: Note, *, key: str) -> None:
    """Measure and record what is asked for."""
    if set(ids) & {"payload_ratio", "switch_resident_us", "switch_resident_paced_us", "switch_active_ms"}:
        _, programs = _resnet56(scratch)
        if "payload_ratio" in ids:
            note(
                "payload_ratio", round(payload_ratio(programs), 4), unit="x", goal="<= 1.05", key=key,
                anchor="about 1.9, the sum of the programs",
                about="one xz stream of 4 widths of a trained ResNet-56, shared batch norm, over the widest alone",
            )  # fmt: skip
        _switches(ids, programs, note, key)
    if "latency_ratio_25" in ids:
        _latency(scratch, note, key)


def _switches(ids: Sequence[str], programs: Sequence[LoweredProgram], note: Note, key: str) -> None:
    paces = {
        "switch_resident_us": (0.0, "back to back", "< 40"),
        "switch_resident_paced_us": (0.02, "every 20 ms", None),
    }
    for figure, (pause_s, pace, goal) in paces.items():
        if figure not in ids:
            continue
        found = switch_resident(programs, rounds=30 if pause_s else 100, pause_s=pause_s)
        cold = statistics.median(found.cold_us)
        note(
            figure, round(statistics.median(found.added_us), 1), unit="us", goal=goal, key=key,
            spread=_quartiles(found.added_us), anchor="< 40 us (two layers, microcontroller)",
            about="ResNet-56, all widths resident: the first prediction after a switch over a steady one, predictions "
            f"{pace}; of it {cold:.0f} us are cold caches, without any switch",
        )  # fmt: skip
    if "switch_active_ms" in ids:
        switched = [
            switch_active(programs, before=before, after=after, rounds=30)
            for before, after in (("w25", "w100"), ("w100", "w25"))
        ]
        values = [value for one in switched for value in one.first_ms]
        answers = statistics.median(count for one in switched for count in one.answers)
        note(
            "switch_active_ms", round(statistics.median(values), 2), unit="ms", goal="< 50", spread=_quartiles(values),
            about=f"ResNet-56, a width that is not loaded: from the call to its first answer; the old one gave "
            f"{answers:g} answers meanwhile", key=key,
        )  # fmt: skip


def _latency(scratch: Path, note: Note, key: str) -> None:
    found: list[float] = []
    for nested, level in _resnet20x2(scratch):
        graphs = {"w100": extract(nested, "w100"), "w25": extract(nested, level.name)}
        wide, narrow = lower_widths(graphs, scratch / f"resnet20x2_{level.macs}")
        ratios = latency_ratio(wide, narrow)
        print(f"{level.share:.1%} of MACs, {list(level.widths.values())}: {statistics.median(ratios):.3f}", flush=True)
        if not found or statistics.median(ratios) > statistics.median(found):
            found, chosen = ratios, level
        if statistics.median(found) >= LATENCY_GOAL:
            break
    note(
        "latency_ratio_25", round(statistics.median(found), 3), unit="x", goal=f">= {LATENCY_GOAL}",
        spread=_quartiles(found), anchor="3.5 (Pixel 6, DS-CNN S)", key=key,
        about="ResNet-20 x2, ExecuTorch, one thread: latency at 100 % over that of a level of at most 25 % of the MACs "
        f"({chosen.share:.1%}): of those that a search by measured times of layers finds, the widest whose program is "
        "fast enough, else the fastest",
    )  # fmt: skip


def _resnet56(scratch: Path) -> tuple[Nested, tuple[LoweredProgram, ...]]:
    nested = _nested("cifar10_resnet56", (0.25, 0.5, 0.75, 1.0), Rules(floor=4))
    graphs = {level.name: extract(nested, level.name) for level in reversed(nested.levels)}
    return nested, lower_widths(graphs, scratch / "resnet56")


def _resnet20x2(scratch: Path) -> Iterator[tuple[Nested, Level]]:
    """The network with levels that cost no more than a quarter of the MACs, the widest by layers' times first."""
    graph = capture(adapter("resnet_cifar.py:cifar100_resnet20x2")().eval(), SHAPE)
    operators = macs_by_node(graph, coupling_groups(graph))
    times = measure_layers(operators, scratch / "resnet20x2_layers.json", multiple=16, progress=Printed("layers"))
    seen: list[dict[str, int]] = []
    for percent in range(30, 19, -1):
        nested = _nested("cifar100_resnet20x2", (percent / 100, 1.0), Rules(multiple=16, cost=times))
        level = nested.levels[0]
        if level.share <= 0.25 and level.widths not in seen:
            seen.append(level.widths)
            yield nested, level


def _nested(network: str, budgets: Sequence[float], rules: Rules) -> Nested:
    graph = capture(adapter(f"resnet_cifar.py:{network}")().eval(), SHAPE)
    coupling = coupling_groups(graph)
    scores = order_units(graph, coupling, unit_scores(graph, coupling, "magnitude"))
    return Nested(graph, coupling, choose_levels(graph, coupling, scores, budgets, rules=rules).levels)


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(np.asarray(values), [25, 75])
    return round(float(low), 3), round(float(high), 3)


def missing(wanted: set[str], has: Callable[[str, Any], bool], key: str) -> list[str]:
    """The ids that are asked for and not measured with this code."""
    return [name for name in IDS if (not wanted or name in wanted) and not has(name, key)]
