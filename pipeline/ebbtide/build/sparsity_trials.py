"""The steps that make models for the class set: the whole one fine-tuned, and one for each budget that is tried."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.project import TORCH, Project, read_json, same_json
from ebbtide.build.sparsity_plan import passes_of, pattern_of, plan_removal, schedule_of
from ebbtide.build.threads import fitting_threads
from ebbtide.build.universal import VISION, Universal, write_model
from ebbtide.steps import write_bytes, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.model import Graph
    from ebbtide.model.loss import Distillation, Transfer
    from ebbtide.recipe import SparsitySection, TrainingSection
    from ebbtide.sparsity.outcome import Personalised
    from ebbtide.sparsity.protocol import Pattern

CODE = ("ebbtide.sparsity", "ebbtide.pruning", "ebbtide.saliency", "ebbtide.nesting", "ebbtide.model", "ebbtide.data")
LIBRARIES = (*TORCH, *VISION, "safetensors", "scipy")
BACKWARD = 3
"""A step of learning costs about so many forward passes."""


@dataclass(frozen=True)
class Made:
    """A model for the class set, whole or made smaller.

    Attributes:
        folder: ``weights.safetensors`` and ``model.json`` of what would ship, ``right.npy``, ``made.json``.
        inputs: of the step that made it; those of a trial name what it went on from, and so make it again.
        facts: ``select``: the metric there; ``passes``: over train, from the universal model on; of a trial also
            ``budget``, ``kept``, ``kept_macs``, ``stopped`` and the ``trail`` of removals.
    """

    folder: Path
    inputs: dict[str, Any]
    facts: dict[str, Any]

    @property
    def weights(self) -> Path:
        """The .safetensors of its state."""
        return self.folder / "weights.safetensors"

    @functools.cached_property
    def model(self) -> dict[str, Any]:
        """Parameters, MACs, weight bytes, notes."""
        found: dict[str, Any] = read_json(self.folder / "model.json")
        return found

    @property
    def right(self) -> NDArray[np.bool_]:
        """For each sample of select whether its class is found, (n,)."""
        found: NDArray[np.bool_] = np.load(self.folder / "right.npy", allow_pickle=False)
        return found


class Workshop:
    """Makes models for the class set from one universal model; every model is a step of its own.

    Args:
        universal: with the head of the class set.
        section: what the recipe asks for.
        ordered: hybrid with widths: file of the network whose units are in their final order; None without.
        levels: widths of its narrower levels, ascending.
    """

    def __init__(
        self,
        universal: Universal,
        section: SparsitySection,
        *,
        ordered: Path | None = None,
        levels: Sequence[dict[str, int]] = (),
    ) -> None:
        self.universal = universal
        self.section = section
        self._ordered = ordered
        self._levels = levels

    @property
    def _project(self) -> Project:
        return self.universal.project

    @functools.cached_property
    def pattern(self) -> Pattern:
        """What removes."""
        return pattern_of(self._project, self.section, self._levels)

    @functools.cached_property
    def graph(self) -> Graph:
        """What is made smaller: the universal model, its units in their final order."""
        if self._ordered is None:
            return self.universal.graph
        from ebbtide.build.nesting import load_nested

        return load_nested(self.universal, self._ordered.parent).graph.eval()

    def identity(self) -> dict[str, Any]:
        """What every trial depends on, its budget and its start aside."""
        project, section = self._project, self.section
        return {
            **self.universal.identity(),
            "structure": self.universal.structure(),
            "ordered": None if self._ordered is None else project.store.digest(self._ordered),
            "pattern": same_json(self.pattern.describe()),
            **project.inputs("metric"),
            "seed": project.recipe.seed,
            "settings": self._settings.model_dump(mode="json"),
            "schedule": section.schedule.model_dump(mode="json"),
            "views": section.tuning.views,
            "distillation": section.distillation.model_dump(mode="json"),
            "transfer": (self.universal.facts["transfer"] or {"digest": None})["digest"],
        }

    @property
    def _settings(self) -> TrainingSection:
        return self._project.recipe.fine_tuning_settings

    def plan(self) -> dict[str, Any]:
        """Budgets, and what stays whole; see `plan_removal`.

        Raises:
            EbbtideError: ``pruning.floor``, ``sparsity.nothing_to_prune``.
        """
        inputs = {
            "structure": self.universal.structure(),
            "pattern": same_json(self.pattern.describe()),
            "target": self.section.target.model_dump() if self.section.target else None,
            "budgets": self.section.budgets,
        }
        found: dict[str, Any] = self._project.json_step(
            "sparsity-plan",
            inputs,
            lambda: plan_removal(self._project, self.section, self.pattern, self.graph),
            code=CODE,
            libraries=LIBRARIES,
        )
        return found

    @functools.cached_property
    def _from_universal(self) -> Distillation | None:
        return self._taught_by(lambda: self.universal.graph)

    @functools.cached_property
    def _distillation(self) -> Distillation | None:
        if self.section.distillation.teacher != "tuned":
            return self._from_universal
        return self._taught_by(lambda: self.tuned_graph(self.tune_whole()))

    def _taught_by(self, teacher: Any) -> Distillation | None:
        from ebbtide.model.loss import Distillation

        told = self.section.distillation
        if told.teacher == "none":
            return None
        changes = self._settings.augmentation
        again = self.section.tuning.views is not None or not any(changes.model_dump().values())
        return Distillation(teacher(), told.weight, told.temperature, remember=again, transfer=self._transfer())

    def _transfer(self) -> Transfer | None:
        """Samples of the other classes beside each batch; None where none are asked for, or there are none."""
        from ebbtide.data import Augmentation
        from ebbtide.model.loss import Transfer

        samples, told, settings = self.universal.dataset.transfer, self.section.distillation, self._settings
        if samples is None or not told.others:
            return None
        changes = Augmentation.from_section(settings.augmentation, seed=settings.seed + 1)
        return Transfer(samples, told.others, changes, settings.seed, self.section.tuning.views)

    def tuned_graph(self, tuned: Made) -> Graph:
        """The whole model that `tune_whole` left."""
        from safetensors.torch import load_file

        graph = self.universal.graph.copy()
        graph.load(load_file(tuned.weights))
        return graph.eval()

    def tune_whole(self) -> Made:
        """The honest rival: the whole model, with as many passes and the universal model as teacher.

        Raises:
            EbbtideError: ``model.training_diverged``.
        """
        passes = passes_of(self.section)
        inputs = {**self.identity(), "ordered": None, "pattern": None, "passes": passes}
        # It learns from the universal model even where it is to teach.
        inputs["distillation"] = {**inputs["distillation"], "teacher": self._first_teacher()}

        def produce(folder: Path, scratch: Path) -> None:
            from ebbtide.model.training import Single, fit

            project, data, graph = self._project, self.universal.dataset, self.universal.graph.copy()
            if passes:
                settings = schedule_of(self.section).settings(self._settings, epochs=passes)
                with self._threads(settings.batch_size):
                    fit(
                        Single(graph, settings, self._from_universal),
                        data.train,
                        data.select,
                        settings=settings,
                        metric=project.recipe.metric,
                        label="fine-tune the whole model",
                        views=self.section.tuning.views,
                        checkpoint=scratch / "training.safetensors",
                        progress=project.progress,
                    )
            self._write(folder, graph, {"passes": passes})

        return self._step("tuned", inputs, produce)

    def _first_teacher(self) -> str:
        return "none" if self.section.distillation.teacher == "none" else "universal"

    def trial(self, budget: float, larger: Sequence[float] = (), *, least: float | None = None) -> Made:
        """The model of one budget.

        Args:
            budget: share that may remain.
            larger: budgets that it is reached through, ascending; what is made on the way there serves all trials.
            least: the smallest budget that there can be a trial of, which the schedule's steps lead to; None: `budget`.
        """
        schedule, end = schedule_of(self.section), least or budget
        start: dict[str, Any] | None = None
        before = 1.0
        for share in reversed(larger):
            part = schedule.part(share, start=before, end=end)
            start, before = self._told(share, start, steps=part.steps, epochs=schedule.epochs_between), share
        part = schedule.part(budget, start=before, end=end)
        return self.again(self._told(budget, start, steps=part.steps, epochs=self._settings.epochs))

    def _told(self, budget: float, start: dict[str, Any] | None, *, steps: int, epochs: int) -> dict[str, Any]:
        """The inputs of a model: its budget, what it goes on from, in how many removals, and passes after the last."""
        inputs = {**self.identity(), "budget": budget, "start": start, "steps": steps, "epochs": epochs}
        found: dict[str, Any] = same_json(inputs)
        return found

    def again(self, inputs: dict[str, Any]) -> Made:
        """The trial of these inputs, and those it went on from; stored, as a rule."""
        start = None if inputs["start"] is None else self.again(inputs["start"])
        return self._step("personalised", inputs, lambda folder, scratch: self._try(inputs, start, folder, scratch))

    def _gathered(self) -> Path | None:
        """Gradients on the class set before the first removal, one step for all trials; None where none are needed."""
        project, section = self._project, self.section
        if not self.pattern.needs_statistics() or section.schedule.epochs_before:
            return None
        told = section.schedule.model_dump(include={"batches", "batch_size", "norm"})
        names = ("structure", "ordered", "seed")
        own = self.identity()
        inputs = {**self.universal.identity(), **{name: own[name] for name in names}, **told}

        def produce(folder: Path, _: Path) -> None:
            from ebbtide.sparsity.personalising import gather

            schedule, train = schedule_of(section), self.universal.dataset.train
            with self._threads(schedule.batch_size):
                found = gather(
                    self.graph, train, schedule=schedule, seed=self._settings.seed, progress=project.progress
                )
            found.save(folder / "statistics.safetensors")

        code = ("ebbtide.sparsity.personalising", "ebbtide.saliency", "ebbtide.model", "ebbtide.data")
        return project.step("statistics", inputs, produce, code=code, libraries=TORCH) / "statistics.safetensors"

    def _try(self, inputs: dict[str, Any], start: Made | None, folder: Path, scratch: Path) -> None:
        from ebbtide.saliency import Statistics
        from ebbtide.sparsity.personalising import personalise

        project, data = self._project, self.universal.dataset
        schedule = replace(schedule_of(self.section), steps=inputs["steps"])
        gathered = None if start is not None else self._gathered()
        with self._threads(max(self._settings.batch_size, schedule.batch_size)):
            made = personalise(
                self.graph,
                data.train,
                data.select,
                pattern=self.pattern,
                kept=inputs["budget"],
                settings=schedule.settings(self._settings, epochs=inputs["epochs"]),
                schedule=schedule,
                metric=project.recipe.metric,
                distillation=self._distillation,
                statistics=None if gathered is None else Statistics.load(gathered),
                start=None if start is None else self.load(start),
                checkpoint=scratch,
                progress=project.progress,
            )
        made.save(folder / "personalised")
        trail = [{name: value for name, value in step.items() if name != "history"} for step in made.trail]
        # What is learned between removals of this trial, and of those that it went on from.
        passes = schedule.epochs_before + sum(len(step["history"]["epochs"]) for step in made.trail)
        facts = {"budget": inputs["budget"], "kept": made.kept, "stopped": made.stopped, "trail": trail}
        self._write(folder, made.graph, {**facts, "kept_macs": trail[-1].get("kept_macs"), "passes": passes})

    def load(self, made: Made) -> Personalised:
        """A trial with its masks and dense weights."""
        from ebbtide.sparsity.outcome import Personalised

        return Personalised.load(self.graph, made.folder / "personalised", self.pattern)

    def _threads(self, batch_size: int) -> Any:
        return fitting_threads(BACKWARD * self.universal.model["macs"] * batch_size)

    def _write(self, folder: Path, graph: Graph, facts: dict[str, Any]) -> None:
        """Weights, which samples of select are right, and facts with the metric."""
        import io

        from ebbtide.model import metric_value, predict

        select = self.universal.dataset.select
        found, labels, right = predict(graph, select), np.asarray(select.labels), io.BytesIO()
        np.save(right, found == labels)
        write_bytes(folder / "right.npy", right.getvalue())
        write_model(graph, folder, notes=graph.notes)
        value = metric_value(self._project.recipe.metric, found, labels)
        write_json(folder / "made.json", {**facts, "select": value})

    def untouched(self) -> Made:
        """The universal model itself, scored as the others are."""
        inputs = {
            **self.universal.identity(),
            "structure": self.universal.structure(),
            **self._project.inputs("metric"),
        }
        return self._step(
            "untouched", inputs, lambda folder, _: self._write(folder, self.universal.graph, {"passes": 0})
        )

    def _step(self, name: str, inputs: dict[str, Any], produce: Any) -> Made:
        folder = self._project.step(name, inputs, produce, code=CODE, libraries=LIBRARIES)
        return Made(folder, inputs, read_json(folder / "made.json"))
