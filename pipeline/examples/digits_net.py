"""A small residual network for 8 x 8 grey scans of digits, as a user would write one.

About 4.7 M MACs and 480 k parameters at the default width. Each block is a place where Ebbtide may
cut: most digits are plain after the first blocks, so early exits pay.
"""

from __future__ import annotations

from torch import Tensor, nn


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Refine the features of `x`."""
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class DigitsNet(nn.Module):
    """A stem, three stages of residual blocks and a linear head; (N, 1, 8, 8) to (N, classes)."""

    def __init__(self, *, classes: int = 10, width: int = 40, blocks: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        channels, layers = width, []
        for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
            for index in range(blocks):
                layers.append(Block(channels, outputs, stride=stride if index == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        return self.head(self.blocks(self.stem(x)))


def digits_net(*, classes: int = 10, width: int = 40, blocks: int = 1) -> DigitsNet:
    """The network with fresh weights; `digits.yaml` trains them."""
    return DigitsNet(classes=classes, width=width, blocks=blocks)
