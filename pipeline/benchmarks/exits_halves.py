"""All is chosen on one half of the test images and reported on the other, both ways; `exits_training.py` calls this."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from exits_ways import LIMIT_POINTS, Compared, ways
from numpy.typing import NDArray

from ebbtide.data import Split
from ebbtide.exits import ExitKey, Records, fit_temperature, record
from ebbtide.search import (
    Candidate,
    Costs,
    SearchSettings,
    Settled,
    admissible_thresholds,
    pareto,
    score,
    settle_types,
)

# 50 trade-offs; the rest is against fitting to the samples that thresholds are chosen on.
SEARCH = SearchSettings(
    trade_offs=tuple(float(odds / (1 + odds)) for odds in np.geomspace(0.5, 400.0, 50)),
    thresholds=32,
    head_share=0.75,
    folds=5,
)
MOST, WORST_DROP = 8, 2.0
# What an exit in use takes in the C++ runner beside its own multiply-accumulates: 12 us, at 65 of them a nanosecond.
OVERHEAD_MACS = 800_000


@dataclass(frozen=True)
class Told:
    """What exits and head say of all test images."""

    labels: NDArray[np.int64]
    exits: Mapping[ExitKey, NDArray[np.float32]]
    head: NDArray[np.float32]
    own: NDArray[np.float32]  # of the model as it came

    def half(self, chosen: NDArray[np.bool_], temperatures: dict[ExitKey, float], head: float, name: str) -> Records:
        logits = {key: values[chosen] for key, values in self.exits.items()}
        return record(
            self.labels[chosen], logits, self.head[chosen], temperatures=temperatures, head_temperature=head,
            level="w100", precision="float32", split=name,
        )  # fmt: skip


def halves(test: Split) -> NDArray[np.bool_]:
    """By the number in a sample's id: even ones, so that both halves hold every class alike."""
    return np.array([int(name[-6:]) % 2 == 0 for name in test.ids])


@dataclass(frozen=True)
class Halved:
    """Records of the half on which all is chosen and of the other, with temperatures of the first.

    Args:
        temperatures: of the exits.
        head: temperature of the head.
        choices: by exit row, the thresholds that may be used.
    """

    here: Records
    there: Records
    temperatures: dict[ExitKey, float]
    head: float
    choices: list[NDArray[np.float32]]

    @classmethod
    def of(cls, told: Told, chosen: NDArray[np.bool_], name: str, classes: int) -> Halved:
        temperatures = {key: fit_temperature(logits[chosen], told.labels[chosen]) for key, logits in told.exits.items()}
        head = fit_temperature(told.head[chosen], told.labels[chosen])
        here = told.half(chosen, temperatures, head, f"test-half-{name}")
        there = told.half(~chosen, temperatures, head, "test-other-half")
        choices = [admissible_thresholds(row, classes=classes) for row in here.confidences[:-1]]
        return cls(here, there, temperatures, head, choices)


def swap(told: Told, costs: Costs, chosen: NDArray[np.bool_], name: str, classes: int) -> dict[str, Any]:
    """All is chosen on some of the test images and reported on the others."""
    halved = Halved.of(told, chosen, name, classes)
    here, there, choices = halved.here, halved.there, halved.choices
    dense = {side: _dense(told, part) for side, part in (("select", chosen), ("test", ~chosen))}

    def search(settings: SearchSettings) -> Settled:
        return settle_types(
            here, costs, choices=choices, metric="accuracy", classes=classes, settings=settings, most=MOST,
            max_drop_points=WORST_DROP,
        )  # fmt: skip

    def table(settled: Settled) -> list[dict[str, Any]]:
        return [_row(one, there, costs, classes) for one in pareto(settled.candidates)]

    def cheapest(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
        kept = [row for row in rows if 100 * (dense["select"] - row["promised"]) <= LIMIT_POINTS + 1e-9]
        return min(kept, key=lambda row: row["promised_cost"]) if kept else None

    began = time.process_time()
    settled = search(SEARCH)
    seconds = time.process_time() - began
    rows = table(settled)
    alike = Compared(here, there, costs, settled.keys, classes, dense["test"])
    return {
        "dense": dense,
        "head": float((there.predictions[-1] == there.labels).mean()),
        "temperatures": {**{str(key): value for key, value in halved.temperatures.items()}, "head": halved.head},
        "settled": [str(key) for key in settled.keys],
        "settling_loss_points": [settled.mean_loss_points, settled.worst_loss_points],
        "alone": {str(key): float((there.predictions[i] == there.labels).mean()) for i, key in enumerate(there.keys)},
        "search_s": round(seconds, 2),
        "ways": ways(alike, [choices[here.keys.index(key)] for key in settled.keys], SEARCH.trade_offs),
        "rows": rows,
        "within": cheapest(rows),
        # The same where an exit in use costs what one more call does, too.
        "within_lean": cheapest(table(search(replace(SEARCH, overhead=OVERHEAD_MACS)))),
    }


def _dense(told: Told, part: NDArray[np.bool_]) -> float:
    return float((told.own[part].argmax(1) == told.labels[part]).mean())


def _row(candidate: Candidate, there: Records, costs: Costs, classes: int) -> dict[str, Any]:
    """A configuration with what it promised and what came of it on the other half."""
    found = score(there, costs, candidate.row(there.keys), metric="accuracy", classes=classes)
    return {
        "exits": {
            str(key): threshold for key, (_, threshold) in zip(candidate.keys, candidate.thresholds, strict=True)
        },
        "promised": candidate.score.value,
        "optimism": candidate.optimism,
        "measured": found.value,
        "promised_cost": candidate.score.mean_cost,
        "mean_macs": found.mean_cost,
        "cut": 1 - found.mean_cost / costs.total,
        "shares": [share for share in found.shares if share > 0],
    }
