"""The gate of every build: lowered programs decide as the model does, or nothing is bundled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.choice import Table
from ebbtide.build.programs import Program, Programs, open_engine, program_spec
from ebbtide.build.project import LOWERING

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_SAMPLES = 1024


def pass_gate(programs: Programs, table: Table) -> list[dict[str, Any]]:
    """Hold both programs against the eager model under every configuration (architecture, decision 4).

    Returns:
        For each program what the report shows of its gate.

    Raises:
        EbbtideError: ``lowering.gate`` naming method, sample and the two values.
    """
    return [_pass_one(programs, table, program) for program in (programs.main, programs.dense)]


def _pass_one(programs: Programs, table: Table, program: Program) -> dict[str, Any]:
    backbone = programs.candidates.backbone
    project = backbone.project
    is_main = program is programs.main
    configurations = {row.id: row.thresholds for row in table.rows} if is_main else {program.id: {}}
    inputs = {
        **backbone.identity(),
        "program": program.sha256,
        "configurations": {name: {str(p): t for p, t in found.items()} for name, found in configurations.items()},
        "samples": MOST_SAMPLES,
        "extra": programs.candidates.gate_extra,
    }

    def compute() -> dict[str, Any]:
        from ebbtide.lowering.gate import MINIMUM_SAMPLES, TOLERANCE, gate

        samples, ids = _samples(programs)
        loaded = open_engine().load(program.file)
        try:
            report = gate(
                program_spec(programs.candidates, program.id),
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


def _samples(programs: Programs) -> tuple[NDArray[np.float32], list[str]]:
    """Samples of select, and of train where select has too few."""
    dataset = programs.candidates.backbone.dataset
    count = min(MOST_SAMPLES, len(dataset.select))
    parts = [dataset.select.tensor(np.arange(count)).numpy()]
    ids = list(dataset.select.ids[:count])
    extra = programs.candidates.gate_extra
    if extra:
        parts.append(dataset.train.tensor(np.arange(extra)).numpy())
        ids += dataset.train.ids[:extra]
    return np.concatenate(parts), ids
