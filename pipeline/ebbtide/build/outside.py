"""Outside detection: thresholds chosen on what the lowered programs said of select, measured on test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.choice import Row, Table
from ebbtide.build.programs import RECORDING, Programs, WidthProgram
from ebbtide.build.project import LOWERING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.data import Split
    from ebbtide.exits import Records
    from ebbtide.recipe.outside import ScoreName
    from ebbtide.search import Scales, Strangeness

WEAK_AUROC = 0.6
"""A choice that tells other classes apart no better than this is warned of; 0.5 is chance."""


@dataclass(frozen=True)
class OutsideRule:
    """When each configuration answers "outside".

    Attributes:
        score: ``energy`` or ``confidence``.
        fallback: the bundle to ask instead.
        content: by configuration id its ``thresholds`` (score by method) and what it does on ``select``; by width the
            ``scales`` of its places. JSON, for keys of later steps and for sealing.
    """

    score: ScoreName
    fallback: str | None
    content: dict[str, Any]

    def thresholds(self, row: Row) -> dict[str, float]:
        """The score above which an answer is outside, by exit and head of the row's path."""
        found: dict[str, float] = self.content["configurations"][row.id]["thresholds"]
        return found

    def select(self, row: Row) -> dict[str, Any]:
        """What the row does on select."""
        found: dict[str, Any] = self.content["configurations"][row.id]["select"]
        return found


def choose_rule(programs: Programs, table: Table) -> OutsideRule | None:
    """Thresholds for every configuration, or None where the recipe asks for none.

    Each configuration answers at most the recipe's share of the class set's samples of select outside by mistake; how
    much of the other classes it lets through is measured there, too.
    """
    project = programs.project
    section = project.recipe.outside
    if section is None:
        return None
    others = {one.width: record_others(programs, one) for one in programs.widths}
    inputs = {
        "table": table.content,
        "records": {one.width: project.store.digest(one.records_file) for one in programs.widths},
        "others": {width: project.store.digest(file) for width, file in others.items() if file is not None},
        **project.inputs("outside.score", "outside.false_outside"),
    }
    content = project.json_step("outside", inputs, lambda: _choose(programs, table, others), code=("ebbtide.search",))
    rule = OutsideRule(section.score, section.fallback, content)
    _tell(programs, table, rule)
    return rule


def record_others(programs: Programs, one: WidthProgram) -> Path | None:
    """What a width's program says of select samples of other classes; None without any."""
    universal, project = programs.universal, programs.project
    if not outside_counts(universal.facts)["select"]:
        return None
    program = one.program
    inputs = {
        "level": one.width,
        "precision": project.recipe.precision,
        "program": program.sha256,
        "types": {str(position): kind for position, kind in program.exit_types.items()},
        "data": universal.facts["outside"]["digest"],
    }

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.build.recording import record_to

        split = universal.dataset.outside_select
        assert split is not None
        record_to(
            folder / "records.npz",
            program,
            [split],
            project=project,
            split_name=split.name,
            label=f"Recording other classes, {program.id}",
        )

    return project.step("outside-records", inputs, produce, code=RECORDING, libraries=LOWERING) / "records.npz"


def outside_counts(facts: Mapping[str, Any]) -> dict[str, int]:
    """How many samples of other classes a prepared data set keeps, for select and test."""
    from ebbtide.data.others import SELECT, TEST

    kept = facts["outside"]
    counts: dict[str, int] = kept["counts"] if kept else {}
    return {"select": counts.get(SELECT, 0), "test": counts.get(TEST, 0)}


def record_test(programs: Programs, test: Split, folder: Path) -> None:
    """Run every width's program over the opened test samples of other classes; the records go into a folder."""
    from ebbtide.build.recording import record_to

    for one in programs.widths:
        record_to(
            folder / f"{one.program.id}.outside.npz",
            one.program,
            [test],
            project=programs.project,
            split_name=test.name,
            label=f"Testing other classes, {one.program.id}",
        )


def rates_on_test(programs: Programs, table: Table, rule: OutsideRule, folder: Path) -> dict[str, dict[str, Any]]:
    """What every configuration's thresholds do on test, by id.

    Args:
        programs, table, rule: what was chosen.
        folder: holds records of test, and of the other classes if there are any.
    """
    found = {}
    for one in programs.widths:
        files = (folder / f"{one.program.id}.npz", folder / f"{one.program.id}.outside.npz")
        inside, others = _Said.load(programs, one, files[0]), None
        if files[1].exists():
            others = _Said.load(programs, one, files[1])
        scales = _scales(rule.content["scales"][one.width])
        for row in table.rows:
            if row.width == one.width:
                thresholds = _by_place(inside.records, rule.thresholds(row))
                found[row.id] = _rates(inside, others, row, rule.score, thresholds, scales)
    return found


@dataclass(frozen=True)
class _Said:
    """Records of a program with the energies of its answers."""

    records: Records
    energies: NDArray[np.float64]

    @classmethod
    def load(cls, programs: Programs, one: WidthProgram, file: Path) -> _Said:
        from ebbtide.build.recording import energies_file

        energies = np.load(energies_file(file), allow_pickle=False)
        return cls(programs.load_records(file, one.program), energies)

    def first(self, count: int) -> _Said:
        return _Said(self.records.first(count), self.energies[:, :count])

    def scores(self, score: str) -> NDArray[np.float64]:
        """(E + 1, n), higher is stranger; as `ebbtide.runtime.strangeness`."""
        return self.energies if score == "energy" else -self.records.confidences.astype(np.float64)

    def at(self, row: Row, score: str) -> Strangeness:
        """Where a configuration answers each sample, and how strange it looks there."""
        from ebbtide.search import Strangeness, leaving

        places = leaving(self.records, row.row(self.records.positions))
        return Strangeness(places, self.scores(score)[places, np.arange(len(places))])


def outside_answers(programs: Programs, row: Row, rule: OutsideRule) -> NDArray[np.bool_]:
    """Which samples of select a configuration answers outside, from its program's records."""
    from ebbtide.search import is_outside

    one = programs.of(row.width)
    said = _Said.load(programs, one, one.records_file).first(one.candidates.selected)
    return is_outside(said.at(row, rule.score), _by_place(said.records, rule.thresholds(row)))


def _choose(programs: Programs, table: Table, others_files: Mapping[str, Path | None]) -> dict[str, Any]:
    from ebbtide.search import Scales, choose_outside

    section = programs.project.recipe.outside
    assert section is not None
    configurations, all_scales = {}, {}
    for one in programs.widths:
        inside = _Said.load(programs, one, one.records_file).first(one.candidates.selected)
        file = others_files[one.width]
        others = None if file is None else _Said.load(programs, one, file)
        scales = Scales.of(inside.scores(section.score))
        all_scales[one.width] = {"means": scales.means.tolist(), "deviations": scales.deviations.tolist()}
        for row in table.rows:
            if row.width != one.width:
                continue
            thresholds = choose_outside(
                inside.at(row, section.score),
                None if others is None else others.at(row, section.score),
                scales,
                false_outside=section.false_outside,
            )
            names = _places(inside.records)
            used = {name: float(t) for name, t in zip(names, thresholds, strict=True) if name in _on_path(row)}
            select = _rates(inside, others, row, section.score, thresholds, scales)
            configurations[row.id] = {"thresholds": used, "select": select}
    return {"configurations": configurations, "scales": all_scales}


def _rates(
    inside: _Said, others: _Said | None, row: Row, score: str, thresholds: NDArray[np.float32], scales: Scales
) -> dict[str, Any]:
    from ebbtide.search import is_outside, rates

    found = inside.at(row, score)
    right = inside.records.predictions[found.places, np.arange(len(found))] == inside.records.labels
    told = rates(found, None if others is None else others.at(row, score), thresholds, scales)
    return {**told.to_json(), "right_and_inside": float((right & ~is_outside(found, thresholds)).mean())}


def _places(records: Records) -> list[str]:
    """Names of the methods that answer, in the order of the rows."""
    return [*(f"exit{position}" for position in records.positions), "head"]


def _on_path(row: Row) -> set[str]:
    return {*(f"exit{position}" for position in row.thresholds), "head"}


def _by_place(records: Records, thresholds: Mapping[str, float]) -> NDArray[np.float32]:
    """Thresholds by row; where an exit is off nothing is answered, so any will do."""
    return np.array([thresholds.get(name, 0.0) for name in _places(records)], dtype=np.float32)


def _scales(content: Mapping[str, Any]) -> Scales:
    from ebbtide.search import Scales

    return Scales(np.array(content["means"]), np.array(content["deviations"]))


def _tell(programs: Programs, table: Table, rule: OutsideRule) -> None:
    """What a user must know of the choice."""
    row = next(row for row in table.rows if row.id == table.tiers[0])
    auroc = rule.select(row)["auroc"]
    if auroc is not None and auroc < WEAK_AUROC:
        programs.project.notice(
            "warning",
            "outside",
            f"other classes are hardly told from the class set by {rule.score}: AUROC {auroc:.3f} on select, tier 0.",
        )
    if rule.fallback is None:
        programs.project.notice(
            "choice", "outside", "no bundle is named to be asked instead; an application has to say what outside means."
        )
