"""The training loop, on graphs: for the universal model and for every later step that tunes weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ebbtide.errors import EbbtideError
from ebbtide.model.graph import Graph
from ebbtide.model.metric import Metric, evaluate
from ebbtide.model.progress_file import TrainingFile
from ebbtide.steps import Progress, digest_json, silent

if TYPE_CHECKING:
    from ebbtide.data import Split
    from ebbtide.recipe import TrainingSection


@dataclass(frozen=True)
class Epoch:
    """One pass over the train split.

    Args:
        epoch: from 0.
        loss: mean training loss of its batches (with label smoothing).
        select: the metric on the select split after it, 0..1.
        learning_rate: of its last step.
    """

    epoch: int
    loss: float
    select: float
    learning_rate: float


@dataclass(frozen=True)
class History:
    """What a training run did.

    Args:
        epochs: all of them, those before a resume included.
        device: where the last of them ran.
        resumed_from: the number of epochs that were already there, 0 for a run from the start.
    """

    epochs: tuple[Epoch, ...]
    device: str
    resumed_from: int

    def to_json(self) -> dict[str, Any]:
        """JSON values that do not depend on where a run was interrupted."""
        return {"epochs": [asdict(epoch) for epoch in self.epochs], "device": self.device}


def training_device(name: str) -> torch.device:
    """The device that ``training.device`` names; "auto" is CUDA where there is one.

    Raises:
        EbbtideError: ``model.training_device`` where "cuda" is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise EbbtideError(
            "model.training_device",
            "There is no CUDA device here",
            place="training.device",
            hint="Say auto or cpu, or install a CUDA build of torch on a machine with an NVIDIA GPU.",
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def train(
    graph: Graph,
    train: Split,
    select: Split,
    *,
    settings: TrainingSection,
    metric: Metric,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> History:
    """Train a graph in place; it ends in evaluation mode, on the CPU, with the weights of the last epoch.

    Everything random follows from the seed and the number of the epoch, so a run that was killed and continues from
    its checkpoint ends with the same bytes as one that was not (on one machine, with one number of threads).
    A last batch of a single sample is left out, because batch norm cannot take it.

    Args:
        graph: the model.
        train: samples to learn from.
        select: samples that the metric is shown on after each epoch; nothing is chosen by it.
        settings: the recipe's ``training``.
        metric: what to show.
        checkpoint: file that is written after each epoch and continued from; None keeps none.
        progress: a task of batches, with loss, metric and seconds to go.

    Raises:
        EbbtideError: ``model.training_diverged`` or ``model.training_device``.
    """
    from ebbtide.data import Augmentation

    device = training_device(settings.device)
    graph.to(device)
    if len(graph.input_shape) == 3:
        graph.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(graph, settings)
    identity = digest_json(
        {
            "settings": settings.model_dump(mode="json"),
            "samples": [*train.ids],
            "state": {name: list(tensor.shape) for name, tensor in graph.state().items()},
            "device": device.type,
        }
    )
    file = TrainingFile(checkpoint, identity) if checkpoint else None
    epochs = [Epoch(**epoch) for epoch in file.restore(graph, optimizer, progress=progress)] if file else []
    resumed_from = len(epochs)
    augmentation = Augmentation.from_section(settings.augmentation, seed=settings.seed)
    steps = math.ceil(len(train) / settings.batch_size)
    with progress.task("train", total=settings.epochs * steps) as task, _repeatable(device):
        task.advance(resumed_from * steps)
        clock = time.monotonic()
        for number in range(resumed_from, settings.epochs):
            torch.manual_seed(_epoch_seed(settings.seed, number))
            loss = 0.0
            seen = 0
            graph.train()
            batches = train.batches(
                settings.batch_size, shuffle_seed=_epoch_seed(settings.seed, number), augmentation=augmentation
            )
            for step, (x, y) in enumerate(batches):
                if len(x) > 1:
                    _set_learning_rate(optimizer, settings, number + step / steps)
                    loss += _step(graph, optimizer, x.to(device), y.to(device), settings) * len(x)
                    seen += len(x)
                task.advance(1, epoch=number + 1, epochs=settings.epochs)
            loss /= max(seen, 1)
            if not math.isfinite(loss):
                raise _diverged(number, settings)
            value = evaluate(graph, select, metric=metric)
            epochs.append(Epoch(number, loss, value, optimizer.param_groups[0]["lr"]))
            if file:
                file.write(graph, optimizer, [asdict(epoch) for epoch in epochs])
            spent = (time.monotonic() - clock) / (number + 1 - resumed_from)
            task.advance(0, loss=loss, **{metric: value}, eta_s=round(spent * (settings.epochs - number - 1), 1))
    graph.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    graph.to("cpu").eval()
    return History(tuple(epochs), device.type, resumed_from)


def _step(
    graph: Graph, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, settings: TrainingSection
) -> float:
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    loss = F.cross_entropy(graph(x), y, label_smoothing=settings.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def _optimizer(graph: Graph, settings: TrainingSection) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; norms and biases (one dimension or none) are not decayed."""
    trained = [p for p in graph.module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    return torch.optim.SGD(
        groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0
    )


def learning_rate(settings: TrainingSection, epoch: float) -> float:
    """The learning rate at a time in epochs: a straight rise over the warm-up, then half a cosine down to 0.

    Source of the formula: Loshchilov and Hutter, SGDR, 2017, without restarts.
    """
    if epoch < settings.warmup_epochs:
        return settings.learning_rate * epoch / settings.warmup_epochs
    share = (epoch - settings.warmup_epochs) / (settings.epochs - settings.warmup_epochs)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def _set_learning_rate(optimizer: torch.optim.Optimizer, settings: TrainingSection, epoch: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, epoch)


def _epoch_seed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) % 2**63


def _diverged(epoch: int, settings: TrainingSection) -> EbbtideError:
    return EbbtideError(
        "model.training_diverged",
        f"The loss became NaN or infinite in epoch {epoch + 1} of {settings.epochs}",
        place="training",
        hint=f"Lower learning_rate (now {settings.learning_rate:g}) or add warmup_epochs; look for extreme values "
        "in the data.",
    )


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """Leave torch's random state as it was, and let cuDNN choose repeatable kernels meanwhile."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        cudnn.deterministic, cudnn.benchmark = True, False
        try:
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = before
