"""The picture of class-specific sparsity for the docs: what is lost against the dense rival, over what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fronts import Panel, Series, draw_fronts
from numpy.typing import NDArray

SERIES = {
    "channels": ("channels taken out", "own"),
    "channels-others": ("the same, images of other classes beside", "magnitude"),
    "hybrid": ("blocks and 2:4, masked: as slow as the dense network", "random"),
}
SHOWN = (2.5, 110.0)


def draw_drops(
    path: Path,
    methods: Sequence[str],
    kept: Callable[[str], float],
    difference: Callable[[str], tuple[list[int], NDArray[Any], Any]],
) -> None:
    """Points below dense fine-tuned over the share that is left, ten classes.

    Args:
        path: of the picture.
        methods: such as ``channels-10`` and ``channels-10-others``.
        kept: the share that a method leaves, 0..1.
        difference: seeds, and for each test sample right of its rival minus right of the method.
    """
    points: dict[str, list[tuple[float, float]]] = {kind: [] for kind in SERIES}
    for method in methods:
        kind = method.split("-")[0] + ("-others" if method.endswith("-others") else "")
        seeds, each, _ = difference(method)
        if seeds:
            points[kind].append((100 * kept(method), -100 * float(each.mean())))
    drawn = [Series(*SERIES[kind], (*sorted(found),)) for kind, found in points.items() if found]
    if drawn:
        lowest = min(loss for one in drawn for _, loss in one.points)
        panel = Panel(
            "ResNet-20 x2, 10 of 100 classes of CIFAR-100", SHOWN, (lowest - 0.5, 1.0), (*drawn,), 0.0, logarithmic=True
        )
        draw_fronts(
            path, [panel], title="Class-specific sparsity: accuracy against dense fine-tuned over what is left",
            cost="multiply-accumulates or weights left, %", accuracy="accuracy over dense fine-tuned, points",
        )  # fmt: skip
