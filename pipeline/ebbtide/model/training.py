"""The training loop, on graphs: for the universal model and for every later step that tunes weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ebbtide.errors import EbbtideError
from ebbtide.model.graph import Graph
from ebbtide.model.loss import Distillation, class_loss
from ebbtide.model.metric import Metric, evaluate
from ebbtide.model.progress_file import TrainingFile
from ebbtide.steps import Progress, digest_json, silent

if TYPE_CHECKING:
    from ebbtide.data import Split
    from ebbtide.recipe import TrainingSection

_CHECKED = 64  # steps between two looks at the loss


@dataclass(frozen=True)
class Epoch:
    """One pass over the train split.

    Args:
        epoch: from 0.
        loss: mean training loss of its batches (with label smoothing).
        select: the metric on the select split after it, 0..1; of the widest level where there are several.
        learning_rate: of its last step.
        levels: the metric of each nested level by its name; empty where there is one model only.
    """

    epoch: int
    loss: float
    select: float
    learning_rate: float
    levels: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON values; ``levels`` only where there are any."""
        return {name: value for name, value in asdict(self).items() if name != "levels" or value}


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
        return {"epochs": [epoch.to_json() for epoch in self.epochs], "device": self.device}


class Trainee(Protocol):
    """What the loop trains: the parameters of a graph by some loss."""

    graph: Graph

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that a continued run needs, by name; not copied."""

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copy back what `state` gave."""

    def begin(self) -> None:
        """Switch to training; called before each epoch, with the tensors where they stay for it."""

    def accumulate(self, x: torch.Tensor, y: torch.Tensor, *, epoch: int, step: int) -> torch.Tensor:
        """Set the parameters' gradients for one batch and return its mean loss, detached; they hold None before."""

    def scores(self, select: Split, metric: Metric) -> tuple[float, dict[str, float]]:
        """The metric on a split and, where there are several, that of each level by its name."""


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


def training_precision(name: str, device: torch.device) -> torch.dtype:
    """What layers compute in; "auto" is bfloat16 where the device has units for it.

    On a CPU those are AMX or the bfloat16 part of AVX-512: without them bfloat16 is slower than float32.
    """
    if name == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            found = torch.cpu.get_capabilities()
            fast = bool(found.get("amx_bf16") or found.get("avx512_bf16"))
        name = "bfloat16" if fast else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


@contextmanager
def computing_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Convolutions and products in this type; parameters and what they give stay as they are."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        yield


def batch_on(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A batch on a device, images in channels_last order."""
    x = x.to(device)
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def train(
    graph: Graph,
    train: Split,
    select: Split,
    *,
    settings: TrainingSection,
    metric: Metric,
    distillation: Distillation | None = None,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> History:
    """Train a graph in place; it ends in evaluation mode, on the CPU, with the weights of the last epoch.

    Args:
        graph: the model.
        train: samples to learn from.
        select: samples that the metric is shown on after each epoch; nothing is chosen by it.
        settings: the recipe's ``training``.
        metric: what to show.
        distillation: a teacher that it learns from beside the labels; None leaves the labels alone.
        checkpoint: file that is written after each epoch and continued from; None keeps none.
        progress: a task of batches, with loss, metric and seconds to go.

    Raises:
        EbbtideError: ``model.training_diverged`` or ``model.training_device``.
    """
    return fit(
        Single(graph, settings, distillation),
        train,
        select,
        settings=settings,
        metric=metric,
        identity={"distillation": distillation.to_json()} if distillation else None,
        checkpoint=checkpoint,
        progress=progress,
    )


class Single:
    """A graph that learns labels by itself, or with a teacher, as what `fit` trains.

    Args:
        graph: trained in place.
        settings: their precision and label smoothing.
        distillation: the teacher, if there is one.
    """

    def __init__(self, graph: Graph, settings: TrainingSection, distillation: Distillation | None = None) -> None:
        self.graph = graph
        self._settings = settings
        self._distillation = distillation

    def state(self) -> dict[str, torch.Tensor]:
        """The graph's tensors."""
        return self.graph.state()

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copy back what `state` gave."""
        self.graph.load(state)

    def begin(self) -> None:
        """Switch to training."""
        self.graph.train()
        self._device = self.graph.device
        self._precision = training_precision(self._settings.precision, self._device)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch, in the precision that layers compute in; gradients reach the weights."""
        with computing_in(self._precision, self._device):
            return self.graph(x)

    def accumulate(self, x: torch.Tensor, y: torch.Tensor, *, epoch: int, step: int) -> torch.Tensor:
        """Set the gradients for one batch."""
        teacher = self._distillation
        others = None if teacher is None else teacher.beside(epoch, step)
        others = None if others is None else batch_on(others, x.device)
        # One batch for the student, so that batch norm sees the samples together.
        seen = x if others is None else batch_on(torch.cat([x, others]), x.device)
        logits = self(seen).float()
        with computing_in(self._precision, self._device):
            loss = class_loss(
                logits[: len(x)], y, label_smoothing=self._settings.label_smoothing, distillation=teacher, x=x
            )
            if teacher is not None and others is not None:
                loss = loss + teacher.weight * teacher.disagreement(logits[len(x) :], others)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def scores(self, select: Split, metric: Metric) -> tuple[float, dict[str, float]]:
        """The metric on a split."""
        return evaluate(self.graph, select, metric=metric), {}


def fit(
    trainee: Trainee,
    train: Split,
    select: Split,
    *,
    settings: TrainingSection,
    metric: Metric,
    label: str = "train",
    identity: Mapping[str, Any] | None = None,
    views: int | None = None,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> History:
    """The training loop: for the universal model and for everything else that tunes a graph's weights.

    Everything random follows from the seed and the number of the epoch, so a run that was killed and continues from
    its checkpoint ends with the same bytes as one that was not (on one machine, with one number of threads).
    A last batch of a single sample is left out, because batch norm cannot take it. Where the loss or the weights stop
    being numbers, the trainee goes back to the last good epoch, which the checkpoint holds too.

    Args:
        trainee: what is trained, in place; its graph ends in evaluation mode, on the CPU.
        train: samples to learn from.
        select: samples that the metric is shown on after each epoch; nothing is chosen by it.
        settings: optimiser, schedule, seed and device.
        metric: what to show.
        label: the name of the progress task.
        identity: JSON values that the run depends on beside settings, samples and shapes.
        views: after so many epochs the same batches with the same random changes come again, so that a teacher's
            answers to them can be kept; None draws new ones for every epoch.
        checkpoint: file that is written after each epoch and continued from; None keeps none.
        progress: a task of batches, with loss, metric and seconds to go.

    Raises:
        EbbtideError: ``model.training_diverged`` or ``model.training_device``.
    """
    from ebbtide.data import Augmentation

    graph, device = trainee.graph, training_device(settings.device)
    place(graph, device)
    optimizer = _optimizer(graph, settings)
    facts = {
        "settings": settings.model_dump(mode="json"),
        "samples": [*train.ids],
        "state": {name: list(tensor.shape) for name, tensor in trainee.state().items()},
        "device": device.type,
    }
    repeated = {"views": views} if views else {}
    file = TrainingFile(checkpoint, digest_json({**facts, **repeated, **(identity or {})})) if checkpoint else None
    epochs = [Epoch(**epoch) for epoch in file.restore(trainee, optimizer, progress=progress)] if file else []
    resumed_from = len(epochs)
    augmentation = Augmentation.from_section(settings.augmentation, seed=settings.seed)
    steps = math.ceil(len(train) / settings.batch_size)
    with progress.task(label, total=settings.epochs * steps) as task, _repeatable(device):
        task.advance(resumed_from * steps)
        clock = time.monotonic()
        for number in range(resumed_from, settings.epochs):
            good = {name: tensor.detach().clone() for name, tensor in trainee.state().items()}
            torch.manual_seed(epoch_seed(settings.seed, number))
            # Summed where it is computed: reading each batch's loss would make a GPU wait.
            total = torch.zeros((), dtype=torch.float64, device=device)
            seen = 0
            trainee.begin()
            batches = train.batches(
                settings.batch_size,
                shuffle_seed=epoch_seed(settings.seed, number % views if views else number),
                augmentation=augmentation,
            )
            for step, (x, y) in enumerate(batches):
                if len(x) > 1:
                    _set_learning_rate(optimizer, settings, number + step / steps)
                    optimizer.zero_grad(set_to_none=True)
                    loss = trainee.accumulate(batch_on(x, device), y.to(device), epoch=number, step=step)
                    optimizer.step()
                    total += loss.double() * len(x)
                    seen += len(x)
                if step % _CHECKED == _CHECKED - 1 and not math.isfinite(float(total)):
                    break
                task.advance(1, epoch=number + 1, epochs=settings.epochs)
            if not math.isfinite(float(total)) or not _all_finite(trainee):
                trainee.load(good)
                _finish(graph)
                raise _diverged(number, settings)
            value, levels = trainee.scores(select, metric)
            mean = float(total) / max(seen, 1)
            epochs.append(Epoch(number, mean, value, optimizer.param_groups[0]["lr"], levels))
            if file:
                file.write(trainee, optimizer, [epoch.to_json() for epoch in epochs])
            spent = (time.monotonic() - clock) / (number + 1 - resumed_from)
            eta_s = round(spent * (settings.epochs - number - 1), 1)
            task.advance(0, loss=mean, **{metric: value, **levels}, eta_s=eta_s)
    _finish(graph)
    return History(tuple(epochs), device.type, resumed_from)


def place(graph: Graph, device: torch.device) -> None:
    """Move a graph to where it is trained, image models in channels_last order."""
    graph.to(device)
    if len(graph.input_shape) == 3:
        graph.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _finish(graph: Graph) -> None:
    graph.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    graph.to("cpu").eval()


def _all_finite(trainee: Trainee) -> bool:
    return all(bool(t.isfinite().all()) for t in trainee.state().values() if t.is_floating_point())


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


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of everything random in one epoch."""
    return (seed * 1_000_003 + epoch) % 2**63


def _diverged(epoch: int, settings: TrainingSection) -> EbbtideError:
    kept = f"The weights of epoch {epoch} are kept." if epoch else "The weights are as before."
    return EbbtideError(
        "model.training_diverged",
        f"The loss became NaN or infinite in epoch {epoch + 1} of {settings.epochs}",
        place="training",
        hint=f"Lower learning_rate (now {settings.learning_rate:g}) or add warmup_epochs; look for extreme values "
        f"in the data. {kept}",
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
