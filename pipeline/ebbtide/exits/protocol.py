"""What an exit type is, and where the types are found. A new type is one new file in ``exits/types``."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol

from torch import Tensor, nn

from ebbtide.errors import EbbtideError, nearest


class ExitType(Protocol):
    """A family of exits.

    An exit is ``classify(pool(feature map))``. The pooled features do not depend on the exit's weights, so they are
    computed once for all exits and epochs; with a frozen backbone that gives the same result as training in place.
    """

    name: str

    def build(self, features: int, classes: int, *, channel_axis: int) -> Exit:
        """A fresh exit for feature maps with `features` channels on axis `channel_axis` (the batch is axis 0)."""


class Exit(nn.Module):
    """Feature map (batch, ...) to logits (batch, classes).

    Args:
        pool: feature map to pooled features (batch, features); no parameters.
        classify: pooled features to logits; everything that is trained.
    """

    def __init__(self, pool: nn.Module, classify: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.classify = classify

    def forward(self, feature_map: Tensor) -> Tensor:
        """Logits of a batch of feature maps."""
        logits: Tensor = self.classify(self.pool(feature_map))
        return logits


def exit_types() -> dict[str, ExitType]:
    """All exit types by name."""
    package = importlib.import_module("ebbtide.exits.types")
    found: dict[str, ExitType] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        kind: ExitType = importlib.import_module(module.name).TYPE
        found[kind.name] = kind
    return found


def exit_type(name: str) -> ExitType:
    """The exit type of that name.

    Raises:
        EbbtideError: ``exits.unknown_type``.
    """
    known = exit_types()
    if name not in known:
        near = nearest(name, list(known))
        raise EbbtideError(
            "exits.unknown_type",
            f"There is no exit type {name!r}",
            expected=", ".join(sorted(known)),
            hint=f"Did you mean {near!r}?" if near else None,
            place="exits.type",
        )
    return known[name]
