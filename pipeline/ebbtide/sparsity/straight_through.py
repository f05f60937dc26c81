"""Training under masks with a straight-through estimator: what is masked stays alive and can return.

Forward a layer uses W * mask; backward the gradient of that product reaches W itself wherever its block is kept, and
SR-STE adds ``decay * (1 - mask) * W``, which pulls masked weights towards zero. Sources: Zhou et al., Learning N:M
Fine-grained Structured Sparse Neural Networks From Scratch, ICLR 2021 (arXiv:2102.04010), equation 8, and CRISP, DATE
2024 (arXiv:2311.14272), for blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call

from ebbtide.model import Graph, Metric, evaluate
from ebbtide.model.graph import attribute
from ebbtide.model.loss import Distillation
from ebbtide.model.training import Single, batch_on, computing_in, training_precision
from ebbtide.sparsity.layout import tensor
from ebbtide.sparsity.masks import Masks, spread

if TYPE_CHECKING:
    from ebbtide.data import Split
    from ebbtide.recipe import TrainingSection

DECAY = 2e-4


class _StraightThrough(torch.autograd.Function):
    """weight * mask, whose gradient passes where `alive`."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, mask: torch.Tensor, alive: torch.Tensor, decay: float) -> torch.Tensor:
        ctx.save_for_backward(weight, mask, alive)
        ctx.decay = decay
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, mask, alive = ctx.saved_tensors
        found = gradients[0] * alive
        if ctx.decay:
            found = found + ctx.decay * ((1.0 - mask) * weight)
        return found, None, None, None


def straight_through(weight: torch.Tensor, mask: torch.Tensor, alive: torch.Tensor, decay: float) -> torch.Tensor:
    """A weight times its mask.

    Args:
        weight: any shape.
        mask: of that shape and type, 0 or 1: what counts.
        alive: of that shape and type, 0 or 1: where the gradient of the product reaches the weight.
        decay: times (1 - mask) * weight it is added to the gradient, 0 or more.
    """
    found: torch.Tensor = _StraightThrough.apply(weight, mask, alive, decay)  # type: ignore[no-untyped-call]
    return found


class MaskedTrainee(Single):
    """A graph that learns under masks, as `ebbtide.model.training.fit` trains it: its dense weights are what is kept.

    Args:
        graph: trained in place; its masked weights stay as they are under the masks.
        masks: which weights count; they do not change meanwhile.
        settings: the recipe's ``training``.
        distillation: a teacher beside the labels.
        straight: let gradients through to masked weights of kept blocks. Those of blocks that are gone get none: they
            never return. Off, nothing that is masked learns, and nothing decays: a control.
        decay: of masked weights, see `straight_through`; 2e-4 is the published one.
    """

    def __init__(
        self,
        graph: Graph,
        masks: Masks,
        settings: TrainingSection,
        distillation: Distillation | None = None,
        *,
        straight: bool = True,
        decay: float = DECAY,
    ) -> None:
        super().__init__(graph, settings, distillation)
        self._masks = masks
        self._straight = straight
        self._decay = decay if straight else 0.0
        self._prepare()

    def _prepare(self) -> None:
        """The masks where the weights are, in their type and memory order."""
        self._device = self.graph.device
        self._precision = training_precision(self._settings.precision, self._device)
        self._kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for layer in self._masks.masked:
            weight = attribute(self.graph.module, layer.name).detach()
            mask = tensor(self._masks.keep(layer), layer.size)
            alive = mask
            if self._straight:
                alive = torch.ones_like(mask)
                if layer.carries == "blocks":
                    alive = tensor(spread(self._masks.blocks[layer.name], self._masks.shape.block), layer.size)
            self._kept[layer.name] = tuple(torch.empty_like(weight).copy_(one) for one in (mask, alive))  # type: ignore[assignment]

    def begin(self) -> None:
        """Switch to training."""
        super().begin()
        self._prepare()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch under the masks, in the precision that layers compute in; gradients reach the weights."""
        weights = {
            name: straight_through(attribute(self.graph.module, name), mask, alive, self._decay)
            for name, (mask, alive) in self._kept.items()
        }
        with computing_in(self._precision, self._device):
            logits: torch.Tensor = functional_call(self.graph.module, weights, (x,))
        return logits

    def scores(self, select: Split, metric: Metric) -> tuple[float, dict[str, float]]:
        """The metric of the masked graph."""
        self.graph.eval()
        self._prepare()
        with torch.no_grad():
            return evaluate(lambda x: self(batch_on(x, self._device)), select, metric=metric), {}
