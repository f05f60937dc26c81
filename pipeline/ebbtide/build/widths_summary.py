"""What the report shows of nested widths, gathered from the steps of a build."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ebbtide.build.bundles import packed_bytes
from ebbtide.build.choice import Row, Table
from ebbtide.build.draft import file_of
from ebbtide.build.evaluation import Evaluation
from ebbtide.build.measuring import Measurements
from ebbtide.build.nesting import Outcome
from ebbtide.build.programs import Job, Program, Programs, lower_all
from ebbtide.build.stages_summary import latency_of, stages_of
from ebbtide.build.widths import Nesting, with_shared_statistics

if TYPE_CHECKING:
    from ebbtide.report import nested

ABOUT = {
    "uniform": "the same order, and the same share of every group",
    "magnitude": "ordered and searched by the size of the weights",
    "random": "ordered and searched by chance",
}


def summarise_widths(
    programs: Programs, table: Table, nesting: Nesting, *, evaluation: Evaluation, measurements: Measurements
) -> nested.Widths:
    """The section on widths of the build record.

    With private batch norm statistics every narrower program is lowered once more with shared ones, to be packed and
    compared; those never ship.
    """
    from ebbtide.report import nested

    project = programs.project
    section, plan = project.recipe.widths, nesting.own.plan
    assert section is not None
    plain = {row.width: row for row in table.rows if not row.thresholds}
    return nested.Widths(
        order=section.order,
        search=section.search,
        norm=section.norm,
        multiple=plan["multiple"],
        exact=plan["exact"],
        gap=plan["gap"],
        note=plan["note"],
        levels=tuple(
            _level(programs, level, plain[level["name"]], nesting.own, evaluation, measurements)
            for level in plan["levels"]
        ),
        groups=tuple(
            nested.Kept(
                name=group["name"],
                size=group["size"],
                kept=tuple(level["widths"].get(group["name"], group["size"]) for level in plan["levels"]),
                tensors=group["members"],
            )
            for group in plan["groups"]
        ),
        whole=tuple(whole_by_reason(plan["whole"])),
        controls=tuple(_control(name, found) for name, found in nesting.controls.items()),
        tuned_epochs=section.tuning.epochs,
        xz_bytes=_packed(programs, [one.program for one in programs.widths]),
        widest_xz_bytes=_packed(programs, [programs.widest.program]),
        private=_private(programs, nesting) if section.norm == "private" else None,
    )


def _level(
    programs: Programs,
    level: dict[str, Any],
    row: Row,
    own: Outcome,
    evaluation: Evaluation,
    measurements: Measurements,
) -> nested.Level:
    from ebbtide.report import facts, nested

    one = programs.of(level["name"])
    selected = programs.universal.samples("select")
    return nested.Level(
        name=one.width,
        program=one.program.id,
        configuration=row.id,
        budget=level["budget"],
        macs=level["macs"],
        share=min(1.0, level["share"]),
        parameters=level["parameters"],
        peak_bytes=level["peak_bytes"],
        program_bytes=one.program.size_bytes,
        value=min(1.0, level["value"]),
        select=facts.Scored(accuracy=row.value, n=selected),
        test=facts.Scored(accuracy=evaluation.configurations[row.id]["value"], n=evaluation.n),
        untuned=facts.Scored(accuracy=own.plan["untuned"][one.width], n=selected),
        latency=latency_of(measurements.latency(row.id)),
        stages=stages_of(one.program, measurements),
    )


def whole_by_reason(found: Iterable[dict[str, Any]]) -> Iterable[nested.Whole]:
    """What stays whole, by the reason that it shares."""
    from ebbtide.report import nested

    by_reason: dict[str, list[str]] = {}
    for one in found:
        by_reason.setdefault(one["reason"], []).append(one["subject"])
    for reason, subjects in by_reason.items():
        yield nested.Whole(reason=reason, subjects=tuple(subjects))


def _control(name: str, found: Outcome | str) -> nested.ControlWidths:
    from ebbtide.report import nested

    if isinstance(found, str):
        return nested.ControlWidths(name=name, about=ABOUT[name], reason=found)
    return nested.ControlWidths(
        name=name,
        about=ABOUT[name],
        levels=tuple(
            nested.ControlLevel(
                level=level["name"],
                macs=level["macs"],
                untuned=found.plan["untuned"][level["name"]],
                tuned=found.tuned.get(level["name"]),
            )
            for level in found.plan["levels"]
        ),
    )


def _packed(programs: Programs, included: list[Program]) -> int:
    return packed_bytes(programs.project, {file_of(program): program.file for program in included})


def _private(programs: Programs, nesting: Nesting) -> nested.NormCost:
    from ebbtide.report import nested

    jobs = []
    for one in programs.widths[1:]:
        backbone = with_shared_statistics(nesting.own, one.candidates.backbone)
        jobs.append(Job(replace(one.candidates, backbone=backbone), one.program.id, one.candidates.chosen))
    shared = lower_all(jobs) if jobs else []
    return nested.NormCost(
        xz_bytes=_packed(programs, [one.program for one in programs.widths]),
        shared_xz_bytes=_packed(programs, [programs.widest.program, *shared]),
        shared_select=tuple(nesting.shared[level["name"]] for level in nesting.own.plan["levels"]),
    )
