"""Mappings of a model with exits to the example devices: exact scoring beside the path weights as published.

For each device the best mapping is found, searched with the corrected edges too, and compared with what the published
weights choose among the same mappings, thresholds and costs. Throughputs and links are those of the profiles, with
their sources and assumptions; nothing here has run on those devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from eenn_published import compare
from exits_halves import Halved, halves
from exits_training import NETWORKS, Run, told_of, trained_model
from numpy.typing import NDArray
from reds_starts import dataset

from ebbtide.data import FrozenChoices
from ebbtide.device import load_profile
from ebbtide.exits import ExitKey, Records
from ebbtide.search import fewer_thresholds
from ebbtide.search.mapping import enumerate_placements, worst_latency_us
from ebbtide.search.mapping_blocks import Block, BlockGraph, block_graph, exit_block
from ebbtide.search.mapping_drawing import mapping_drawing, rejects_drawing
from ebbtide.search.mapping_problem import mapping_problem
from ebbtide.search.mapping_score import Goal, Scoring
from ebbtide.search.mapping_search import GRID, search_mapping

PROFILES = ("example-cpu-npu", "example-cpu-gpu", "example-phone-server")
TRADE_OFF = 0.975
"""Weight of accuracy: half a point of it counts as much as a fifth of the latency without exits."""


def mapped_run(run: Run, scratch: Path) -> dict[str, dict[str, Any]] | None:
    """By device, `mapping_figures` of what a run settled on for its first half, on that half's records.

    None where the scratch folder has the run's exits no more.
    """
    found = run.result()
    assert found is not None
    keys = [ExitKey.parse(text) for text in found["swaps"][0]["settled"]]
    model = trained_model(run, keys, scratch)
    if model is None:
        return None
    cut, exits = model
    test = dataset("cifar10", scratch).test
    opened = test.open(FrozenChoices.of({"run": run.settings(), "mapped": TRADE_OFF}))
    classes = NETWORKS[run.network].classes
    halved = Halved.of(told_of(run, cut, exits, opened, scratch), halves(opened), "even", classes)
    blocks = block_graph(cut.graph, cut.names)
    exit_blocks = {key: exit_block(key, module, cut.places[key.position].shape) for key, module in exits.items()}
    return {
        profile: mapping_figures(
            profile, blocks, exit_blocks, halved.here, choices=halved.choices, classes=classes, trade_off=TRADE_OFF
        )
        for profile in PROFILES
    }


def mapping_figures(
    profile: str,
    blocks: BlockGraph,
    exits: Mapping[ExitKey, Block],
    records: Records,
    *,
    choices: Sequence[NDArray[np.float32]],
    classes: int,
    trade_off: float,
    limit_us: float | None = None,
    most_exits: int = 2,
    grid: int = GRID,
) -> dict[str, Any]:
    """What one device gets, as JSON values; objectives are on *select*, where all was chosen."""
    processing = load_profile(profile).processing
    assert processing is not None
    problem, goal = mapping_problem(blocks, exits, processing), Goal(trade_off)
    settings: dict[str, Any] = {"choices": choices, "goal": goal, "metric": "accuracy", "classes": classes}
    settings |= {"limit_us": limit_us, "most_exits": most_exits, "grid": grid}
    exact = search_mapping(problem, records, method="exact", **settings)
    drawn: dict[str, Any] = {
        "profile": profile,
        "trade_off": trade_off,
        "processing": processing.to_json(),
        "why_not": rejects_drawing(problem, exact.enumeration),
    }
    if exact.best is None:
        return drawn
    edges = search_mapping(problem, records, method="edges", **settings)
    assert edges.best is not None
    possible = enumerate_placements(problem, limit_us=limit_us, most_exits=most_exits)
    base_us = min(worst_latency_us(problem, one) for one in possible.feasible if not one.exits)
    grids = [fewer_thresholds(*pair, grid) for pair in zip(choices, records.confidences[:-1], strict=True)]
    scoring = Scoring(problem, records, grids=grids, goal=goal, base_us=base_us, metric="accuracy", classes=classes)
    drawn |= {
        "mapping": mapping_drawing(problem, exact.best.placement, exact.best),
        "objective": exact.best.objective,
        "without_exits_us": base_us,
        "edges": {"objective": edges.best.objective, "gap": edges.best.gap, "largest_gap": edges.largest_gap},
    }
    for name, some_exit in (("published", False), ("published_with_an_exit", True)):
        found = compare(scoring, possible, exact.best, some_exit=some_exit)
        drawn[name] = {
            "mapping": mapping_drawing(problem, found.published.placement, found.published),
            "objective": found.published.objective,
            "objective_excess": found.objective_excess,
            "cost_excess_us": found.cost_excess_us,
            "points_lost": found.points_lost,
        }
    return drawn
