"""The whole road, in order."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.bundles import Built, signing_key, write_bundles
from ebbtide.build.choice import choose_table
from ebbtide.build.choosing import train_candidates
from ebbtide.build.evaluation import evaluate_on_test
from ebbtide.build.exits_summary import summarise_early
from ebbtide.build.gating import pass_gate
from ebbtide.build.halves import swap_halves
from ebbtide.build.mapping import map_devices
from ebbtide.build.measuring import measure_host, time_methods
from ebbtide.build.origin import write_origin
from ebbtide.build.outside import choose_rule
from ebbtide.build.programs import lower_programs
from ebbtide.build.project import Project, read_json
from ebbtide.build.sparsity_packing import pack_model
from ebbtide.build.sparsity_plan import check_sparsity
from ebbtide.build.sparsity_rivals import lower_rivals, rival_jobs, score_rivals, time_rivals
from ebbtide.build.sparsity_summary import summarise_sparsity
from ebbtide.build.summary import summarise
from ebbtide.build.universal import Universal, make_universal, prepare_data
from ebbtide.build.widths import backbones_of, check_widths
from ebbtide.steps import busy_lock, storage_errors, write_bytes, write_json

if TYPE_CHECKING:
    from ebbtide.bundle import PublicKey
    from ebbtide.report import BuildRecord, ReportFiles

SAMPLES = 32


@dataclass(frozen=True)
class BuildResult:
    """What a build left.

    Attributes:
        record: everything the report shows.
        folder: the output.
        bundles: by device profile.
        report: page, Markdown, JSON, picture.
        samples: a few real inputs to try a bundle with.
        public_key: what readers of the bundles must trust.
    """

    record: BuildRecord
    folder: Path
    bundles: dict[str, Path]
    report: ReportFiles
    samples: Path
    public_key: PublicKey

    def as_dict(self) -> dict[str, Any]:
        """Places and the record as JSON values."""
        return {
            "folder": str(self.folder),
            "bundles": {name: str(path) for name, path in self.bundles.items()},
            "report": {kind: str(getattr(self.report, kind)) for kind in ("html", "markdown", "json", "picture")},
            "samples": str(self.samples),
            "key_id": self.public_key.key_id,
            "record": self.record.model_dump(mode="json"),
        }


def build(project: Project, *, output: Path, measurements: Path | None = None) -> BuildResult:
    """Everything: data, model, widths, exits, programs, choice, measurement, test, bundles, report.

    Args:
        project: the recipe and where its steps are kept.
        output: where bundles and report go; one build at a time writes there.
        measurements: a measurement record to take instead of measuring.

    Raises:
        EbbtideError: whatever is wrong; what was finished is kept, nothing is half-written.
    """
    from ebbtide.device import load_profile
    from ebbtide.report import write_report

    profiles = tuple(load_profile(name) for name in project.recipe.devices)
    with storage_errors(output), busy_lock(output / ".build.lock", doing="building here"):
        for left in output.glob(".*.new"):
            # Of a build that was killed while it wrote a file; the lock says that nobody is writing now.
            left.unlink()
        key = signing_key(project)
        _refuse_early(project)
        universal = make_universal(project)
        backbones, nesting, shrinking = backbones_of(universal, given=measurements)
        candidates = train_candidates(backbones)
        beside = rival_jobs(candidates[0], shrinking).values() if shrinking else ()
        programs = lower_programs(candidates, profiles, beside=tuple(beside))
        times = time_methods(programs, measurements)
        table = choose_table(programs, times)
        rule = choose_rule(programs, table)
        gates = pass_gate(programs, table)
        measured = measure_host(
            programs,
            table,
            host=load_profile("host"),
            layers=nesting.layers if nesting else None,
            times=times,
            given=measurements,
        )
        mappings = map_devices(programs, table, profiles)
        evaluation = evaluate_on_test(programs, table, rule)
        built = write_bundles(
            programs,
            table,
            profiles=profiles,
            evaluation=evaluation,
            rule=rule,
            mappings=mappings,
            measurements=measured,
            key=key,
            output=output,
        )
        sparsity = None
        if shrinking is not None:
            rivals = lower_rivals(programs, shrinking)
            measured = time_rivals(programs, rivals, measured, measurements)
            scored = score_rivals(programs, table, rule, shrinking)
            packed = pack_model(shrinking, backbones[0], nesting, output)
            sparsity = summarise_sparsity(shrinking, rivals, scored, packed, measured)
        early = summarise_early(programs, table, evaluation, mappings=mappings, swapped=swap_halves(project))
        record = summarise(
            programs,
            table,
            nesting,
            evaluation=evaluation,
            rule=rule,
            sparsity=sparsity,
            early=early,
            measurements=measured,
            gates=gates,
            built=built,
            output=output,
        )
        report = write_report(record, output)
        write_json(output / "measurements.json", measured.content)
        write_bytes(output / "public.pem", key.public.pem())
        write_origin(project, output)
        samples = _write_samples(universal, output / "samples.npz")
    return BuildResult(record, output, _folders(built), report, samples, key.public)


def _refuse_early(project: Project) -> None:
    """What the structure alone rules out is said before a model is trained for it."""
    recipe = project.recipe
    if not recipe.trains_model or (recipe.widths is None and recipe.sparsity is None):
        return
    facts = read_json(prepare_data(project) / "dataset.json")
    inputs = {
        **project.inputs("model", "widths", "sparsity", "devices"),
        "input": facts["input"]["shape"],
        "classes": facts["class_indices"],
        "select": facts["provenance"]["splits"]["select"]["count"],
    }

    def check() -> None:
        check_sparsity(project, facts)
        check_widths(project, facts)

    code = ("ebbtide.nesting", "ebbtide.model", "ebbtide.device", "ebbtide.sparsity", "ebbtide.pruning")
    project.json_step("feasible", inputs, check, code=code)


def _folders(built: list[Built]) -> dict[str, Path]:
    return {one.profile.id: one.folder for one in built}


def _write_samples(universal: Universal, file: Path) -> Path:
    """A few select samples and their labels, as `ebb run` and `ebb bench` take them."""
    select = universal.dataset.select
    count = min(SAMPLES, len(select))
    name = "images" if universal.facts["input"]["kind"] == "image" else "signals"
    arrays: dict[str, Any] = {name: np.asarray(select.pixels[:count]), "labels": select.labels[:count]}
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_bytes(file, content.getvalue())
    return file
