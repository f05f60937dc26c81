"""Poolings: what exits see of a feature map. They have no parameters, so each is computed once for all exits on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Pool(nn.Module):
    """A pooling: (batch, ...) to (batch, features) or (batch, features, ...); axis 1 holds the features.

    Attributes:
        name: equal for poolings that give the same at the same place.
        features: size of axis 1 of what it gives.
    """

    name: str
    features: int


class MeanPool(Pool):
    """Mean over all axes but the batch and the channels: (batch, ..., channels, ...) to (batch, channels).

    Args:
        channels: how many.
        channel_axis: where they are.
    """

    name = "mean"

    def __init__(self, channels: int, channel_axis: int) -> None:
        super().__init__()
        self.features = channels
        self.channel_axis = channel_axis

    def forward(self, feature_map: Tensor) -> Tensor:
        """Pooled features of a batch of feature maps."""
        axes = [axis for axis in range(1, feature_map.dim()) if axis != self.channel_axis]
        if not axes:
            return feature_map
        if feature_map.dim() == 4 and self.channel_axis == 1:
            # This form, and only this one, is taken by XNNPACK as one global average pooling.
            return feature_map.mean((2, 3), keepdim=True).flatten(1)
        return feature_map.mean(axes)


class GridPool(Pool):
    """Mean over windows that do not overlap: (batch, channels, H, W) to (batch, channels, H // k, W // k).

    Places that fill no window, fewer than `window` at the lower and right edges, are left out.

    Args:
        channels: how many.
        window: side k of a window.
    """

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.name = f"grid{window}"
        self.features = channels
        self.window = window

    def forward(self, feature_map: Tensor) -> Tensor:
        """A smaller map of a batch of feature maps."""
        return F.avg_pool2d(feature_map, self.window) if self.window > 1 else feature_map


class TokenPool(Pool):
    """The first class token beside the mean over the input's tokens: (batch, tokens, C) to (batch, 2 C).

    Args:
        channels: C.
        lead_tokens: tokens before the input's own.
    """

    name = "token"

    def __init__(self, channels: int, lead_tokens: int) -> None:
        super().__init__()
        self.features = 2 * channels
        self.lead_tokens = lead_tokens

    def forward(self, tokens: Tensor) -> Tensor:
        """Pooled features of a batch of token sequences."""
        return torch.cat([tokens[:, 0], tokens[:, self.lead_tokens :].mean(1)], 1)
