"""Standardisation folded into the layer that reads the features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebbtide.errors import EbbtideError


def fold_standardisation(classify: nn.Module, mean: Tensor, scale: Tensor) -> None:
    """Change the first layer so that it takes features as they are: W (x - mean) / scale + b = W' x + b'.

    W' = W / scale and b' = b - sum of W' mean over a row's weights, computed in float64. A convolution may be grouped,
    but not padded: zeros at the border would be zeros before the standardisation.

    Args:
        classify: the exit's layers.
        mean: (features,).
        scale: (features,), above 0.

    Raises:
        EbbtideError: ``exits.features`` if the first layer is of another kind, padded or without bias.
    """
    first = next((layer for layer in classify.modules() if not list(layer.children())), None)
    padded = isinstance(first, nn.Conv2d) and any(size != 0 for size in first.padding)
    if not isinstance(first, (nn.Linear, nn.Conv2d)) or first.bias is None or padded:
        raise EbbtideError(
            "exits.features",
            "The exit type's first layer cannot take the standardisation of its features",
            expected="a linear layer, or a convolution without padding, with a bias",
            found=str(first),
            place="exits.type",
            hint="Begin the exit type's trained part with such a layer.",
        )
    groups = first.groups if isinstance(first, nn.Conv2d) else 1
    with torch.no_grad():
        weight = first.weight.double()
        # (group, row, feature in the group, place)
        folded = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        folded = folded / scale.double().view(groups, 1, -1, 1)
        shift = (folded * mean.double().view(groups, 1, -1, 1)).sum((2, 3)).flatten()
        first.bias.copy_(first.bias.double() - shift)
        first.weight.copy_(folded.reshape(weight.shape))
