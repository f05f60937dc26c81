"""Everything a report shows, gathered from the steps of a build."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ebbtide
from ebbtide.build.bundles import Built
from ebbtide.build.choice import Row, Table
from ebbtide.build.draft import REFERENCE, path_of, peak_bytes
from ebbtide.build.evaluation import Evaluation
from ebbtide.build.exits_summary import cut_off_models, exits_of
from ebbtide.build.measuring import Measurements
from ebbtide.build.outside import OutsideRule
from ebbtide.build.outside_summary import summarise_outside
from ebbtide.build.programs import Programs
from ebbtide.build.stages_summary import latency_of, stages_of
from ebbtide.build.widths import Nesting
from ebbtide.build.widths_summary import summarise_widths
from ebbtide.steps import library_versions

if TYPE_CHECKING:
    from ebbtide.report import record
    from ebbtide.report.early import EarlyExits
    from ebbtide.report.personal import Sparsity
    from ebbtide.steps import StepRecord

LIBRARIES = ("torch", "executorch", "torchao", "numpy", "scipy", "cryptography", "safetensors", "timm", "torchvision")


def summarise(
    programs: Programs,
    table: Table,
    nesting: Nesting | None,
    *,
    evaluation: Evaluation,
    rule: OutsideRule | None,
    sparsity: Sparsity | None,
    early: EarlyExits | None,
    measurements: Measurements,
    gates: Iterable[dict[str, Any]],
    built: Iterable[Built],
    output: Path,
) -> record.BuildRecord:
    """The build record.

    Args:
        programs: with everything they were made from.
        table: configurations and tiers.
        nesting: how nested widths were found; None without.
        evaluation: of test.
        rule: when configurations answer outside; None where the recipe asks for none.
        sparsity: how a model for the class set was made; None without.
        early: how exits were made, chosen and mapped; None without.
        measurements: of this host.
        gates: what the gate found.
        built: the bundles.
        output: the folder the report will lie in; paths in it are relative to it.
    """
    from ebbtide.report import record

    project = programs.project
    recipe = project.recipe
    bundles = list(built)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    created = (
        measurements.date if epoch is None else measurements.date.fromtimestamp(int(epoch), measurements.date.tzinfo)
    )
    return record.BuildRecord(
        name=recipe.name,
        sequence=recipe.sequence,
        created=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        generator=f"ebbtide {ebbtide.__version__}",
        metric=recipe.metric,
        recipe=project.text,
        model=_model(programs, nesting, evaluation, measurements),
        dense=_dense(programs, evaluation, measurements),
        sparsity=sparsity,
        widths=None
        if nesting is None
        else summarise_widths(programs, table, nesting, evaluation=evaluation, measurements=measurements),
        outside=None if rule is None else summarise_outside(programs, table, rule, evaluation),
        exits=tuple(exits_of(programs)),
        early=early,
        configurations=tuple(_configuration(programs, table, row, evaluation, measurements) for row in table.rows),
        boundary=_boundary(programs, measurements),
        scored=tuple(record.Point(accuracy=value, mean_macs=macs) for value, macs in table.points),
        scored_total=len(table.points),
        controls=tuple(cut_off_models(programs)),
        classes=tuple(record.ClassRow(**row) for row in evaluation.classes),
        reliability=tuple(
            record.Reliability(
                name=name,
                bins=tuple(record.Bin(**one) for one in bins),
                before=tuple(record.Bin(**one) for one in evaluation.untempered[name]),
            )
            for name, bins in evaluation.reliability.items()
        ),
        devices=tuple(_device(one, bundles, output, recipe.payload) for one in bundles),
        gates=tuple(record.Gate(**one) for one in gates),
        provenance=_provenance(programs),
        machine=_machine(measurements),
        notices=tuple(record.Notice(kind=n.kind, subject=n.subject, text=n.text) for n in project.notices),
        timings=tuple(_timings(project.store.records)),
    )


def _timings(steps: Iterable[StepRecord]) -> Iterable[record.Timing]:
    """Each step once, as it was when it was first asked for."""
    from ebbtide.report import record

    first: dict[str, StepRecord] = {}
    for step in steps:
        first.setdefault(step.key, step)
    for step in first.values():
        yield record.Timing(step=step.name, seconds=round(step.seconds, 3), reused=step.reused)


def _model(
    programs: Programs, nesting: Nesting | None, evaluation: Evaluation, measurements: Measurements
) -> record.Model:
    from ebbtide.report import record

    universal, widest = programs.universal, programs.widest
    section = programs.project.recipe.model
    named = str(getattr(section, section.source))
    return record.Model(
        source=f"{section.source}: {named.rpartition('/')[2]}",
        classes=tuple(universal.facts["classes"]),
        universal_classes=len(universal.facts["universal_classes"]),
        head=programs.project.recipe.head,
        class_set=tuple(universal.facts["class_set"]),
        input_shape=tuple(universal.facts["input"]["shape"]),
        parameters=universal.model["parameters"],
        macs=universal.model["macs"],
        weight_bytes=universal.model["weight_bytes"],
        stages=stages_of(widest.program, measurements),
        select=record.Scored(
            accuracy=nesting.universal if nesting else widest.candidates.reference, n=universal.samples("select")
        ),
        # Nested widths were tuned, a joint backbone learned on: what is read of test is theirs, not that model's.
        test=None
        if nesting or widest.candidates.backbone.is_joint
        else record.Scored(accuracy=evaluation.dense_value, n=evaluation.n),
    )


def _dense(programs: Programs, evaluation: Evaluation, measurements: Measurements) -> record.Dense:
    from ebbtide.report import record

    selected = programs.universal.samples("select")
    program = programs.dense
    return record.Dense(
        select=record.Scored(accuracy=evaluation.dense_select, n=selected),
        test=record.Scored(accuracy=evaluation.dense_value, n=evaluation.n),
        macs=sum(method["macs"] for method in program.methods),
        latency=latency_of(measurements.latency(REFERENCE)),
        size_bytes=program.size_bytes,
        peak_bytes=max(method["peak_bytes"] for method in program.methods),
    )


def _configuration(
    programs: Programs, table: Table, row: Row, evaluation: Evaluation, measurements: Measurements
) -> record.Configuration:
    from ebbtide.report import record

    tier = table.tiers.index(row.id) if row.id in table.tiers else None
    program = programs.of(row.width).program
    leaves = [method["name"] for method in program.methods if method["kind"] != "stage"]
    selected = programs.universal.samples("select")

    def shares(values: Iterable[float]) -> tuple[record.LeavingShare, ...]:
        return tuple(record.LeavingShare(name=n, share=s) for n, s in zip(leaves, values, strict=True))

    tested = evaluation.configurations[row.id]
    return record.Configuration(
        id=row.id,
        width=row.width,
        tier=tier,
        path=tuple(
            record.Step(method=step.method.rpartition("/")[2], threshold=step.threshold)
            for step in path_of(program, row)
        ),
        select=record.Scored(accuracy=row.value, n=selected),
        test=record.Scored(accuracy=tested["value"], n=evaluation.n),
        mean_macs=row.mean_macs,
        latency=latency_of(measurements.latency(row.id)),
        size_bytes=program.size_bytes,
        peak_bytes=peak_bytes(program, row),
        shares_select=shares(row.shares),
        shares_test=shares(tested["shares"]),
        reason=_reason(row, tier, table),
    )


def _reason(row: Row, tier: int | None, table: Table) -> str:
    if tier == 0:
        return "the best on select"
    if tier is not None and tier == len(table.tiers) - 1:
        return "the cheapest within the drop that the recipe allows"
    if tier is not None:
        return "between them, nearest to an equal step of log cost"
    if not row.thresholds:
        return "no exits; ships so that an application can ask for it"
    return "on the Pareto front"


def _boundary(programs: Programs, measurements: Measurements) -> record.BoundaryCost:
    from ebbtide.report import record

    found = measurements.content["boundary"]
    return record.BoundaryCost(
        stages=sum(method["kind"] != "exit" for method in programs.widest.program.methods),
        ratio=found["ratio"],
        spread=found["ratio_iqr"],
        rounds=len(found["round_ratios"]),
        threads=programs.threads,
    )


def _device(one: Built, all_built: list[Built], output: Path, payload: str) -> record.Device:
    from ebbtide.report import record

    others = tuple(other.profile.id for other in all_built if other is not one)
    return record.Device(
        profile=one.profile.id,
        platform=one.profile.platform,
        bundle=one.folder.relative_to(output).as_posix(),
        manifest_sha256=one.manifest_sha256,
        files=tuple(record.File(path=path, size_bytes=size) for path, size in one.files),
        payload="xz" if payload == "xz" else "raw",
        raw_bytes=sum(size for _, size in one.files),
        xz_bytes=one.xz_bytes,
        shares_programs_with=others,
        reason="fp32 on the CPU through XNNPACK, the one processor that every profile has"
        + ("; measured here" if one.profile.id == "host" else "; its times were not measured on this device"),
    )


def _provenance(programs: Programs) -> record.Provenance:
    from ebbtide.report import record

    universal, recipe = programs.universal, programs.project.recipe
    splits = universal.facts["provenance"]["splits"]
    return record.Provenance(
        versions={"ebbtide": ebbtide.__version__, **library_versions(LIBRARIES)},
        hashes={
            "data": universal.facts["digest"],
            "weights": universal.weights_digest,
            **{program.id: program.sha256 for program in programs.all},
        },
        seeds={
            "recipe": recipe.seed,
            "split": universal.facts["provenance"]["split_seed"],
            "training": recipe.training_settings.seed,
        },
        splits=tuple(
            record.Split(name=name, count=facts["count"], digest=facts["ids_sha256"]) for name, facts in splits.items()
        ),
    )


def _machine(measurements: Measurements) -> record.Machine:
    from ebbtide.report import record

    facts = measurements.content["methods"]["machine"]
    return record.Machine(
        cpu=facts["cpu_model"],
        cores=facts["cores_logical"],
        memory_bytes=facts["memory_bytes"],
        system=facts["system"],
    )
