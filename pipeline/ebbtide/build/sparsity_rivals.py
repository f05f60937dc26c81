"""What a model for the class set is held against: the universal model, the same fine-tuned, the other budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.candidates import Candidates
from ebbtide.build.choice import Table
from ebbtide.build.evaluation import choices_of
from ebbtide.build.measuring import Measurements, machine_identity
from ebbtide.build.outside import OutsideRule
from ebbtide.build.programs import Job, Program, Programs, lower_all, open_engine
from ebbtide.build.project import LOWERING, TORCH
from ebbtide.build.sparsity import Shrinking
from ebbtide.build.sparsity_trials import Made, Workshop

if TYPE_CHECKING:
    from ebbtide.model import Graph


@dataclass(frozen=True)
class Rivals:
    """Programs of one method that are timed beside the model that ships; they never ship themselves.

    Attributes:
        untouched: of the universal model; with masks every trial takes its time, and fine-tuned it has the same.
        trials: by index, of the trials that were not taken and are plain smaller networks.
        taken: of the trial that was taken, the one-method program of the build.
    """

    untouched: Program
    trials: dict[int, Program]
    taken: Program

    @property
    def all(self) -> tuple[Program, ...]:
        """Every one of them."""
        return (self.untouched, *self.trials.values(), self.taken)


def rival_jobs(widest: Candidates, shrinking: Shrinking) -> dict[int | None, Job]:
    """What is lowered beside the programs that ship, by trial; None is the universal model.

    With masks there are no others: every trial is the dense network to a runtime.

    Args:
        widest: of the model that ships.
        shrinking: what was tried.
    """
    workshop, index = shrinking.workshop, shrinking.chosen
    jobs: dict[int | None, Job] = {
        None: _job(widest, "universal-dense", shrinking.untouched, lambda: workshop.universal.graph)
    }
    if workshop.section.pattern == "channels":
        for number, made in enumerate(shrinking.trials):
            if number != index:
                jobs[number] = _job(widest, f"trial{number}-dense", made, partial(_graph_of, workshop, made))
    return jobs


def lower_rivals(programs: Programs, shrinking: Shrinking) -> Rivals:
    """A program of one method for everything whose time differs."""
    jobs = rival_jobs(programs.widest.candidates, shrinking)
    found = dict(zip(jobs, lower_all([*jobs.values()]), strict=True))
    trials = {number: program for number, program in found.items() if number is not None}
    return Rivals(found[None], trials, programs.dense)


def _graph_of(workshop: Workshop, made: Made) -> Graph:
    return workshop.load(made).graph


def _job(widest: Candidates, name: str, made: Made, graph: Callable[[], Graph]) -> Job:
    backbone = replace(
        widest.backbone,
        weights_digest=widest.backbone.project.store.digest(made.weights),
        # In one method nothing is cut.
        layout={**widest.backbone.layout, "cuts": []},
        make_graph=graph,
    )
    return Job(replace(widest, backbone=backbone, head_temperature=1.0), name, None)


def time_rivals(programs: Programs, rivals: Rivals, measured: Measurements, given: Path | None) -> Measurements:
    """The measurement record with p50 and p90 of every rival, in microseconds, timed in one interleaved run.

    Args:
        programs: what ships.
        rivals: what it is held against.
        measured: the record of what ships.
        given: a record to take instead of measuring; of another build it has no times for these.
    """
    if given is not None:
        return measured
    inputs = {"programs": [program.sha256 for program in rivals.all], "machine": machine_identity()}

    def compute() -> dict[str, list[float]]:
        from ebbtide.profiling import Target, measure

        engine = open_engine()
        loaded = {program.sha256: engine.load(program.file) for program in rivals.all}
        sample = programs.universal.dataset.select.tensor([0]).numpy()
        found = measure(
            [Target(program, sha256) for sha256, program in loaded.items()],
            sample=sample,
            engine=engine.name,
            progress=programs.project.progress,
        )
        for program in loaded.values():
            program.close()
        return {one.program_sha256: [one.timing.p50_us, one.timing.p90_us] for one in found.measurements}

    times = programs.project.json_step(
        "rival-times", inputs, compute, code=("ebbtide.profiling", "ebbtide.engine"), libraries=LOWERING
    )
    return replace(measured, content={**measured.content, "rivals": times})


def score_rivals(programs: Programs, table: Table, rule: OutsideRule | None, shrinking: Shrinking) -> dict[str, Any]:
    """What the reference, the rivals and every trial score on test, which is opened for the same choices.

    Returns:
        ``n``, ``untouched``, ``tuned`` (None where there is none) and ``trials``: of each ``value`` and its ``drop``
        against the reference.
    """
    universal, project = programs.universal, programs.project
    choices = choices_of(programs, table, rule)
    digest = project.store.digest
    inputs = {
        "choices": choices,
        "data": universal.facts["digest"],
        "untouched": digest(shrinking.untouched.weights),
        "tuned": None if shrinking.tuned is None else digest(shrinking.tuned.weights),
        "trials": [digest(made.weights) for made in shrinking.trials],
        **project.inputs("metric", "sparsity.confidence"),
    }

    def compute() -> dict[str, Any]:
        from ebbtide.data import FrozenChoices
        from ebbtide.model import metric_value, predict
        from ebbtide.sparsity.paired import paired_drop

        workshop = shrinking.workshop
        test = universal.dataset.test.open(FrozenChoices.of(choices))
        labels = np.asarray(test.labels)

        def scored(graph: Graph) -> tuple[float, Any]:
            found = predict(graph, test)
            return metric_value(project.recipe.metric, found, labels, universal.classes), found == labels

        untouched, right = scored(workshop.universal.graph)
        tuned = None
        if shrinking.tuned is not None:
            tuned, right = scored(workshop.tuned_graph(shrinking.tuned))
        trials = []
        for made in shrinking.trials:
            value, own = scored(workshop.load(made).graph)
            drop = paired_drop(right, own, confidence=workshop.section.confidence)
            trials.append({"value": value, "drop": drop.to_json()})
        return {"n": len(test), "untouched": untouched, "tuned": tuned, "trials": trials}

    found: dict[str, Any] = project.json_step(
        "rivals", inputs, compute, code=("ebbtide.sparsity", "ebbtide.model", "ebbtide.data"), libraries=TORCH
    )
    return found


def record_times(measured: Measurements, program: Program) -> tuple[float, float] | None:
    """p50 and p90 of a rival in a record, if it has them."""
    found = measured.content.get("rivals", {}).get(program.sha256)
    return None if found is None else (found[0], found[1])
