"""The picture of early exits for the docs: the fronts of all runs that have ended, and the networks cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from exits_training import NETWORKS, Cut
from fronts import Panel, Series, draw_fronts
from reds_starts import adapter

from ebbtide.exits import ExitKey

STYLES = {"frozen": "own", "kl": "random", "joint": "magnitude"}
CUT_OFF = "the network cut off at one exit, the best type of each place"
SHOWN_SHARES = (45.0, 101.0)
SHOWN_POINTS = (-6.0, 1.0)


def draw_exits(
    path: Path, results: Callable[[str, str], dict[int, dict[str, Any]]], modes: dict[str, str], titles: dict[str, str]
) -> None:
    """Accuracy on the half that nothing was chosen on, against the network as it came, over mean MACs.

    Args:
        path: of the picture.
        results: of a network and a mode, by seed.
        modes, titles: modes and networks in words.
    """
    panels = []
    for network, title in titles.items():
        told = NETWORKS[network]
        cut = Cut(told.captured(adapter(told.make)()).eval())
        fronts = []
        for mode, css in STYLES.items():
            for found in results(network, mode).values():
                fronts += [Series(modes[mode], css, _front(swap)) for swap in found["swaps"]]
        cut_off = [
            point for found in results(network, "frozen").values() for swap in found["swaps"]
            for point in _cut_off(cut, swap)
        ]  # fmt: skip
        if fronts:
            control = Series(
                "the network cut off at one exit, the best type of each place", "control", (*cut_off,), False
            )
            panels.append(Panel(title, SHOWN_SHARES, SHOWN_POINTS, (*fronts, control), whole=0.0))
    if panels:
        draw_fronts(
            path, panels, title="Early exits: accuracy over mean multiply-accumulates, a line for each half and seed",
            cost="mean multiply-accumulates, % of the network", accuracy="accuracy over the network's, points",
        )  # fmt: skip


def _front(swap: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    points = ((100 * (1 - row["cut"]), 100 * (row["measured"] - swap["dense"]["test"])) for row in swap["rows"])
    return tuple(sorted(points))


def _cut_off(cut: Cut, swap: dict[str, Any]) -> list[tuple[float, float]]:
    """What the network is if everybody leaves at an exit, for the best one of each place."""
    keys = [ExitKey.parse(text) for text in swap["alone"]]
    costs = cut.costs(keys)
    best: dict[int, tuple[float, float]] = {}
    for key, accuracy in zip(keys, swap["alone"].values(), strict=True):
        share = 100 * (sum(costs.stages[: key.position + 1]) + float(costs.of_exits([key])[0])) / costs.total
        point = (share, 100 * (accuracy - swap["dense"]["test"]))
        best[key.position] = max(best.get(key.position, point), point, key=lambda one: one[1])
    return [best[position] for position in sorted(best)]
