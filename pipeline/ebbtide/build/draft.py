"""What a bundle says: the manifest's parts from programs, table, measurement and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.build.choice import DENSE, Row, Table
from ebbtide.build.programs import Program, Programs

if TYPE_CHECKING:
    from ebbtide.build.evaluation import Evaluation
    from ebbtide.build.mapping import DeviceMapping
    from ebbtide.build.outside import OutsideRule
    from ebbtide.bundle import BundleDraft, Expected, Manifest, MethodEntry
    from ebbtide.device import Profile

REFERENCE = "reference"
"""The configuration of the one-method program; it is measured beside the others and never ships."""

# A .pte is promised to load on the runtime that made it and on those of at least one following minor release
# (ExecuTorch, runtime/COMPATIBILITY.md).
RUNTIME_MIN, RUNTIME_MAX_EXCLUSIVE = "1.5.0", "1.7.0"


@dataclass(frozen=True)
class Rehearsal:
    """A bundle that exists in memory only, for sessions that measure and prove before anything is signed."""

    manifest: Manifest
    files: Mapping[str, Path]

    def path_of(self, path: str) -> Path:
        """Where a file of the manifest lies."""
        return self.files[path]


def file_of(program: Program) -> str:
    """The program's path in a bundle."""
    return f"programs/{program.id}.pte"


def draft_bundle(
    programs: Programs,
    table: Table,
    *,
    profile: Profile,
    evaluation: Evaluation | None = None,
    latencies: Mapping[str, tuple[int, int]] | None = None,
    rule: OutsideRule | None = None,
    mapping: DeviceMapping | None = None,
    with_reference: bool = False,
) -> tuple[BundleDraft, dict[str, Path]]:
    """The manifest's parts and the files of a bundle.

    Args:
        programs: what was lowered.
        table: configurations and tiers.
        profile: the device.
        evaluation: scores on test; left out while rehearsing.
        latencies: p50 and p90 in microseconds by configuration, measured on this profile's device.
        rule: when configurations answer outside; left out while rehearsing.
        mapping: where the parts of each configuration run; None runs everything where it lies.
        with_reference: add the one-method program and a configuration for it.
    """
    from ebbtide.bundle import (
        BundleDraft,
        ConfigurationEntry,
        DeviceEntry,
        ModelEntry,
        OutsideEntry,
        PathStep,
        PolicyEntry,
        RuntimeEntry,
    )

    recipe, facts = programs.project.recipe, programs.universal.facts
    selected = programs.universal.samples("select")
    configurations = [
        ConfigurationEntry(
            id=row.id,
            path=path_of(
                programs.of(row.width).program,
                row,
                above=rule.thresholds(row) if rule else None,
                server_from=mapping.server_from(row) if mapping else None,
            ),
            expected=_expected(programs, row, profile.id, selected, evaluation, latencies),
        )
        for row in table.rows
    ]
    # The widest first: in one stream the narrower ones then repeat what is there already.
    included = programs.all if with_reference else tuple(one.program for one in programs.widths)
    if with_reference:
        dense_row = next(row for row in table.rows if row.id == DENSE)
        configurations.append(
            ConfigurationEntry(
                id=REFERENCE,
                path=(PathStep(method=f"{programs.dense.id}/{programs.dense.methods[0]['name']}"),),
                expected=_expected(programs, dense_row, profile.id, selected, None, None),
            )
        )
    draft = BundleDraft(
        name=recipe.name,
        sequence=recipe.sequence,
        device=DeviceEntry(profile=profile.id, platform=profile.platform),
        runtime=RuntimeEntry(
            engine="executorch", min=RUNTIME_MIN, max_exclusive=RUNTIME_MAX_EXCLUSIVE, backends=("xnnpack",)
        ),
        model=ModelEntry(
            classes=tuple(facts["classes"]),
            universal_classes=len(facts["universal_classes"]),
            outside=OutsideEntry(score=rule.score, fallback=rule.fallback) if rule else None,
            input=_input(facts),
        ),
        programs=tuple(_program(program) for program in included),
        configurations=tuple(configurations),
        tiers=table.tiers,
        policy=PolicyEntry.model_validate(recipe.policy.model_dump()),
    )
    return draft, {file_of(program): program.file for program in included}


def rehearse(programs: Programs, table: Table, *, profile: Profile) -> Rehearsal:
    """A bundle in memory with the one-method reference beside the configurations."""
    from ebbtide.bundle import BundleDraft, FileEntry, Manifest, PayloadEntry

    draft, files = draft_bundle(programs, table, profile=profile, with_reference=True)
    included = {file_of(program): program for program in programs.all}
    manifest = Manifest(
        **{name: getattr(draft, name) for name in BundleDraft.model_fields},
        created="1970-01-01T00:00:00Z",
        generator="rehearsal",
        key_id="0" * 16,
        files=tuple(
            FileEntry(path=path, size=program.size_bytes, sha256=program.sha256) for path, program in included.items()
        ),
        payload=PayloadEntry(format="raw"),
    )
    return Rehearsal(manifest, files)


def path_of(
    program: Program, row: Row, *, above: Mapping[str, float] | None = None, server_from: str | None = None
) -> Any:
    """The steps of a configuration in manifest form: all stages, the exits that are on, the head.

    Args:
        program: of the row's width.
        row: which exits are on.
        above: by exit and head the score above which an answer there is outside; None where none is.
        server_from: the first method that a server may run, and with it all that follow; None where none does.
    """
    from ebbtide.bundle import PathStep, float32

    steps = []
    on_server = False
    for method in program.methods:
        on_server = on_server or method["name"] == server_from
        if method["kind"] == "exit" and method["position"] not in row.thresholds:
            continue
        threshold = float32(row.thresholds[method["position"]]) if method["kind"] == "exit" else None
        outside = float32(above[method["name"]]) if above is not None and method["kind"] != "stage" else None
        name = f"{program.id}/{method['name']}"
        step = PathStep(method=name, threshold=threshold, outside=outside, at="server" if on_server else None)
        steps.append(step)
    return tuple(steps)


def peak_bytes(program: Program, row: Row) -> int:
    """Largest activation of any method on the path."""
    on_path = {step.method.rpartition("/")[2] for step in path_of(program, row)}
    return max(int(method["peak_bytes"]) for method in program.methods if method["name"] in on_path)


def _expected(
    programs: Programs,
    row: Row,
    profile: str,
    selected: int,
    evaluation: Evaluation | None,
    latencies: Mapping[str, tuple[int, int]] | None,
) -> Expected:
    from ebbtide.bundle import Expected, LatencyEntry, Scored

    measured = latencies.get(row.id) if latencies else None
    return Expected(
        select=Scored(accuracy=row.value, n=selected),
        test=Scored(accuracy=evaluation.configurations[row.id]["value"], n=evaluation.n) if evaluation else None,
        mean_macs=round(row.mean_macs),
        latency_us=LatencyEntry(p50=measured[0], p90=measured[1], measured_on=profile) if measured else None,
        peak_bytes=peak_bytes(programs.of(row.width).program, row),
        energy_uj=None,
    )


def _program(program: Program) -> Any:
    from ebbtide.bundle import ProgramEntry

    return ProgramEntry(
        id=program.id,
        width=program.width,
        precision="float32",
        processor="cpu",
        format="pte",
        file=file_of(program),
        methods=tuple(_method(method) for method in program.methods),
    )


def _method(method: Mapping[str, Any]) -> MethodEntry:
    from ebbtide.bundle import MethodEntry, TensorEntry

    def tensors(key: str) -> tuple[TensorEntry, ...]:
        return tuple(
            TensorEntry(
                shape=tuple(facts["shape"]),
                dtype=facts["dtype"],
                layout=None if facts["layout"] == "contiguous" else facts["layout"],
            )
            for facts in method[key]
        )

    return MethodEntry(
        name=method["name"],
        kind=method["kind"],
        position=method["position"],
        type=method.get("type"),
        inputs=tensors("inputs"),
        outputs=tensors("outputs"),
        macs=method["macs"],
        peak_bytes=method["peak_bytes"],
    )


def _input(facts: Mapping[str, Any]) -> Any:
    from ebbtide.bundle import InputEntry

    spec = facts["input"]
    return InputEntry(
        kind=spec["kind"],
        shape=(1, *spec["shape"]),
        dtype="float32",
        layout="NCHW" if spec["kind"] == "image" else "NCT",
        color=spec["color"],
        crop=spec["crop"],
        # Pictures that already have the model's size pass through bilinear-v1 unchanged.
        resize="bilinear-v1" if spec["kind"] == "image" else None,
        scale=tuple(spec["scale"]),
        bias=tuple(spec["bias"]),
    )
