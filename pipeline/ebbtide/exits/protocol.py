"""What an exit type is, and where the types are found. A new type is one new file in ``exits/types``."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ebbtide.errors import EbbtideError, named
from ebbtide.exits.place import Place
from ebbtide.exits.pools import Pool
from ebbtide.kinds import kinds_in


class ExitType(Protocol):
    """A family of exits.

    An exit is ``classify(pool(feature map))``. The pooled features do not depend on the exit's weights, so they are
    computed once for all exits and epochs; with a frozen backbone that gives the same result as training in place.
    """

    name: str

    def unfit(self, place: Place) -> str | None:
        """Why there can be no exit of this type at a place, or that another type would be the same; None if it fits."""

    def build(self, place: Place) -> Exit:
        """A fresh exit for a place that it fits."""


class Exit(nn.Module):
    """Feature map (batch, ...) to logits (batch, classes).

    Args:
        pool: feature map to pooled features; no parameters.
        classify: pooled features to logits; everything that is trained. Its first layer is linear or a convolution
            without padding, so that it can take the standardisation of its inputs.
    """

    def __init__(self, pool: Pool, classify: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.classify = classify

    def forward(self, feature_map: Tensor) -> Tensor:
        """Logits of a batch of feature maps."""
        logits: Tensor = self.classify(self.pool(feature_map))
        return logits


def exit_macs(exit_module: Exit, place: Place) -> int:
    """Multiply-accumulates of an exit for one sample, as `ebbtide.model.cost` counts them; pooling is not counted."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        exit_module(torch.zeros(1, *place.shape))
    return int(counter.get_total_flops()) // 2


def exit_types() -> dict[str, ExitType]:
    """All exit types by name."""
    kinds: dict[str, ExitType] = kinds_in("ebbtide.exits.types")
    return {kind.name: kind for kind in kinds.values()}


def exit_type(name: str) -> ExitType:
    """The exit type of that name.

    Raises:
        EbbtideError: ``exits.unknown_type``.
    """
    return named(name, exit_types(), code="exits.unknown_type", what="exit type", place="exits.type")


def build_exit(name: str, place: Place) -> Exit:
    """A fresh exit of a type at a place.

    Raises:
        EbbtideError: ``exits.unknown_type``; ``exits.unfit`` with the reason where the type cannot stand there.
    """
    kind = exit_type(name)
    reason = kind.unfit(place)
    if reason is not None:
        raise EbbtideError(
            "exits.unfit",
            f"An exit of type {name} cannot stand on a feature map of shape {list(place.shape)}: {reason}",
            hint="Choose another type for this position, for example pool-linear.",
            place="exits.type",
        )
    return kind.build(place)
