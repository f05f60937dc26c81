"""Mean over everything but the channels, then one linear layer: the cheapest exit there is."""

from __future__ import annotations

from torch import Tensor, nn

from ebbtide.exits.protocol import Exit, ExitType


class MeanPool(nn.Module):
    """Mean over all axes but the batch and the channels: (batch, ..., channels, ...) to (batch, channels)."""

    def __init__(self, channel_axis: int) -> None:
        super().__init__()
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


class PoolLinear:
    """Mean pooling and one linear layer; features x classes MACs."""

    name = "pool-linear"

    def build(self, features: int, classes: int, *, channel_axis: int) -> Exit:
        """A fresh exit; see `ExitType.build`."""
        return Exit(MeanPool(channel_axis), nn.Linear(features, classes))


TYPE: ExitType = PoolLinear()
