"""The gate of every build: lowered programs decide as the model does, or nothing is bundled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.choice import Table
from ebbtide.build.programs import Job, Program, Programs, open_engine
from ebbtide.build.project import LOWERING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = tuple[NDArray[np.float32], list[str]]

MOST_SAMPLES = 1024


def pass_gate(programs: Programs, table: Table) -> list[dict[str, Any]]:
    """Hold every program against its eager model under all of its configurations (architecture, decision 4).

    Returns:
        For each program what the report shows of its gate.

    Raises:
        EbbtideError: ``lowering.gate`` naming method, sample and the two values.
    """
    samples = functools.cache(lambda: _samples(programs))
    found = []
    for one in programs.widths:
        configurations = {row.id: row.thresholds for row in table.rows if row.width == one.width}
        job = Job(one.candidates, one.program.id, one.candidates.chosen)
        found.append(_pass_one(job, one.program, configurations, samples))
    dense = programs.dense
    if dense != programs.widest.program:
        job = Job(programs.widest.candidates, dense.id, None)
        found.append(_pass_one(job, dense, {dense.id: {}}, samples))
    return found


def _pass_one(
    job: Job, program: Program, configurations: dict[str, dict[int, float]], samples_of: Callable[[], Samples]
) -> dict[str, Any]:
    backbone = job.candidates.backbone
    project = backbone.project
    inputs = {
        **backbone.identity(),
        "program": program.sha256,
        "configurations": {name: {str(p): t for p, t in found.items()} for name, found in configurations.items()},
        "samples": MOST_SAMPLES,
        "extra": job.candidates.gate_extra,
    }

    def compute() -> dict[str, Any]:
        from ebbtide.lowering.gate import MINIMUM_SAMPLES, TOLERANCE, gate

        samples, ids = samples_of()
        loaded = open_engine().load(program.file)
        try:
            report = gate(
                job.spec(),
                loaded,
                samples,
                configurations=configurations,
                ids=ids,
                minimum=min(MINIMUM_SAMPLES, len(samples)),
            )
        finally:
            loaded.close()
        return {
            "program": program.id,
            "samples": report.samples,
            "labels_differ": sum(gap.labels for gap in report.methods),
            "exits_differ": 0,
            "largest_score_difference": max(gap.confidence for gap in report.methods),
            "score_limit": TOLERANCE,
        }

    found: dict[str, Any] = project.json_step(
        "gate", inputs, compute, code=("ebbtide.lowering", "ebbtide.engine"), libraries=LOWERING
    )
    if found["samples"] < 512:
        project.notice("warning", "gate", f"select and train together have {found['samples']} samples; it wants 512")
    return found


def _samples(programs: Programs) -> Samples:
    """Samples of select, and of train where select has too few, with their ids."""
    dataset = programs.universal.dataset
    count = min(MOST_SAMPLES, len(dataset.select))
    parts = [dataset.select.tensor(np.arange(count)).numpy()]
    ids = list(dataset.select.ids[:count])
    extra = programs.widest.candidates.gate_extra
    if extra:
        parts.append(dataset.train.tensor(np.arange(extra)).numpy())
        ids += dataset.train.ids[:extra]
    return np.concatenate(parts), ids
