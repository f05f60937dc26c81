"""Training exits on cached features, those of one form together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from ebbtide.errors import EbbtideError
from ebbtide.exits.folding import fold_standardisation
from ebbtide.exits.protocol import Exit
from ebbtide.model.loss import blended_loss
from ebbtide.steps import Progress, silent, write_bytes

_CHUNK = 4096  # held-out samples at a time


@dataclass(frozen=True)
class ExitSettings:
    """How exits are trained: AdamW, cosine to zero, features standardised by the training statistics.

    The loss is (1 - w) CE + w T^2 KL(head / T || exit / T) with the model's own head as the teacher; w = 0 is plain
    cross-entropy. Of the epochs the one with the smallest loss on a held-out part of train is kept.

    Attributes:
        epochs: passes over the cached features; they are small, so an epoch is cheap.
        batch_size: samples a step.
        learning_rate: peak, on standardised features.
        weight_decay: on weights, not on biases.
        label_smoothing: 0 keeps the confidences honest before temperature.
        kl_weight: w, 0..1.
        kl_temperature: T, above 0.
        held_out: share of train, 0..1, that an exit does not learn from; 0 keeps the last epoch.
        patience: epochs without a better one after which an exit stops.
        seed: of the initial weights, of the order of samples and of the held-out part.
    """

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    label_smoothing: float = 0.0
    kl_weight: float = 0.0
    kl_temperature: float = 2.0
    held_out: float = 0.1
    patience: int = 10
    seed: int = 0


@dataclass(frozen=True)
class ExitHistory:
    """What training an exit did.

    Attributes:
        held_out_loss: mean loss on the held-out part after the epoch that was kept; None without such a part.
        epochs: number of the epoch that was kept, from 1.
    """

    held_out_loss: float | None
    epochs: int


def train_exit(
    exit_module: Exit,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    settings: ExitSettings,
    head_logits: NDArray[np.float32] | None = None,
    passes: int = 1,
    label: str = "Training exit",
    progress: Progress = silent,
) -> ExitHistory:
    """Train one exit; see `train_exits`."""
    (history,) = train_exits(
        [exit_module],
        [features],
        labels,
        settings=settings,
        head_logits=head_logits,
        passes=passes,
        label=label,
        progress=progress,
    )
    return history


def train_exits(
    exits: Sequence[Exit],
    features: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    *,
    settings: ExitSettings,
    head_logits: NDArray[np.float32] | None = None,
    passes: int = 1,
    label: str = "Training exits",
    progress: Progress = silent,
) -> list[ExitHistory]:
    """Train `classify` of exits of one form in place, on pooled features (n, features, ...) of each.

    No loss depends on two exits, so each learns what it would alone; one batched product for all of them is several
    times faster than one after the other. The features are standardised for training, and the standardisation is then
    folded into the first layer, so that nothing is added to the lowered exit. Runs on one thread: the same seed gives
    the same bytes.

    Args:
        exits: alike but for the values of their parameters.
        features: of each.
        labels: (n,), the same samples for all.
        settings: how.
        head_logits: (n, classes) of the model's own head, for the KL part of the loss.
        passes: how often each sample is among the n, in whole passes one after the other; held-out samples are held
            out of all of them.
        label: of the progress bar.
        progress: shows epochs.

    Raises:
        EbbtideError: ``exits.features`` if a feature is not finite, or the exits' first layer cannot take the
            standardisation; ``exits.settings`` for numbers out of range or a missing teacher.
    """
    _check(settings, head_logits, features)
    learning, held_out = _hold_out(len(labels), passes, settings)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        group = _Group(exits, features, learning)
        targets = torch.from_numpy(np.array(labels))
        goal = torch.from_numpy(np.array(head_logits)) if head_logits is not None and settings.kl_weight else None
        return _train(group, targets, goal, (learning, held_out), settings, label, progress)
    finally:
        torch.set_num_threads(threads)


def _check(
    settings: ExitSettings, head_logits: NDArray[np.float32] | None, features: Sequence[NDArray[np.float32]]
) -> None:
    if not (0.0 <= settings.held_out < 1.0 and 0.0 <= settings.kl_weight <= 1.0 and settings.kl_temperature > 0.0):
        raise EbbtideError(
            "exits.settings",
            "Exits cannot be trained with these numbers",
            expected="held_out at least 0 and below 1, kl_weight 0..1, kl_temperature above 0",
            found=f"{settings.held_out:g}, {settings.kl_weight:g}, {settings.kl_temperature:g}",
            place="exits",
        )
    if settings.kl_weight and head_logits is None:
        raise EbbtideError("exits.settings", "An exit that learns from the head needs the head's logits", place="exits")
    if not all(np.isfinite(values).all() for values in features):
        raise EbbtideError(
            "exits.features",
            "The backbone's features hold NaN or infinity",
            hint="Check the model's weights and the input's mean and std; ebb check prints its accuracy.",
            place="model",
        )


def _hold_out(rows: int, passes: int, settings: ExitSettings) -> tuple[Tensor, Tensor]:
    """Rows to learn from and rows held out, ascending; of each sample all passes together."""
    samples = rows // passes
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(settings.seed + 1))
    held = torch.zeros(samples, dtype=torch.bool)
    held[order[: round(settings.held_out * samples)]] = True
    everywhere = held.repeat(passes)
    return (~everywhere).nonzero().flatten(), everywhere.nonzero().flatten()


class _Group:
    """Exits of one form, their parameters stacked along a first axis."""

    def __init__(self, exits: Sequence[Exit], features: Sequence[NDArray[np.float32]], learning: Tensor) -> None:
        self.exits = [one.classify for one in exits]
        self.inputs = torch.empty(len(exits), *features[0].shape)
        self.means, self.scales = [], []
        for row, values in zip(self.inputs, features, strict=True):
            row.copy_(torch.from_numpy(np.array(values)))
            mean, scale = _standardisation(row[learning])
            self.means.append(mean)
            self.scales.append(scale)
            shape = (1, -1, *[1] * (row.dim() - 2))
            row.sub_(mean.view(shape)).div_(scale.view(shape))

    def begin(self, seed: int) -> dict[str, Tensor]:
        """Initial parameters, the same for an exit in any company."""
        for classify in self.exits:
            _initialise(classify, torch.Generator().manual_seed(seed))
        self.parameters, _ = stack_module_state(self.exits)
        # Without weights of its own: only the form is used.
        form = copy.deepcopy(self.exits[0]).to("meta")

        def call(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            logits: Tensor = functional_call(form, parameters, (x,))
            return logits

        self._call: Callable[..., Tensor] = vmap(call)
        return self.parameters

    def logits(self, rows: Tensor) -> Tensor:
        """(exits, rows, classes)."""
        return self._call(self.parameters, self.inputs.index_select(1, rows))

    def finish(self, parameters: dict[str, Tensor]) -> None:
        """Give each exit its parameters, with its standardisation."""
        with torch.no_grad():
            for index, classify in enumerate(self.exits):
                for name, parameter in classify.named_parameters():
                    parameter.copy_(parameters[name][index])
                fold_standardisation(classify, self.means[index], self.scales[index])


def _standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of each feature: its deviation, at least a hundredth of the features' mean deviation.

    A channel that is (almost) always off would otherwise get enormous weights, which turn rounding into logits.
    """
    axes = [axis for axis in range(features.dim()) if axis != 1]
    deviation, mean = torch.std_mean(features, axes, correction=0)
    floor = float(deviation.mean()) / 100
    return mean, deviation.clamp_min(floor if floor > 0.0 else 1.0)


def _train(
    group: _Group,
    targets: Tensor,
    goal: Tensor | None,
    rows: tuple[Tensor, Tensor],
    settings: ExitSettings,
    label: str,
    progress: Progress,
) -> list[ExitHistory]:
    learning, held_out = rows
    count = len(group.exits)
    generator = torch.Generator().manual_seed(settings.seed)
    parameters = group.begin(settings.seed)
    optimizer = _optimizer(parameters, settings)
    steps = settings.epochs * -(-len(learning) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    kept = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    histories = [ExitHistory(None, 0)] * count
    with progress.task(label, settings.epochs) as task:
        for epoch in range(settings.epochs):
            total = 0.0
            order = learning[torch.randperm(len(learning), generator=generator)]
            for batch in torch.split(order, settings.batch_size):
                optimizer.zero_grad()
                loss = _loss(group.logits(batch), targets[batch], None if goal is None else goal[batch], settings)
                # The sum over exits, so that no exit's gradient depends on how many others there are.
                (loss * count).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += loss.item() * len(batch)
            found = _held_out_losses(group, held_out, targets, goal, settings) if len(held_out) else None
            for index in range(count):
                new = ExitHistory(None if found is None else float(found[index]), epoch + 1)
                if _is_better(new, histories[index], settings.patience):
                    histories[index] = new
                    for name, tensor in kept.items():
                        tensor[index] = parameters[name].detach()[index]
            task.advance(1, loss=total / len(learning))
            if found is not None and all(epoch + 1 - one.epochs >= settings.patience for one in histories):
                break
    group.finish(kept)
    return histories


def _is_better(new: ExitHistory, old: ExitHistory, patience: int) -> bool:
    if new.held_out_loss is None or old.held_out_loss is None:
        return True
    return new.epochs - old.epochs <= patience and new.held_out_loss < old.held_out_loss


def _loss(logits: Tensor, y: Tensor, goal: Tensor | None, settings: ExitSettings) -> Tensor:
    """The mean loss over exits and samples; logits are (exits, samples, classes)."""
    count = len(logits)
    return blended_loss(
        logits.flatten(0, 1),
        y.repeat(count),
        None if goal is None else goal.repeat(count, 1),
        label_smoothing=settings.label_smoothing,
        weight=settings.kl_weight,
        temperature=settings.kl_temperature,
    )


@torch.no_grad()
def _held_out_losses(
    group: _Group, rows: Tensor, targets: Tensor, goal: Tensor | None, settings: ExitSettings
) -> Tensor:
    total = torch.zeros(len(group.exits))
    for chunk in torch.split(rows, _CHUNK):
        wanted = None if goal is None else goal[chunk]
        for index, logits in enumerate(group.logits(chunk)):
            total[index] += len(chunk) * _loss(logits[None], targets[chunk], wanted, settings)
    return total / len(rows)


def _initialise(classify: nn.Module, generator: torch.Generator) -> None:
    """He et al. 2015 (arXiv:1502.01852) before a ReLU; small for the outputs, so that all classes start alike."""
    layers = [layer for layer in classify.modules() if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    with torch.no_grad():
        for layer in layers:
            deviation = 0.02 if layer is layers[-1] else (2.0 / layer.weight[0].numel()) ** 0.5
            layer.weight.normal_(0.0, deviation, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()


def _optimizer(parameters: dict[str, Tensor], settings: ExitSettings) -> torch.optim.Optimizer:
    # One axis more than a single exit's, for the exits.
    weights = [p for p in parameters.values() if p.dim() > 2]
    others = [p for p in parameters.values() if p.dim() <= 2]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def save_exit(exit_module: Exit, file: Path) -> None:
    """Write the trained part of an exit as .safetensors."""
    state = {name: tensor.contiguous() for name, tensor in exit_module.classify.state_dict().items()}
    write_bytes(file, save(state))


def load_exit(exit_module: Exit, file: Path) -> Exit:
    """Fill a fresh exit with what `save_exit` wrote, in eval mode."""
    exit_module.classify.load_state_dict(load_file(file))
    return exit_module.eval().requires_grad_(False)
