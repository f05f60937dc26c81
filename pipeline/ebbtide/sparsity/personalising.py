"""Prune and fine-tune in turn until a budget is reached; continues after a kill, and keeps the last good step."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.errors import EbbtideError
from ebbtide.model import Graph, Metric, evaluate
from ebbtide.model.training import History, Single, Trainee, fit
from ebbtide.saliency import Gathering, Statistics, collect
from ebbtide.sparsity.outcome import Personalised
from ebbtide.sparsity.protocol import Pattern, Shrunk
from ebbtide.sparsity.schedule import Schedule
from ebbtide.steps import Progress, digest_json, silent, storage_errors

if TYPE_CHECKING:
    from ebbtide.data import Split
    from ebbtide.model.loss import Distillation
    from ebbtide.recipe import TrainingSection

_DIVERGED = "model.training_diverged"


def personalise(
    graph: Graph,
    train: Split,
    select: Split,
    *,
    pattern: Pattern,
    kept: float,
    settings: TrainingSection,
    schedule: Schedule = Schedule(),  # noqa: B008
    metric: Metric = "accuracy",
    distillation: Distillation | None = None,
    scored_on: Split | None = None,
    statistics: Statistics | None = None,
    start: Personalised | None = None,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> Personalised:
    """Make a model smaller step by step, each removal followed by learning on the user's samples.

    A budget that cannot be met is refused before anything is trained. Where learning diverges after a removal, what
    stood before that removal is returned, and says so; where there was nothing before, the error is raised.

    Args:
        graph: the model to start from, trained; stays as it is. With a budget of 1 it is fine-tuned as it stands.
        train: the user's samples.
        select: samples that the metric is shown on; nothing is chosen by it here.
        pattern: what is removed and by which scores.
        kept: share of the pattern's unit that may remain, above 0 and at most 1.
        settings: of learning after the last removal; between removals they differ in the number of epochs alone.
        schedule: the steps.
        metric: what to show.
        distillation: a teacher, in all learning.
        scored_on: samples that frozen statistics are gathered on, with labels among the graph's outputs; None takes
            `train`. A control takes those of all classes.
        statistics: what `gather` gave for `graph` and those samples, for the first removal; None gathers them here.
        start: what an earlier call made of the same graph with the same pattern, at a larger budget, to go on from.
        checkpoint: folder that is written after each epoch and continued from; None keeps none.
        progress: a task for each stretch of learning, and what every step came to.

    Raises:
        EbbtideError: ``pruning.floor``, ``pruning.budget``, ``pruning.scores``, ``sparsity.schedule`` where moving
            statistics are asked of other samples, ``saliency.too_few``, ``model.training_diverged``.
    """
    pattern.check(graph, kept=kept)
    if schedule.statistics == "moving" and scored_on is not None:
        raise EbbtideError(
            "sparsity.schedule",
            "Moving statistics are those of the samples that are learned from, and others were given.",
            hint="Take frozen statistics, or leave the other samples out.",
        )
    run = _Run(
        graph,
        train,
        select,
        pattern,
        settings,
        schedule,
        metric,
        distillation,
        scored_on,
        statistics,
        checkpoint,
        progress,
    )
    return run.to(kept, start)


def gather(graph: Graph, samples: Split, *, schedule: Schedule, seed: int, progress: Progress = silent) -> Statistics:
    """Gradients with weights that stand still; under masks those that a straight-through step would take.

    Args:
        graph: the model.
        samples: with labels among its outputs.
        schedule: how many batches of how many samples, and by which batch norm.
        seed: of their order.
        progress: a task of batches.

    Raises:
        EbbtideError: ``saliency.too_few``.
    """
    size = min(schedule.batch_size, len(samples))
    return collect(
        graph,
        samples,
        batches=min(schedule.batches, max(1, len(samples) // size)),
        batch_size=size,
        seed=seed,
        norm=schedule.norm,
        progress=progress,
    )


@dataclass
class _Run:
    graph: Graph
    train: Split
    select: Split
    pattern: Pattern
    settings: TrainingSection
    schedule: Schedule
    metric: Metric
    distillation: Distillation | None
    scored_on: Split | None
    statistics: Statistics | None
    folder: Path | None
    progress: Progress

    @cached_property
    def _whole(self) -> int:
        """How much of the pattern's unit there was in the beginning."""
        return self.pattern.size(self.graph)

    def to(self, kept: float, start: Personalised | None) -> Personalised:
        if self.folder:
            with storage_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
        present = start or self._beginning()
        budgets = self.schedule.budgets(kept, start=present.kept)
        epochs = [self.schedule.epochs_between] * (len(budgets) - 1) + [self.settings.epochs]
        with self.progress.task("personalise", total=len(budgets)) as task:
            clock, done = time.monotonic(), 0.0
            # The time of an epoch goes roughly by what is left of the model; a removal costs about one on the whole.
            work = [share * count + 1.0 for share, count in zip(budgets, epochs, strict=True)]
            for number, (budget, count) in enumerate(zip(budgets, epochs, strict=True)):
                try:
                    present = self._step(present, budget, epochs=count)
                except EbbtideError as error:
                    if error.code != _DIVERGED or not present.trail:
                        raise
                    self.progress.say(
                        f"Stopped before {100 * budget:.3g} %, the last good step is kept: {error.message}"
                    )
                    return replace(present, asked=kept, stopped=error.message)
                done += work[number]
                eta_s = round((time.monotonic() - clock) * (sum(work) - done) / done, 1)
                task.advance(1, kept=present.kept, eta_s=eta_s, **{self.metric: present.trail[-1]["select"]})
        return replace(present, asked=kept)

    def _beginning(self) -> Personalised:
        """The model before its first removal; trained first where the schedule says so."""
        own = self.graph.copy().eval()
        shrunk = Shrunk(own, None, {"kept": 1.0})
        identity = digest_json(
            {
                "graph": self.graph.digest(),
                "train": list(self.train.ids),
                "pattern": self.pattern.describe(),
                "distillation": self.distillation.to_json() if self.distillation else None,
                "metric": self.metric,
            }
        )
        begun = Personalised(own, shrunk, 1.0, 1.0, (), identity, statistics=self.statistics)
        epochs = self.schedule.epochs_before
        if not epochs:
            return begun
        trainee = Single(own, self.schedule.settings(self.settings, epochs=epochs), self.distillation)
        statistics, _ = self._learn(trainee, epochs, "0-before", identity, kept=1.0)
        return replace(begun, statistics=statistics)

    def _step(self, present: Personalised, budget: float, *, epochs: int) -> Personalised:
        identity = digest_json(
            {
                "before": present.identity,
                "budget": budget,
                "epochs": epochs,
                "settings": self.settings.model_dump(mode="json"),
                # How many steps there are, and how they are spaced, is in the budgets.
                "schedule": {**self.schedule.to_json(), "steps": None, "path": None, "first": None},
                "scored_on": list(self.scored_on.ids) if self.scored_on else None,
            }
        )
        name = f"{len(present.trail) + 1}-{identity[:16]}"
        if self.folder and Personalised.stored(self.folder / name):
            found = Personalised.restore(present, self.folder / name, self.pattern, identity, progress=self.progress)
            if found is not None:
                return found
        shrunk = self._shrink(present, budget)
        untuned = evaluate(self.pattern.finish(shrunk).graph, self.select, metric=self.metric)
        history, statistics = History((), "", 0), None
        if epochs:
            settings = self.schedule.settings(self.settings, epochs=epochs)
            trainee = self.pattern.trainee(shrunk, settings, self.distillation)
            statistics, history = self._learn(trainee, epochs, name, identity, kept=budget)
        finished = self.pattern.finish(shrunk).graph
        facts = shrunk.facts | {
            "asked": budget,
            # Of the whole model, where a removal knows of the graph it was given alone.
            "kept": shrunk.facts["kept"] * self.pattern.size(present.trained.graph) / self._whole,
            "untuned": untuned,
            "select": evaluate(finished, self.select, metric=self.metric),
            "history": history.to_json(),
        }
        made = Personalised(
            finished, shrunk, budget, facts["kept"], (*present.trail, facts), identity, statistics=statistics
        )
        if self.folder:
            made.save(self.folder / name)
            self._training_file(name).unlink(missing_ok=True)
        self.progress.say(
            f"{100 * facts['kept']:.3g} % left: {self.metric} on select {untuned:.2%} after the removal, "
            f"{facts['select']:.2%} after {epochs} epochs"
        )
        return made

    def _shrink(self, present: Personalised, budget: float) -> Shrunk:
        graph = present.trained.graph
        share = min(1.0, budget * self._whole / self.pattern.size(graph))
        statistics = None
        if self.pattern.needs_statistics():
            statistics = present.statistics or self._collect(present.graph)
        return self.pattern.shrink(graph, statistics, kept=share, masks=present.trained.masks, seed=self.settings.seed)

    def _collect(self, graph: Graph) -> Statistics:
        samples = self.scored_on or self.train
        return gather(graph, samples, schedule=self.schedule, seed=self.settings.seed, progress=self.progress)

    def _learn(
        self, trainee: Trainee, epochs: int, name: str, identity: str, *, kept: float
    ) -> tuple[Statistics | None, History]:
        """Train; and the statistics of the last epoch where moving ones are wanted."""
        settings = self.schedule.settings(self.settings, epochs=epochs)
        gathering = Gathering(trainee) if self.schedule.statistics == "moving" else None
        history = fit(
            gathering or trainee,
            self.train,
            self.select,
            settings=settings,
            metric=self.metric,
            label=f"fine-tune at {100 * kept:.3g} %",
            identity={"step": identity},
            views=self.schedule.views,
            checkpoint=self._training_file(name) if self.folder else None,
            progress=self.progress,
        )
        if gathering is None:
            return None, history
        own = gathering.statistics(batch_size=settings.batch_size, samples=len(self.train), seed=settings.seed)
        return own, history

    def _training_file(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.training.safetensors"
