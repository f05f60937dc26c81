"""The test split, read once, after everything is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.choice import Table, score_row
from ebbtide.build.outside import OutsideRule, rates_on_test, record_test
from ebbtide.build.programs import RECORDING, Programs, WidthProgram
from ebbtide.build.project import LOWERING, read_json
from ebbtide.steps import write_json

if TYPE_CHECKING:
    from ebbtide.exits import Records


@dataclass(frozen=True)
class Evaluation:
    """What was measured on test, and the classes and reliability behind it.

    Attributes:
        configurations: by id: ``value`` and ``shares``.
        dense_value: metric of the one-method program on test.
        dense_select: the same on select.
        n: samples of test.
        classes: rows with ``name``, ``n``, ``accuracy`` by configuration id, ``dense``.
        reliability: by exit and head, with the width in front where it is not the widest: bins with ``n``,
            ``probability``, ``accuracy``.
        untempered: the same at a temperature of 1.
        outside: by configuration id, how outside and inside are told apart; empty where the recipe asks for none.
        openings: how many different choices the test split was ever opened for.
    """

    configurations: dict[str, dict[str, Any]]
    dense_value: float
    dense_select: float
    n: int
    classes: list[dict[str, Any]]
    reliability: dict[str, list[dict[str, Any]]]
    untempered: dict[str, list[dict[str, Any]]]
    outside: dict[str, dict[str, Any]]
    openings: int


def choices_of(programs: Programs, table: Table, rule: OutsideRule | None) -> dict[str, Any]:
    """Everything that was chosen before test is opened, to be frozen."""
    choices = {"table": table.content, "programs": [program.sha256 for program in programs.all]}
    return choices if rule is None else {**choices, "outside": rule.content}


def evaluate_on_test(programs: Programs, table: Table, rule: OutsideRule | None = None) -> Evaluation:
    """Open the test split for the choices made, run the programs over it, and score every configuration."""
    universal, project = programs.universal, programs.project
    choices = choices_of(programs, table, rule)
    inputs = {**choices, "data": universal.facts["digest"], **project.inputs("metric")}
    if rule is not None:
        inputs["others"] = universal.facts["outside"]["digest"]

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.build.recording import record_to
        from ebbtide.data import FrozenChoices

        # Opened once, for all widths together.
        frozen = FrozenChoices.of(choices)
        test = universal.dataset.test.open(frozen)
        for program in programs.all:
            record_to(
                folder / f"{program.id}.npz",
                program,
                [test],
                project=project,
                split_name="test",
                label=f"Testing {program.id}",
            )
        others = universal.dataset.outside_test
        if rule is not None and others is not None:
            record_test(programs, others.open(frozen), folder)
        outside = {} if rule is None else rates_on_test(programs, table, rule, folder)
        write_json(folder / "evaluation.json", {**_scores(programs, table, folder), "outside": outside})

    folder = project.step(
        "test", inputs, produce, code=("ebbtide.search", "ebbtide.exits", *RECORDING), libraries=LOWERING
    )
    found = read_json(folder / "evaluation.json")
    from ebbtide.data.seal import read_opening_log

    openings = len(set(read_opening_log(project.store.root / "openings" / universal.data.name)))
    if openings > 1:
        project.notice(
            "warning",
            "test split",
            f"it has been opened for {openings} different sets of choices; if its numbers steered any of them, "
            "they promise too much.",
        )
    return Evaluation(**found, openings=openings)


def _scores(programs: Programs, table: Table, folder: Path) -> dict[str, Any]:
    from ebbtide.build.scores import metric_of

    metric, names = programs.project.recipe.metric, programs.universal.facts["classes"]
    records = {
        one.width: programs.load_records(folder / f"{one.program.id}.npz", one.program) for one in programs.widths
    }
    dense = programs.load_records(folder / f"{programs.dense.id}.npz", programs.dense)
    select = programs.dense_records()
    configurations, right = {}, {}
    for row in table.rows:
        mine = records[row.width]
        found = score_row(mine, programs.of(row.width), row, metric=metric, classes=len(names))
        configurations[row.id] = {
            "value": found.value,
            "shares": list(found.shares),
            "mean_macs": found.mean_cost,
        }
        right[row.id] = _right(mine, row.row(mine.positions))
    dense_right = dense.predictions[-1] == dense.labels
    classes = []
    for index, name in enumerate(names):
        those = dense.labels == index
        if not those.any():
            continue
        classes.append(
            {
                "name": name,
                "n": int(those.sum()),
                "accuracy": {key: float(values[those].mean()) for key, values in right.items()},
                "dense": float(dense_right[those].mean()),
            }
        )
    return {
        "configurations": configurations,
        "dense_value": metric_of(metric, dense.predictions[-1], dense.labels, len(names)),
        "dense_select": metric_of(metric, select.predictions[-1], select.labels, len(names)),
        "n": len(dense),
        "classes": classes,
        "reliability": _reliability(programs, records),
        "untempered": _reliability(
            programs, {one.width: _untempered(one, records[one.width], folder) for one in programs.widths}
        ),
    }


def _untempered(one: WidthProgram, records: Records, folder: Path) -> Records:
    from ebbtide.build.recording import untempered_file

    values = np.load(untempered_file(folder / f"{one.program.id}.npz"), allow_pickle=False)
    return replace(records, confidences=values)


def _reliability(programs: Programs, records: Mapping[str, Records]) -> dict[str, list[dict[str, float]]]:
    return {
        place_name(programs, width, name): _bins(mine, row)
        for width, mine in records.items()
        for row, name in enumerate([*(f"exit{p}" for p in mine.positions), "head"])
    }


def place_name(programs: Programs, width: str, method: str) -> str:
    """What a report calls an exit or head: its method, with the width in front where it is not the widest."""
    return method if width == programs.widest.width else f"{width}/{method}"


def _right(records: Records, thresholds: Any) -> Any:
    from ebbtide.search import leaving

    rows = leaving(records, thresholds)
    return records.predictions[rows, np.arange(len(records))] == records.labels


def _bins(records: Records, row: int, count: int = 10) -> list[dict[str, float]]:
    """Samples by probability of their best class, in intervals of equal width; empty ones are left out."""
    chances = 1.0 / (1.0 + np.exp(-records.confidences[row].astype(np.float64)))
    right = records.predictions[row] == records.labels
    where = np.minimum((chances * count).astype(int), count - 1)
    return [
        {"n": int(mine.sum()), "probability": float(chances[mine].mean()), "accuracy": float(right[mine].mean())}
        for mine in (where == index for index in range(count))
        if mine.any()
    ]
