"""Joint tuning: all levels learn from the same batches with the same weights.

Method: Corti et al., REDS: Resource-Efficient Deep Subnetworks for Dynamic Resource Constraints, 2023,
arXiv:2311.13349; distillation and the sandwich rule: Yu and Huang, Universally Slimmable Networks, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from ebbtide.errors import EbbtideError
from ebbtide.model import History, Metric, chance_warning, evaluate, set_training, training_device
from ebbtide.model.coupling import Slices, narrow, parameters_of
from ebbtide.model.loss import blended_loss
from ebbtide.model.training import batch_on, computing_in, epoch_seed, fit, place, training_precision
from ebbtide.nesting.batch_norm import (
    Fold,
    fold_nodes,
    fold_tensors,
    foldable,
    lift_tensors,
    never_collected,
    set_norms,
    statistics_names,
)
from ebbtide.steps import Progress, silent

if TYPE_CHECKING:
    from ebbtide.data import Split
    from ebbtide.nesting.levels import Level
    from ebbtide.nesting.nested import Nested
    from ebbtide.recipe import TrainingSection

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TuningOptions:
    """How levels learn together.

    Args:
        distill: share of a narrower level's loss that is its divergence from the widest level's logits, 0..1; the
            rest is the labels'. 0 is the published form.
        temperature: of both in that divergence, above 0.
        sandwich: train the widest, the narrowest and `between` levels drawn anew for each batch, instead of all.
        between: levels drawn.
        weights: what a level's share of the loss follows from: its "parameters", or its parameters at "full-input"
            width, which is the published form.
        fold: compute shared batch norms inside the weights before them, which is the same function and much faster.
        statistics_batches: batches from which private statistics are estimated when all levels have learned.
    """

    distill: float = 0.0
    temperature: float = 1.0
    sandwich: bool = False
    between: int = 1
    weights: Literal["parameters", "full-input"] = "parameters"
    fold: bool = True
    statistics_batches: int = 200

    def __post_init__(self) -> None:
        wrong = {
            "distill": not 0.0 <= self.distill <= 1.0,
            "temperature": not 0.0 < self.temperature < math.inf,
            "between": self.between < 0,
            "statistics_batches": self.statistics_batches < 1,
        }
        for name, bad in wrong.items():
            if bad:
                raise EbbtideError(
                    "nesting.tuning",
                    f"{name} cannot be {getattr(self, name)}",
                    expected="distill 0..1, temperature above 0, between at least 0, statistics_batches at least 1",
                    place=f"widths.tuning.{name}",
                    hint="Leave it out for its default.",
                )


def loss_weights(nested: Nested, kind: Literal["parameters", "full-input"] = "parameters") -> dict[str, float]:
    """Each level's share of the joint loss: the root of its share of the parameters, scaled to a sum of 1.

    Args:
        nested: the levels.
        kind: "full-input" counts every column of each level's weights, as the published code does.
    """
    if kind == "parameters":
        counts = [level.parameters for level in nested.levels]
    else:
        full = parameters_of(nested.graph, nested.coupling, full_inputs=True)
        counts = [full.at(nested.coupling, level.widths) for level in nested.levels]
    roots = [math.sqrt(count / counts[-1]) for count in counts]
    return {level.name: root / sum(roots) for level, root in zip(nested.levels, roots, strict=True)}


def tune(
    nested: Nested,
    train: Split,
    select: Split,
    *,
    settings: TrainingSection,
    options: TuningOptions = TuningOptions(),
    metric: Metric,
    kept: Mapping[str, torch.Tensor] | None = None,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> History:
    """Train all levels together, in place; graph and statistics end on the CPU, in evaluation mode.

    Each batch goes through the levels one after the other, the widest first, and one step follows from the weighted
    sum of their gradients; only one level's activations are in memory at a time. With shared norms every level uses
    the whole network's running statistics, which never change. With private norms the levels use the batch's, and
    their own running ones are estimated from `statistics_batches` batches at the end, without augmentation.

    Killed and continued it ends with the same bytes; a divergence leaves the last good epoch, as in `fit`.

    Args:
        nested: the network and its levels.
        train: samples to learn from.
        select: samples that each level's metric is shown on after each epoch; nothing is chosen by it.
        settings: optimiser, schedule, precision, seed and device.
        options: what else.
        metric: what to show.
        kept: by parameter, bool of its shape: which weights learn; the others must be zero and stay so. All where None.
        checkpoint: file that is written after each epoch and continued from; None keeps none.
        progress: a task of batches, with loss, each level's metric and seconds to go.

    Raises:
        EbbtideError: ``nesting.statistics`` where shared norms have nothing to share; ``model.training_diverged`` or
            ``model.training_device``.
    """
    missing = never_collected(nested.graph) if nested.norm == "shared" else ()
    if missing:
        raise EbbtideError(
            "nesting.statistics",
            "Batch norm has no statistics to share: the network was never trained",
            found=f"means of 0 and variances of 1 in {missing[0]}" + (" and others" if len(missing) > 1 else ""),
            place="widths.norm",
            hint="Train the network first, give it weights with statistics, or say norm: private.",
        )
    device = training_device(settings.device)
    place(nested.graph, device)
    joint = _Joint(nested, settings, options, kept)
    identity = {
        "options": asdict(options),
        "norm": nested.norm,
        "levels": {level.name: level.widths for level in nested.levels},
    }
    try:
        history = fit(
            joint,
            train,
            select,
            settings=settings,
            metric=metric,
            label="tune",
            identity=identity,
            checkpoint=checkpoint,
            progress=progress,
        )
        if nested.norm == "private":
            place(nested.graph, device)
            joint.estimate_statistics(train, progress)
    finally:
        nested.graph.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        nested.graph.to("cpu").eval()
        for own in nested.statistics.values():
            own.update({name: tensor.cpu() for name, tensor in own.items()})
    return history


class _Program:
    """A level as a function of its input and of slices of the whole network's tensors."""

    def __init__(self, nested: Nested, level: Level, folds: tuple[Fold, ...]) -> None:
        self.name = level.name
        self._slices = Slices(nested.coupling, level.widths)
        self.module = narrow(nested.graph, nested.coupling, level.widths).module
        fold_nodes(self.module, folds)
        self._names = lift_tensors(self.module, nested.graph.state())

    def slices(self, whole: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor] | None = None) -> Tensors:
        """The tensors that the level reads: slices of the whole network's, and its own statistics if it has them."""
        return {**self._slices({name: whole[name] for name in self._names if name in whole}), **(own or {})}

    def __call__(self, x: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self.module(x, *(tensors[name] for name in self._names))
        return logits


class _Joint:
    """All levels of a network, as what `fit` trains."""

    def __init__(
        self,
        nested: Nested,
        settings: TrainingSection,
        options: TuningOptions,
        kept: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.graph = nested.graph
        self._nested = nested
        self._settings = settings
        self._options = options
        self._shared = nested.norm == "shared"
        self._folds = foldable(nested.graph) if self._shared and options.fold else ()
        # The widest first: it is what the others are to agree with.
        self._programs = [_Program(nested, level, self._folds) for level in reversed(nested.levels)]
        self._weights = loss_weights(nested, options.weights)
        self._device = nested.graph.device
        self._precision = training_precision(settings.precision, self._device)
        self._gone = {name: ~mask.to(self._device) for name, mask in (kept or {}).items()}
        if not self._shared:
            self._begin_statistics()

    def _begin_statistics(self) -> None:
        """Statistics of each narrower level: what it has, else a slice of the widest's."""
        state, names = self.graph.state(), statistics_names(self.graph)
        for program in self._programs[1:]:
            own = self._nested.statistics.get(program.name) or program.slices({name: state[name] for name in names})
            self._nested.statistics[program.name] = {name: t.to(self._device).clone() for name, t in own.items()}

    def state(self) -> Tensors:
        own = self._nested.statistics if not self._shared else {}
        extra = {f"{level}/{name}": tensor for level, found in own.items() for name, tensor in found.items()}
        return {**self.graph.state(), **extra}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        self.graph.load({name: tensor for name, tensor in state.items() if "/" not in name})
        for key, tensor in state.items():
            level, slash, name = key.partition("/")
            if slash:
                self._nested.statistics[level][name].copy_(tensor)

    def begin(self) -> None:
        for program in self._programs:
            set_training(program.module, True)
            set_norms(program.module, training=not self._shared)

    def _whole(self) -> tuple[Tensors, Tensors]:
        """All tensors of the network; and those of them that are computed from parameters, which they stand for."""
        module = self.graph.module
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        computed = fold_tensors(self._folds, tensors)
        # Levels add their gradients up in these; the way from there to the parameters is walked once.
        leaves = {name: tensor.detach().requires_grad_(tensor.requires_grad) for name, tensor in computed.items()}
        return {**tensors, **leaves}, computed

    def accumulate(self, x: torch.Tensor, y: torch.Tensor, *, epoch: int, step: int) -> torch.Tensor:
        programs = self._chosen(epoch, step)
        scale = sum(self._weights[program.name] for program in programs)
        whole, computed = self._whole()
        total = torch.zeros((), device=self._device)
        teacher = None
        for program in programs:
            tensors = program.slices(whole, self._nested.statistics.get(program.name) if not self._shared else None)
            with computing_in(self._precision, self._device):
                logits = program(x, tensors).float()
            loss = self._weights[program.name] / scale * self._loss(logits, y, teacher)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            if teacher is None:
                teacher = logits.detach()
        reached = [name for name in computed if whole[name].grad is not None]
        torch.autograd.backward([computed[name] for name in reached], [whole[name].grad for name in reached])
        self._hold()
        return total

    def _hold(self) -> None:
        """Weights that do not count get no gradient: from zero neither momentum nor decay moves them."""
        parameters = dict(self.graph.module.named_parameters()) if self._gone else {}
        for name, gone in self._gone.items():
            gradient = parameters[name].grad
            if gradient is not None:
                gradient.masked_fill_(gone, 0.0)

    def _chosen(self, epoch: int, step: int) -> list[_Program]:
        """The levels of one batch, the widest first."""
        between = self._programs[1:-1]
        if not self._options.sandwich or len(between) <= self._options.between:
            return self._programs
        random = np.random.default_rng([self._settings.seed, epoch, step])
        drawn = sorted(random.choice(len(between), self._options.between, replace=False))
        return [self._programs[0], *(between[index] for index in drawn), self._programs[-1]]

    def _loss(self, logits: torch.Tensor, y: torch.Tensor, teacher: torch.Tensor | None) -> torch.Tensor:
        return blended_loss(
            logits,
            y,
            teacher,
            label_smoothing=self._settings.label_smoothing,
            weight=self._options.distill,
            temperature=self._options.temperature,
        )

    def scores(self, select: Split, metric: Metric) -> tuple[float, dict[str, float]]:
        with torch.no_grad():
            whole, _ = self._whole()
        found = {}
        for program in self._programs:
            set_training(program.module, False)
            tensors = program.slices(whole, self._nested.statistics.get(program.name) if not self._shared else None)
            found[program.name] = evaluate(self._answering(program, tensors), select, metric=metric)
        return found[self._programs[0].name], dict(reversed(found.items()))

    def _answering(self, program: _Program, tensors: Tensors) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: program(batch_on(x, self._device), tensors)

    def estimate_statistics(self, train: Split, progress: Progress) -> None:
        """Each level's running statistics anew: means over batches of the batches' own, in float32."""
        names = statistics_names(self.graph)
        sums: dict[str, dict[str, torch.Tensor]] = {program.name: {} for program in self._programs}
        for program in self._programs:
            set_training(program.module, False)
            # With a momentum of 1 the running statistics are those of the last batch.
            set_norms(program.module, training=True, momentum=1.0)
        settings, most = self._settings, self._options.statistics_batches
        batches = train.batches(settings.batch_size, shuffle_seed=epoch_seed(settings.seed, settings.epochs))
        count = 0
        with (
            torch.no_grad(),
            progress.task("statistics", total=min(most, -(-len(train) // settings.batch_size))) as task,
        ):
            whole, _ = self._whole()
            for x, _ in islice(batches, most):
                task.advance(1)
                if len(x) < 2:
                    continue
                count += 1
                for program in self._programs:
                    tensors = program.slices(whole)
                    latest = {name: tensors[name].clone() for name in names}
                    program(batch_on(x, self._device), {**tensors, **latest})
                    held = sums[program.name]
                    for name, tensor in latest.items():
                        held[name] = held[name] + tensor.double() if name in held else tensor.double()
        for program in self._programs:
            own = self._nested.statistics.get(program.name, self.graph.state())
            for name, total in sums[program.name].items():
                own[name].copy_(total / max(count, 1))


def level_warnings(values: Mapping[str, float], select: Split, *, metric: Metric, classes: int) -> dict[str, str]:
    """What to tell the user of each level that does no better than a guess, by its name.

    Args:
        values: the metric of each level on select, 0..1.
        select: where it was measured.
        metric: which one.
        classes: number of classes.
    """
    cause = "It is too narrow or has learned too little: raise its budget, tune for longer, or try norm: private."
    labels = np.asarray(select.labels)
    found = {
        name: chance_warning(value, labels, metric=metric, classes=classes, subject=f"Level {name}", cause=cause)
        for name, value in values.items()
    }
    return {name: text for name, text in found.items() if text is not None}
