"""The picture of nested widths for the docs: accuracy over true multiply-accumulates, ours beside every control."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fronts import Panel, Series, draw_fronts

STYLES = {
    "best": ("importance, exact search", "own"),
    "bestuniform": ("uniform width", "uniform"),
    "bestmagnitude": ("magnitude, exact search", "magnitude"),
    "bestrandom": ("random order, exact search", "random"),
    "alone": ("each level trained alone, from nothing", "control"),
}


def draw_widths(
    path: Path, results: Callable[[str, int, str], dict[int, dict[str, Any]]], titles: Mapping[str, str]
) -> None:
    """Means over seeds on test, a panel for each network that has runs.

    Args:
        path: of the picture.
        results: of a network, a number of levels and a method, by seed.
        titles: of networks.
    """
    panels = []
    for network, title in titles.items():
        drawn = []
        for method, (name, css) in STYLES.items():
            runs = [*results(network, 4, method).values()]
            if runs:
                levels = zip(*(run["levels"] for run in runs), strict=True)
                points = [(100 * _mean(level, "share"), 100 * _mean(level, "test")) for level in levels]
                drawn.append(Series(name, css, (*points,), joined=css != "control"))
        if drawn:
            every = [accuracy for one in drawn for _, accuracy in one.points]
            room = 0.08 * (max(every) - min(every))
            panels.append(Panel(title, (15.0, 102.0), (min(every) - room, max(every) + room), (*drawn,)))
    if panels:
        draw_fronts(
            path, panels, title="Nested widths: accuracy on test over true multiply-accumulates, means over seeds",
            cost="multiply-accumulates, % of the network", accuracy="accuracy on test, %",
        )  # fmt: skip


def _mean(level: tuple[dict[str, Any], ...], name: str) -> float:
    return statistics.mean(float(one[name]) for one in level)
