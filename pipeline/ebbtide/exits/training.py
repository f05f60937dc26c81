"""Training one exit on cached features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.exits.protocol import Exit
from ebbtide.steps import Progress, silent, write_bytes


@dataclass(frozen=True)
class ExitSettings:
    """How exits are trained; cross-entropy, AdamW, cosine to zero, features standardised by the training statistics.

    Attributes:
        epochs: passes over the cached features; they are small, so an epoch is cheap.
        batch_size: samples a step.
        learning_rate: peak, on standardised features.
        weight_decay: on weights, not on biases.
        label_smoothing: 0 keeps the confidences honest before temperature.
        seed: of the initial weights and of the order of samples.
    """

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    label_smoothing: float = 0.0
    seed: int = 0


def train_exit(
    exit_module: Exit,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    settings: ExitSettings,
    label: str = "Training exit",
    progress: Progress = silent,
) -> float:
    """Train `exit_module.classify` in place on pooled features (n, channels); returns the last epoch's mean loss.

    The features are standardised for training and the standardisation is then folded into the first linear layer, so
    that nothing is added to the lowered exit. Runs on one thread: the same seed gives the same bytes.

    Raises:
        EbbtideError: ``exits.features`` if a feature is not finite or the exit has no linear layer to fold into.
    """
    if not np.isfinite(features).all():
        raise EbbtideError(
            "exits.features",
            "The backbone's features hold NaN or infinity",
            hint="Check the model's weights and the input's mean and std; ebb check prints its accuracy.",
            place="model",
        )
    inputs, targets = torch.from_numpy(np.array(features)), torch.from_numpy(np.array(labels))
    mean, scale = inputs.mean(0), inputs.std(0, correction=0).clamp_min(1e-6)
    inputs = (inputs - mean) / scale
    generator = torch.Generator().manual_seed(settings.seed)
    classify = exit_module.classify
    _initialise(classify, generator)
    optimizer = _optimizer(classify, settings)
    steps = settings.epochs * -(-len(inputs) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    total = 0.0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with progress.task(label, settings.epochs) as task:
            for _ in range(settings.epochs):
                total = 0.0
                for batch in torch.split(torch.randperm(len(inputs), generator=generator), settings.batch_size):
                    loss = loss_of(classify(inputs[batch]), targets[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    total += loss.item() * len(batch)
                task.advance(1, loss=total / len(inputs))
    finally:
        torch.set_num_threads(threads)
    _fold_standardisation(classify, mean, scale)
    return total / len(inputs)


def _initialise(classify: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for layer in classify.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0.0, 0.02, generator=generator)
                layer.bias.zero_()


def _optimizer(classify: nn.Module, settings: ExitSettings) -> torch.optim.Optimizer:
    weights = [p for p in classify.parameters() if p.dim() > 1]
    others = [p for p in classify.parameters() if p.dim() <= 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _fold_standardisation(classify: nn.Module, mean: torch.Tensor, scale: torch.Tensor) -> None:
    """W (x - mean) / scale + b = (W / scale) x + (b - W mean / scale), in float64."""
    first = next((layer for layer in classify.modules() if isinstance(layer, nn.Linear)), None)
    if first is None:
        raise EbbtideError(
            "exits.features",
            "The exit type has no linear layer that could take the standardisation",
            place="exits.type",
            hint="Give the exit type a linear layer that reads the pooled features.",
        )
    with torch.no_grad():
        weight = first.weight.double() / scale.double()
        first.bias.copy_(first.bias.double() - weight @ mean.double())
        first.weight.copy_(weight)


def save_exit(exit_module: Exit, file: Path) -> None:
    """Write the trained part of an exit as .safetensors."""
    state = {name: tensor.contiguous() for name, tensor in exit_module.classify.state_dict().items()}
    write_bytes(file, save(state))


def load_exit(exit_module: Exit, file: Path) -> Exit:
    """Fill a fresh exit with what `save_exit` wrote, in eval mode."""
    exit_module.classify.load_state_dict(load_file(file))
    return exit_module.eval().requires_grad_(False)
