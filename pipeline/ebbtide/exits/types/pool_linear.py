"""Mean over everything but the channels, then one linear layer: the cheapest exit there is."""

from __future__ import annotations

from torch import nn

from ebbtide.exits.place import Place
from ebbtide.exits.pools import MeanPool
from ebbtide.exits.protocol import Exit, ExitType


class PoolLinear:
    """Mean pooling and one linear layer; channels x classes MACs. DyCE's mlp1 (arXiv:2403.01695)."""

    name = "pool-linear"

    def unfit(self, place: Place) -> str | None:
        """It fits everywhere."""
        return None

    def build(self, place: Place) -> Exit:
        """A fresh exit; see `ExitType.build`."""
        return Exit(MeanPool(place.channels, place.channel_axis), nn.Linear(place.channels, place.classes))


TYPE: ExitType = PoolLinear()
