"""Small models, devices and records for mappings, made by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.device import Processing
from ebbtide.exits import ExitKey, Records
from ebbtide.search import admissible_thresholds, fewer_thresholds
from ebbtide.search.mapping_blocks import Block, BlockGraph
from ebbtide.search.mapping_problem import MappingProblem, mapping_problem
from ebbtide.search.mapping_score import Goal, Scoring

CLASSES = 4
ASSUMED = "made up for a test"


def block(
    name: str, macs: int, *, weights: int = 1000, peak: int = 2000, output: int = 400, ops: str = "conv2d"
) -> Block:
    operators = ops.split()
    return Block(name, macs, weights, peak, output, frozenset(operators), operators[0])


def blocks(count: int = 4) -> BlockGraph:
    stages = tuple(block(f"b{i}", 1_000_000 + 200_000 * i, output=4000 // (i + 1)) for i in range(count))
    return BlockGraph(stages, block("head", 50_000, ops="linear"), input_bytes=3000)


def stated(value: Any) -> dict[str, Any]:
    return {"value": value, "assumption": ASSUMED}


def processor(name: str, macs_per_s: float, kind: str = "cpu", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "macs_per_s": stated(macs_per_s)} | {k: stated(v) for k, v in more.items()}


def link(start: str, end: str, bytes_per_s: float = 1e8, latency_us: float = 100.0) -> dict[str, Any]:
    return {"start": start, "end": end, "bytes_per_s": stated(bytes_per_s), "latency_us": stated(latency_us)}


def device(*processors: dict[str, Any], links: list[dict[str, Any]] | None = None) -> Processing:
    names = [one["name"] for one in processors]
    chain = [link(*pair) for pair in itertools.pairwise(names)] if links is None else links
    return Processing.model_validate({"processors": list(processors), "links": chain})


def two_processors(**npu: Any) -> Processing:
    return device(processor("cpu", 2e9), processor("npu", 2e10, "npu", **npu))


def problem(
    processing: Processing | None = None,
    *,
    stages: int = 4,
    types: tuple[str, ...] = ("pool-linear",),
    macs: int = 20_000,
) -> MappingProblem:
    graph = blocks(stages)
    keys = [ExitKey(position, kind) for position in graph.candidates for kind in types]
    exits = {key: block(str(key), macs * (1 + types.index(key.type)), weights=500, ops="linear") for key in keys}
    return mapping_problem(graph, exits, processing or two_processors())


def records_of(keys: tuple[ExitKey, ...], count: int = 300, *, seed: int = 0) -> Records:
    """Exits that grow better with depth, and whose confidence tells something."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, count)
    hardness = generator.normal(0, 1, count)
    predictions, confidences = [], []
    for row in range(len(keys) + 1):
        sure = 0.5 + 1.5 * row / max(len(keys), 1) - hardness + generator.normal(0, 0.6, count)
        right = generator.random(count) < 1 / (1 + np.exp(-1.5 * sure))
        predictions.append(np.where(right, labels, (labels + generator.integers(1, CLASSES, count)) % CLASSES))
        confidences.append(np.maximum(sure, -np.log(CLASSES - 1)))  # the bound that every exit keeps
    return Records(keys, labels, np.array(predictions), np.array(confidences, np.float32), "w100", "float32", "select")


def choices_of(records: Records) -> list[NDArray[np.float32]]:
    return [admissible_thresholds(row, classes=CLASSES) for row in records.confidences[:-1]]


def scoring_of(
    mapped: MappingProblem, records: Records, *, grid: int = 8, goal: Goal | None = None, base_us: float = 2000.0
) -> Scoring:
    pairs = zip(choices_of(records), records.confidences[:-1], strict=True)
    return Scoring(
        mapped,
        records,
        grids=[fewer_thresholds(*pair, grid) for pair in pairs],
        goal=goal or Goal(),
        base_us=base_us,
        metric="accuracy",
        classes=CLASSES,
    )
