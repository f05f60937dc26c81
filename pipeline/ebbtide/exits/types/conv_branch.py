"""A small convolutional branch made after the model's own classifier, as EENN makes its branches."""

from __future__ import annotations

from torch import nn

from ebbtide.exits.layers import SMALLEST_WIDTH, perceptron
from ebbtide.exits.place import Place
from ebbtide.exits.pools import GridPool
from ebbtide.exits.protocol import Exit, ExitType

GRID = 4
"""Places along a side of the map that the branch works on, at most."""


class ConvBranch:
    """A smaller map, one 3 x 3 convolution with ReLU as the adapter, and a copy of the classifier with narrower layers.

    After EENN (arXiv:2403.07957, and its code's "small" branch): the branch copies the form of the model's own
    classifier, pooling or flattening and hidden layers with a quarter of their outputs (at least 16), behind an
    adapter that makes the map and its channels fit. Different from there:

    * The map is first averaged to at most 4 x 4 places, which has no weights and can be kept, so that training needs
      no pass of the backbone.
    * The adapter is a full convolution, to a quarter of the classifier's channels but at least 64, not a depthwise and
      a 1 x 1 one. A map of early blocks says more by what lies beside what than by its means: on ResNet-56 for
      CIFAR-10 it gives 15 points more at a third of the depth than any form that works channel by channel.
    """

    name = "conv-branch"

    def unfit(self, place: Place) -> str | None:
        """It needs an image-like map, channels first, of at least 2 x 2 places, and a classifier to copy."""
        if len(place.shape) != 3 or place.channel_axis != 1:
            return "it takes maps of the form (channels, height, width)"
        if min(place.shape[1:]) < 2:
            return "the map has a single place in height or width, so there is nothing to convolve"
        return None if place.classifier else "the form of the model's own classifier is not known"

    def build(self, place: Place) -> Exit:
        """A fresh exit; see `ExitType.build`."""
        assert place.classifier is not None
        own = place.classifier
        pool = GridPool(place.channels, -(-min(place.shape[1:]) // GRID))
        height, width = (side // pool.window for side in place.shape[1:])
        kernel = (min(3, height), min(3, width))
        outputs = max(SMALLEST_WIDTH, own.channels // 4)
        # Without padding, so that it can take the standardisation of the map.
        layers: list[nn.Module] = [nn.Conv2d(place.channels, outputs, kernel), nn.ReLU()]
        places = (height - kernel[0] + 1) * (width - kernel[1] + 1)
        if own.pools:
            layers.append(nn.AdaptiveAvgPool2d(1))
            places = 1
        hidden = [max(16, size // 4) for size in own.hidden]
        sizes = [outputs * places, *hidden, place.classes]
        return Exit(pool, nn.Sequential(*layers, nn.Flatten(), *perceptron(sizes)))


TYPE: ExitType = ConvBranch()
