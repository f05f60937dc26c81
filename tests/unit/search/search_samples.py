"""Records of exits that grow better with depth, and an evaluator that goes sample by sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ebbtide.exits import ExitKey, Records
from ebbtide.search import Costs, Problem, every_threshold, metric_weights

CLASSES = 4
STAGES, HEAD = (10.0, 20.0, 30.0, 25.0), 15.0
TYPES = {"small": 1.0, "large": 3.0}


def random_records(
    count: int,
    positions: Sequence[int],
    *,
    seed: int,
    types: Sequence[str] = ("small",),
    decimals: int | None = None,
    split: str = "select",
) -> Records:
    """Exits whose confidence tells something; rounded to so many decimals, many of them tie."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, count)
    keys = tuple(ExitKey(p, kind) for p in positions for kind in sorted(types))
    hardness = generator.normal(0, 1, count)
    predictions, confidences = [], []
    for row in range(len(keys) + 1):
        depth = positions.index(keys[row].position) / len(positions) if row < len(keys) else 1.0
        skill = 1.6 * depth + (0.4 if row < len(keys) and keys[row].type == "large" else 0.0)
        right = generator.normal(0, 1, count) + hardness < skill - 0.2
        predictions.append(np.where(right, labels, (labels + generator.integers(1, CLASSES, count)) % CLASSES))
        values = np.maximum(generator.normal(right * 1.5, 1.0), -np.log(CLASSES - 1))
        confidences.append(values if decimals is None else values.round(decimals))
    return Records(keys, labels, np.array(predictions), np.array(confidences, np.float32), "w100", "float32", split)


def costs_of(records: Records) -> Costs:
    """Costs of every exit by its key."""
    return Costs(STAGES, {key: TYPES[key.type] + key.position for key in records.keys}, HEAD)


def problem_of(records: Records, *, normalised: bool = False, metric: str = "accuracy") -> Problem:
    """With every threshold that tells samples apart."""
    choices = [every_threshold(row) for row in records.confidences[:-1]]
    weights = metric_weights(records.labels, metric)
    return Problem(records, costs_of(records), choices=choices, weights=weights, normalised=normalised)


def naive_score(records: Records, thresholds: np.ndarray) -> tuple[float, float]:
    """Accuracy and mean cost, one sample and one stage at a time."""
    costs = costs_of(records)
    right = paid = 0.0
    for sample in range(len(records)):
        cost, answer = 0.0, None
        for position, stage in enumerate(STAGES):
            cost += stage
            for row, key in enumerate(records.keys):
                if key.position == position and np.isfinite(thresholds[row]):
                    cost += costs.exits[key]
                    if records.confidences[row, sample] > thresholds[row]:
                        answer = records.predictions[row, sample]
            if answer is not None:
                break
        if answer is None:
            cost, answer = cost + HEAD, records.predictions[-1, sample]
        right += answer == records.labels[sample]
        paid += cost
    return right / len(records), paid / len(records)


def random_thresholds(problem: Problem, generator: np.random.Generator) -> np.ndarray:
    """At each position one exit on, or none."""
    thresholds = problem.all_off()
    for group, rows in enumerate(problem.groups):
        row = generator.choice([*rows, -1])
        if row >= 0:
            problem.set_group(thresholds, group, row, generator.choice(problem.choices[row]))
    return thresholds
