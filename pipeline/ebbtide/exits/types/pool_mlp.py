"""Mean over everything but the channels, then a perceptron with two hidden layers."""

from __future__ import annotations

from ebbtide.exits.layers import hidden_width, perceptron
from ebbtide.exits.place import Place
from ebbtide.exits.pools import MeanPool
from ebbtide.exits.protocol import Exit, ExitType


class PoolMlp:
    """DyCE's mlp3 (arXiv:2403.01695): c, w, w, classes with ReLU; c w + w^2 + w classes MACs, w of `hidden_width`."""

    name = "pool-mlp"
    depth = 2

    def unfit(self, place: Place) -> str | None:
        """It fits everywhere."""
        return None

    def build(self, place: Place) -> Exit:
        """A fresh exit; see `ExitType.build`."""
        sizes = [place.channels, *[hidden_width(place.classes)] * self.depth, place.classes]
        return Exit(MeanPool(place.channels, place.channel_axis), perceptron(sizes))


TYPE: ExitType = PoolMlp()
