"""How long the masks of one removal take: `python pipeline/benchmarks/mask_step.py`.

MobileNetV2 at 224 x 224 with random weights and random gradients, blocks of 16, 2 of 4: the scores of all weights, the
budget over all layers, blocks, and N:M inside them. The time does not depend on the values.
"""

from __future__ import annotations

import statistics
import time

import torch
from figures import FigureFile

from ebbtide.model import capture
from ebbtide.saliency import Statistics, weight_scores
from ebbtide.sparsity.layout import Shape
from ebbtide.sparsity.masks import Masks
from ebbtide.sparsity.selection import select
from ebbtide.steps import code_digest

COMMAND = "python pipeline/benchmarks/mask_step.py"
BUDGETS = (0.5, 0.4, 0.3, 0.25)
ROUNDS = 5


def step_seconds() -> list[float]:
    """Seconds of each removal, over several rounds of all budgets."""
    import torchvision

    torch.manual_seed(0)
    graph = capture(torchvision.models.mobilenet_v2(weights=None).eval(), (3, 224, 224))
    gradients = {name: torch.rand(parameter.shape) for name, parameter in graph.module.named_parameters()}
    given = Statistics(gradients, gradients, 1, 1, "eval", None, samples=1, seed=0)
    whole = Masks.whole(graph, Shape(16, 2, 4))
    seconds = []
    for _ in range(ROUNDS):
        masks = whole
        for kept in BUDGETS:
            begin = time.perf_counter()
            names = [layer.name for layer in masks.masked]
            scores = weight_scores(graph, names, "absolute", statistics=given)
            masks = select(masks, scores, kept=kept)
            seconds.append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    file = FigureFile("crisp")
    key = ["mask_step_s", code_digest(("ebbtide.sparsity", "ebbtide.saliency"))]
    if file.has("mask_step_s", key):
        return
    seconds = step_seconds()
    found = file.record(
        "mask_step_s", value=round(statistics.median(seconds), 4), unit="s", goal="< 1", key=key, command=COMMAND,
        spread=(round(min(seconds), 4), round(max(seconds), 4)), anchor="minutes of Python loops", seeds=(0,),
        about=f"masks of one removal, MobileNetV2 at 224 x 224, b = 16, 2:4, {torch.get_num_threads()} threads",
    )  # fmt: skip
    print(found.told)


if __name__ == "__main__":
    main()
