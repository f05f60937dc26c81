"""What a classifier learns from: labels, and the logits of a larger model beside them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from ebbtide.errors import EbbtideError
from ebbtide.model.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.data import Augmentation, Split

_MOST_REMEMBERED = 1 << 26  # bytes of logits


@dataclass(frozen=True, eq=False)
class Transfer:
    """Samples beside those that are learned, which a teacher alone answers; their labels are never read.

    Samples of classes that a student does not tell apart still show what its teacher looks at.

    Args:
        samples: what is drawn from.
        per_batch: how many come with each batch.
        augmentation: random changes; None for none.
        seed: of their order.
        views: as of `ebbtide.model.training.fit`.
    """

    samples: Split = field(repr=False)
    per_batch: int
    augmentation: Augmentation | None = None
    seed: int = 0
    views: int | None = None
    _order: dict[int, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """All that the loss depends on, as JSON values."""
        ids = hashlib.sha256("\n".join(self.samples.ids).encode()).hexdigest()
        changes = None if self.augmentation is None else vars(self.augmentation)
        named = {"per_batch": self.per_batch, "seed": self.seed, "views": self.views}
        return {**named, "ids_sha256": ids, "augmentation": changes}

    def batch(self, epoch: int, step: int) -> torch.Tensor:
        """The samples that come with one batch, as the student's input; the same ones for the same numbers."""
        view = epoch % self.views if self.views else epoch
        if view not in self._order:
            self._order.clear()
            self._order[view] = np.random.default_rng([self.seed, view]).permutation(len(self.samples))
        order = self._order[view]
        places = (step * self.per_batch + np.arange(self.per_batch)) % len(order)
        return self.samples.changed(order[places], self.augmentation, stream=(view, step))


@dataclass(frozen=True, eq=False)
class Distillation:
    """A teacher, and how much a student listens to it.

    Args:
        teacher: a trained graph with the student's outputs; it is run as a copy of its own in evaluation mode.
        weight: share of the loss that is the divergence from the teacher, 0..1; the labels have the rest.
        temperature: of both in that divergence, above 0.
        remember: keep the teacher's logits of every batch, by the batch's content, up to 64 MiB. It pays where the
            same batches come again: where samples are not changed at random, or `fit` repeats its views.
        transfer: samples beside those that are learned, whose divergence from the teacher counts with `weight`, too.

    Raises:
        EbbtideError: ``model.distillation`` for numbers out of range.
    """

    teacher: Graph = field(repr=False)
    weight: float = 0.5
    temperature: float = 2.0
    remember: bool = False
    transfer: Transfer | None = None
    _memory: dict[bytes, torch.Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (0.0 <= self.weight <= 1.0 and 0.0 < self.temperature < math.inf):
            raise EbbtideError(
                "model.distillation",
                "A student cannot learn from its teacher with these numbers.",
                expected="weight from 0 to 1, temperature above 0",
                found=f"weight {self.weight:g}, temperature {self.temperature:g}",
            )

    def to_json(self) -> dict[str, Any]:
        """All that the loss depends on, as JSON values; the teacher as a SHA-256 of its tensors."""
        beside = {} if self.transfer is None else {"transfer": self.transfer.to_json()}
        return {"weight": self.weight, "temperature": self.temperature, "teacher": self.teacher.digest(), **beside}

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The teacher's logits (n, classes) of a batch, float32, without gradients.

        They are computed in the precision in force where this is called (`computing_in`), where the batch is.
        """
        key = self._key(x) if self.remember else b""
        found = self._memory.get(key)
        if found is not None:
            return found
        twin = self._twin
        if twin.device != x.device:
            twin.to(x.device)
        with torch.no_grad():
            found = twin(x).float()
        if self.remember and len(self._memory) * found.nbytes < _MOST_REMEMBERED:
            self._memory[key] = found
        return found

    def beside(self, epoch: int, step: int) -> torch.Tensor | None:
        """The samples that come with one batch for the teacher to answer; None where there are none."""
        return None if self.transfer is None or not self.weight else self.transfer.batch(epoch, step)

    def disagreement(self, logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The mean divergence of a student's logits (n, classes), float32, from the teacher's of its batch."""
        return divergence(logits, self.logits(x), self.temperature)

    @cached_property
    def _twin(self) -> Graph:
        twin = self.teacher.copy().eval()
        if len(twin.input_shape) == 3:
            twin.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return twin

    def _key(self, x: torch.Tensor) -> bytes:
        # Memory order must not matter: a permuted view of a channels_last batch is hashed without a copy.
        rows = (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).detach().contiguous().cpu()
        kind = f"{tuple(x.shape)} {x.device} {torch.is_autocast_enabled(x.device.type)}"
        return hashlib.blake2b(rows.numpy().data, digest_size=16).digest() + kind.encode()


def class_loss(
    logits: torch.Tensor,
    y: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    distillation: Distillation | None = None,
    x: torch.Tensor | None = None,
) -> torch.Tensor:
    """The mean loss of a batch: cross-entropy, and the divergence from a teacher where there is one.

    Args:
        logits: the student's, float32 (n, classes).
        y: labels (n,).
        label_smoothing: share of the labels' target spread over all classes.
        distillation: the teacher; None leaves the labels alone.
        x: the batch, exactly as the student saw it; needed with a teacher.
    """
    goal = None
    if distillation is not None and distillation.weight > 0.0:
        if x is None:
            raise ValueError("a teacher needs the batch")
        goal = distillation.logits(x)
    return blended_loss(
        logits,
        y,
        goal,
        label_smoothing=label_smoothing,
        weight=distillation.weight if distillation else 0.0,
        temperature=distillation.temperature if distillation else 1.0,
    )


def blended_loss(
    logits: torch.Tensor,
    y: torch.Tensor,
    goal: torch.Tensor | None,
    *,
    label_smoothing: float,
    weight: float,
    temperature: float,
) -> torch.Tensor:
    """(1 - w) CE(labels) + w T^2 KL(softmax(goal / T) || softmax(logits / T)), the mean over a batch.

    Source of the formula: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015
    (arXiv:1503.02531), section 2; the square keeps the gradient's size the same at every temperature.

    Args:
        logits: float32 (n, classes).
        y: labels (n,).
        goal: logits to agree with, (n, classes); None or a weight of 0 leaves the labels alone.
        label_smoothing: share of the labels' target spread over all classes.
        weight: w, 0..1.
        temperature: T, above 0.
    """
    loss = F.cross_entropy(logits, y, label_smoothing=label_smoothing)
    if goal is None or weight == 0.0:
        return loss
    return (1.0 - weight) * loss + weight * divergence(logits, goal, temperature)


def divergence(logits: torch.Tensor, goal: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 KL(softmax(goal / T) || softmax(logits / T)), the mean over a batch; see `blended_loss`.

    Args:
        logits, goal: (n, classes), float32.
        temperature: T, above 0.
    """
    wanted, found = (F.log_softmax(each / temperature, 1) for each in (goal, logits))
    return F.kl_div(found, wanted, log_target=True, reduction="batchmean") * temperature**2
