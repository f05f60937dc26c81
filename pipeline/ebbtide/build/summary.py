"""Everything a report shows, gathered from the steps of a build."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ebbtide
from ebbtide.build.bundles import Built
from ebbtide.build.choice import DENSE, Row, Table
from ebbtide.build.draft import REFERENCE, path_of, peak_bytes
from ebbtide.build.evaluation import Evaluation
from ebbtide.build.measuring import Measurements
from ebbtide.build.programs import Program, Programs
from ebbtide.steps import library_versions

if TYPE_CHECKING:
    from ebbtide.report import record

LIBRARIES = ("torch", "executorch", "torchao", "numpy", "scipy", "cryptography", "safetensors", "timm", "torchvision")


def summarise(
    programs: Programs,
    table: Table,
    *,
    evaluation: Evaluation,
    measurements: Measurements,
    gates: Iterable[dict[str, Any]],
    built: Iterable[Built],
    output: Path,
) -> record.BuildRecord:
    """The build record.

    Args:
        programs: with everything they were made from.
        table: configurations and tiers.
        evaluation: of test.
        measurements: of this host.
        gates: what the gate found.
        built: the bundles.
        output: the folder the report will lie in; paths in it are relative to it.
    """
    from ebbtide.report import record

    project = programs.candidates.backbone.project
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
        model=_model(programs, evaluation, measurements),
        dense=_dense(programs, evaluation, measurements),
        exits=tuple(_exits(programs)),
        configurations=tuple(_configuration(programs, table, row, evaluation, measurements) for row in table.rows),
        boundary=_boundary(programs, measurements),
        scored=tuple(record.Point(accuracy=value, mean_macs=macs) for value, macs in table.points),
        scored_total=len(table.points),
        controls=tuple(_controls(programs)),
        classes=tuple(record.ClassRow(**row) for row in evaluation.classes),
        reliability=tuple(
            record.Reliability(name=name, bins=tuple(record.Bin(**one) for one in bins))
            for name, bins in evaluation.reliability.items()
        ),
        devices=tuple(_device(one, bundles, output, recipe.payload) for one in bundles),
        gates=tuple(record.Gate(**one) for one in gates),
        provenance=_provenance(programs),
        machine=_machine(measurements),
        notices=tuple(record.Notice(kind=n.kind, subject=n.subject, text=n.text) for n in project.notices),
        timings=tuple(
            record.Timing(step=step.name, seconds=round(step.seconds, 3), reused=step.reused)
            for step in project.store.records
        ),
    )


def _latency(times: tuple[float, ...] | None) -> record.Latency | None:
    from ebbtide.report import record

    if times is None:
        return None
    return record.Latency(p50_us=times[0], p90_us=times[1], spread_us=times[2] if len(times) > 2 else None)


def _model(programs: Programs, evaluation: Evaluation, measurements: Measurements) -> record.Model:
    from ebbtide.report import record

    backbone = programs.candidates.backbone
    section = backbone.project.recipe.model
    named = str(getattr(section, section.source))
    splits = backbone.facts["provenance"]["splits"]
    return record.Model(
        source=f"{section.source}: {named.rpartition('/')[2]}",
        classes=tuple(backbone.facts["classes"]),
        universal_classes=len(backbone.facts["universal_classes"]),
        input_shape=tuple(backbone.facts["input"]["shape"]),
        parameters=backbone.model["parameters"],
        macs=backbone.model["macs"],
        weight_bytes=backbone.model["weight_bytes"],
        stages=tuple(_stage(programs.main, method, measurements) for method in programs.main.methods),
        select=record.Scored(accuracy=programs.candidates.universal, n=splits["select"]["count"]),
        test=record.Scored(accuracy=evaluation.dense_value, n=evaluation.n),
    )


def _stage(program: Program, method: dict[str, Any], measurements: Measurements) -> record.Stage:
    from ebbtide.report import record

    return record.Stage(
        name=method["name"],
        kind=method["kind"],
        macs=method["macs"],
        parameters=method["parameters"],
        weight_bytes=method["weight_bytes"],
        output_shape=tuple(method["outputs"][-1]["shape"][1:]),
        latency=_latency(measurements.method_latency(program.sha256, method["name"])),
        delegated_share=method["delegated_share"],
    )


def _dense(programs: Programs, evaluation: Evaluation, measurements: Measurements) -> record.Dense:
    from ebbtide.report import record

    selected = programs.candidates.selected
    program = programs.dense
    return record.Dense(
        select=record.Scored(accuracy=evaluation.dense_select, n=selected),
        test=record.Scored(accuracy=evaluation.dense_value, n=evaluation.n),
        macs=sum(method["macs"] for method in program.methods),
        latency=_latency(measurements.latency(REFERENCE)),
        size_bytes=program.size_bytes,
        peak_bytes=max(method["peak_bytes"] for method in program.methods),
    )


def _exits(programs: Programs) -> Iterable[record.Exit]:
    from ebbtide.report import record

    candidates = programs.candidates
    section = candidates.backbone.project.recipe.exits
    for position in candidates.positions:
        used = position in candidates.chosen
        yield record.Exit(
            # An exit that ships is named as the program's method; the others by their place in the model.
            name=f"exit{candidates.chosen.index(position)}" if used else f"candidate{position}",
            position=position,
            type=section.type if section else "",
            temperature=candidates.temperatures[f"exit{position}"],
            select=record.Scored(accuracy=candidates.alone[position], n=candidates.selected),
            macs=candidates.macs[position],
        )


def _configuration(
    programs: Programs, table: Table, row: Row, evaluation: Evaluation, measurements: Measurements
) -> record.Configuration:
    from ebbtide.report import record

    tier = table.tiers.index(row.id) if row.id in table.tiers else None
    leaves = [method["name"] for method in programs.main.methods if method["kind"] != "stage"]
    selected = programs.candidates.selected

    def shares(values: Iterable[float]) -> tuple[record.LeavingShare, ...]:
        return tuple(record.LeavingShare(name=n, share=s) for n, s in zip(leaves, values, strict=True))

    tested = evaluation.configurations[row.id]
    return record.Configuration(
        id=row.id,
        tier=tier,
        path=tuple(
            record.Step(method=step.method.rpartition("/")[2], threshold=step.threshold)
            for step in path_of(programs.main, row)
        ),
        select=record.Scored(accuracy=row.value, n=selected),
        test=record.Scored(accuracy=tested["value"], n=evaluation.n),
        mean_macs=row.mean_macs,
        latency=_latency(measurements.latency(row.id)),
        size_bytes=programs.main.size_bytes,
        peak_bytes=peak_bytes(programs.main, row),
        shares_select=shares(row.shares),
        shares_test=shares(tested["shares"]),
        reason=_reason(row, tier, len(table.tiers)),
    )


def _reason(row: Row, tier: int | None, tiers: int) -> str:
    if tier == 0:
        return "the best on select"
    if tier is not None and tier == tiers - 1:
        return "the cheapest within the drop that the recipe allows"
    if tier is not None:
        return "between them, nearest to an equal step of log cost"
    if row.id == DENSE:
        return "no exits; ships so that an application can ask for it"
    return "on the Pareto front"


def _boundary(programs: Programs, measurements: Measurements) -> record.BoundaryCost:
    from ebbtide.report import record

    found = measurements.content["boundary"]
    return record.BoundaryCost(
        stages=sum(method["kind"] != "exit" for method in programs.main.methods),
        ratio=found["ratio"],
        spread=found["ratio_iqr"],
        rounds=len(found["round_ratios"]),
        threads=programs.threads,
    )


def _controls(programs: Programs) -> Iterable[record.Control]:
    """The backbone cut off at each exit: everybody leaves there, nothing else is computed."""
    from ebbtide.report import record

    candidates = programs.candidates
    for index, position in enumerate(candidates.positions):
        yield record.Control(
            name=f"cut off at position {position}",
            accuracy=candidates.alone[position],
            mean_macs=candidates.cut_off_macs[index],
            split="select",
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

    backbone = programs.candidates.backbone
    recipe = backbone.project.recipe
    splits = backbone.facts["provenance"]["splits"]
    return record.Provenance(
        versions={"ebbtide": ebbtide.__version__, **library_versions(LIBRARIES)},
        hashes={
            "data": backbone.facts["digest"],
            "weights": backbone.weights_digest,
            programs.main.id: programs.main.sha256,
            programs.dense.id: programs.dense.sha256,
        },
        seeds={
            "recipe": recipe.seed,
            "split": backbone.facts["provenance"]["split_seed"],
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
