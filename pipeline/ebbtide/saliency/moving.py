"""Both gradient statistics of a model that learns meanwhile, as a by-product of its last epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ebbtide.errors import EbbtideError
from ebbtide.saliency.statistics import Statistics

if TYPE_CHECKING:
    from ebbtide.data import Split
    from ebbtide.model import Metric
    from ebbtide.model.training import Trainee

_PREFIX = "gathered/"


class Gathering:
    """A trainee whose gradients are gathered as it learns; wherever training stands, those of the latest epoch.

    The statistic of CRISP (arXiv:2311.14272): weights move from batch to batch, batch norm uses
    the batch's statistics, and the gradients are those of the training loss, a teacher's part included. `collect` is
    the form with weights that stand still.

    Args:
        inner: what is trained.
    """

    def __init__(self, inner: Trainee) -> None:
        self.graph = inner.graph
        self._inner = inner
        self._batches = torch.zeros((), dtype=torch.int64)
        self._sums = {
            f"{kind}/{name}": torch.zeros_like(parameter, memory_format=torch.contiguous_format, requires_grad=False)
            for kind in ("signed", "absolute")
            for name, parameter in self._parameters().items()
        }

    def _parameters(self) -> dict[str, torch.nn.Parameter]:
        return dict(self.graph.module.named_parameters(remove_duplicate=False))

    def state(self) -> dict[str, torch.Tensor]:
        """What the trainee needs, and what was gathered."""
        own = {f"{_PREFIX}{name}": tensor for name, tensor in (*self._sums.items(), ("batches", self._batches))}
        return {**self._inner.state(), **own}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copy back what `state` gave."""
        self._inner.load({name: tensor for name, tensor in state.items() if not name.startswith(_PREFIX)})
        for name, tensor in (*self._sums.items(), ("batches", self._batches)):
            tensor.copy_(state[f"{_PREFIX}{name}"])

    def begin(self) -> None:
        """Switch to training, and begin to gather anew."""
        self._inner.begin()
        self._batches.zero_()
        device = self.graph.device
        self._sums = {name: torch.zeros_like(tensor, device=device) for name, tensor in self._sums.items()}

    def accumulate(self, x: torch.Tensor, y: torch.Tensor, *, epoch: int, step: int) -> torch.Tensor:
        """Set the gradients for one batch, and gather them."""
        loss = self._inner.accumulate(x, y, epoch=epoch, step=step)
        for name, parameter in self._parameters().items():
            if parameter.grad is not None:
                self._sums[f"signed/{name}"] += parameter.grad
                self._sums[f"absolute/{name}"] += parameter.grad.abs()
        self._batches += 1
        return loss

    def scores(self, select: Split, metric: Metric) -> tuple[float, dict[str, float]]:
        """The trainee's."""
        return self._inner.scores(select, metric)

    def statistics(self, *, batch_size: int, samples: int, seed: int) -> Statistics:
        """What the latest epoch gave.

        Args:
            batch_size: of training.
            samples: that were learned from.
            seed: of training.

        Raises:
            EbbtideError: ``saliency.too_few`` before the first batch.
        """
        batches = int(self._batches)
        if batches == 0:
            raise EbbtideError("saliency.too_few", "No batch has been learned from, so there are no gradients.")
        gathered = {name: tensor.cpu() for name, tensor in self._sums.items()}
        return Statistics(
            signed={k.removeprefix("signed/"): t for k, t in gathered.items() if k.startswith("signed/")},
            absolute={
                k.removeprefix("absolute/"): t / batches for k, t in gathered.items() if k.startswith("absolute/")
            },
            batches=batches,
            batch_size=batch_size,
            norm="train",
            classes=None,
            samples=samples,
            seed=seed,
        )
