"""Outside detection of a build: thresholds for every configuration, and answers as the runtime gives them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ebbtide.build.choice import Row, Table
from ebbtide.build.outside import OutsideRule, _choose, outside_answers, rates_on_test
from ebbtide.build.programs import Program
from ebbtide.build.recording import Recorded
from ebbtide.bundle.manifest import OutsideEntry
from ebbtide.exits import ExitKey, Records
from ebbtide.exits.records import confidences
from ebbtide.recipe import OutsideSection, Recipe
from ebbtide.runtime import Step, Visit, answer, energy
from ebbtide.search import leaving

CLASSES, SELECTED, EXTRA, TESTED, OTHERS = 4, 300, 40, 200, 250
WIDTHS = {"w100": (0, 1.0), "w50": (1, 6.0)}
KEYS = (ExitKey(0, "pool-linear"), ExitKey(1, "pool-linear"))
SHARE = 0.06


def logits_of(seed: int, count: int, *, inside: bool, size: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Labels, and logits (3, count, classes) of two exits and a head that get surer; less so for other classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    sure = np.array([1.5, 3.0, 6.0])[:, None, None] * (1.0 if inside else 0.35)
    logits = rng.normal(0, 0.7, (3, count, CLASSES)) + sure * (np.arange(CLASSES) == labels[:, None])
    return labels, (size * logits).astype(np.float32)


def recorded(width: str, logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> Recorded:
    said = [confidences(row, 1.3) for row in logits]
    return Recorded(
        Records(
            KEYS,
            labels,
            np.stack([best for best, _ in said]),
            np.stack([sure for _, sure in said]),
            level=width,
            precision="float32",
            split="select",
        ),
        np.array([[energy(one) for one in row] for row in logits]),
        np.stack([confidences(row, 1.0)[1] for row in logits]),
    )


@dataclass
class Width:
    """What outside detection asks of a width's program."""

    width: str
    program: Program
    records_file: Path
    candidates: Any


class Programs:
    """What outside detection asks of a build: records in files, as a build leaves them."""

    def __init__(self, folder: Path, section: OutsideSection) -> None:
        base = {"model": {"timm": "a"}, "data": {"digits": True}, "training": {}}
        recipe = Recipe.model_validate(base | {"outside": section.model_dump()})
        self.project = SimpleNamespace(recipe=recipe)
        self.widths, self.others, self.logits = [], {}, {}
        for width, (seed, size) in WIDTHS.items():
            program = Program(f"{width}-f32-cpu", width, folder / "none.pte", "", 0, ())
            labels, logits = logits_of(seed, SELECTED + EXTRA, inside=True, size=size)
            recorded(width, logits, labels).save(folder / f"{width}.npz")
            self.logits[width] = logits
            labels, logits = logits_of(seed + 10, OTHERS, inside=False, size=size)
            recorded(width, logits, labels).save(folder / f"{width}.others.npz")
            self.others[width] = folder / f"{width}.others.npz"
            candidates = SimpleNamespace(selected=SELECTED)
            self.widths.append(Width(width, program, folder / f"{width}.npz", candidates))

    def of(self, width: str) -> Width:
        return next(one for one in self.widths if one.width == width)

    def load_records(self, file: Path, program: Program) -> Records:
        return Records.load(file, level=program.width, precision="float32")

    def test(self, folder: Path, *, others: bool) -> None:
        """Records of test as `evaluate_on_test` leaves them."""
        for width, (seed, size) in WIDTHS.items():
            labels, logits = logits_of(seed + 20, TESTED, inside=True, size=size)
            recorded(width, logits, labels).save(folder / f"{width}-f32-cpu.npz")
            if others:
                labels, logits = logits_of(seed + 30, OTHERS, inside=False, size=size)
                recorded(width, logits, labels).save(folder / f"{width}-f32-cpu.outside.npz")


ROWS = (
    Row("c0", "w100", {0: 1.4, 1: 2.0}, 0.9, 100.0, (0.4, 0.3, 0.3)),
    Row("dense", "w100", {}, 0.95, 200.0, (0.0, 0.0, 1.0)),
    Row("w50-c2", "w50", {1: 9.0}, 0.8, 50.0, (0.0, 0.5, 0.5)),
)
TABLE = Table(ROWS, ("c0", "w50-c2"), (), {})


@pytest.fixture(params=["energy", "confidence"])
def chosen(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Programs, OutsideRule]:
    section = OutsideSection(score=request.param, false_outside=SHARE)
    programs: Any = Programs(tmp_path, section)
    return programs, OutsideRule(section.score, None, _choose(programs, TABLE, programs.others))


def test_every_configuration_keeps_the_share_with_a_threshold_for_each_place_on_its_path(chosen: Any) -> None:
    _, rule = chosen
    assert [set(rule.thresholds(row)) for row in ROWS] == [{"exit0", "exit1", "head"}, {"head"}, {"exit1", "head"}]
    for row in ROWS:
        found = rule.select(row)
        assert (found["inside"], found["outside"]) == (SELECTED, OTHERS)
        assert SHARE - 0.02 < found["false_outside"] <= SHARE
        assert found["auroc"] > 0.75
    # The head alone tells best; an exit knows less.
    assert rule.select(ROWS[1])["auroc"] == max(rule.select(row)["auroc"] for row in ROWS)


def test_answers_are_those_of_the_runtime_on_the_same_outputs(chosen: Any) -> None:
    programs, rule = chosen
    entry = OutsideEntry(score=rule.score, fallback=None)
    for row in ROWS:
        records = programs.load_records(programs.of(row.width).records_file, programs.of(row.width).program)
        places = leaving(records, row.row(records.positions))
        found = []
        for sample in range(SELECTED):
            name = ("exit0", "exit1", "head")[places[sample]]
            step = Step(f"p/{name}", name, lambda *_: (), False, None, 0, 0, outside=rule.thresholds(row)[name])
            logits = programs.logits[row.width][places[sample], sample]
            confidence = float(records.confidences[places[sample], sample])
            found.append(answer(Visit(step, logits, confidence, logits, ()), entry)[1])
        assert outside_answers(programs, row, rule).tolist() == found
        assert sum(found) > 0


def test_test_is_measured_with_what_select_chose(chosen: Any, tmp_path: Path) -> None:
    programs, rule = chosen
    folder = tmp_path / "test"
    folder.mkdir()
    programs.test(folder, others=True)
    found = rates_on_test(programs, TABLE, rule, folder)
    assert set(found) == {row.id for row in ROWS}
    for row in ROWS:
        rates = found[row.id]
        assert (rates["inside"], rates["outside"]) == (TESTED, OTHERS)
        assert rates["false_outside"] < 2.5 * SHARE
        assert rates["auroc"] == pytest.approx(rule.select(row)["auroc"], abs=0.08)
        assert rates["right_and_inside"] <= 1 - rates["false_outside"]


def test_what_is_missed_is_unknown_where_there_are_no_other_classes(chosen: Any, tmp_path: Path) -> None:
    programs, _ = chosen
    section = programs.project.recipe.outside
    rule = OutsideRule(section.score, None, _choose(programs, TABLE, dict.fromkeys(WIDTHS)))
    folder = tmp_path / "test"
    folder.mkdir()
    programs.test(folder, others=False)
    for facts in (*(rule.select(row) for row in ROWS), *rates_on_test(programs, TABLE, rule, folder).values()):
        assert (facts["outside"], facts["auroc"], facts["false_inside"]) == (0, None, None)
        assert facts["false_outside"] < 2.5 * SHARE
