"""Small models of every graph shape, and a tiny stand-in for a data split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


def conv_bn(inputs: int, outputs: int, size: int = 3, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
        nn.ReLU(inplace=True),
    )


class Padded(nn.Module):
    """A shortcut without weights: every second place, channels filled up with zeros; the pool's size from the input."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8)
        self.a, self.b = conv_bn(8, 16, stride=2), conv_bn(16, 16)
        self.fc = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = nn.functional.relu(self.a(x) + nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        x = self.b(x) + x
        x = nn.functional.avg_pool2d(x, x.shape[3])
        return self.fc(x.view(x.size(0), -1))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.a = conv_bn(inputs, outputs, stride=stride)
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.short = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(self.a(x)))
        y += self.short(x)
        return self.relu(y)


class SmallResNet(nn.Module):
    def __init__(self, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.stem = conv_bn(channels, 8)
        self.blocks = nn.Sequential(Residual(8, 8, 1), Residual(8, 16, 2), Residual(16, 16, 1), Residual(16, 32, 2))
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(32, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.blocks(self.stem(x)).mean((2, 3))))


class DsCnn(nn.Sequential):
    """Depthwise separable convolutions, as for keyword spotting."""

    def __init__(self, classes: int = 10) -> None:
        blocks = [part for _ in range(3) for part in (conv_bn(16, 16, groups=16), conv_bn(16, 16, 1))]
        super().__init__(
            conv_bn(3, 16, stride=2), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes)
        )


class Conv1dNet(nn.Sequential):
    def __init__(self, classes: int = 10) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 8), (8, 16), (16, 16)):
            layers += [nn.Conv1d(inputs, outputs, 5, padding=2), nn.BatchNorm1d(outputs), nn.ReLU(), nn.MaxPool1d(2)]
        super().__init__(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, classes))


class TinyViT(nn.Module):
    """A class token made with the batch's size, learned positions, nn.MultiheadAttention."""

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 17, width) * 0.1)
        self.blocks = nn.ModuleList(
            [nn.TransformerEncoderLayer(width, 4, 32, 0.1, batch_first=True, norm_first=True) for _ in range(2)]
        )
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.fc(self.norm(x)[:, 0])


class TinyMixer(nn.Module):
    """Tokens whose memory stays transposed, and a batch size that is used again after every cut."""

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.tokens = nn.ModuleList([nn.Linear(16, 16) for _ in range(3)])
        self.channels = nn.ModuleList([nn.Linear(width, width) for _ in range(3)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.fc = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        x = self.patch(x).flatten(2).transpose(1, 2)
        for tokens, channels, norm in zip(self.tokens, self.channels, self.norms, strict=True):
            x = x + tokens(norm(x).transpose(1, 2)).transpose(1, 2)
            x = x + channels(norm(x).reshape(batch * 16, -1)).reshape(batch, 16, -1)
        return self.fc(x.mean(1))


class DenseSplit(nn.Module):
    """Concatenation and channel split, as in DenseNet and ShuffleNet."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8)
        self.left = nn.ModuleList([conv_bn(4, 4) for _ in range(3)])
        self.fc = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for left in self.left:
            a, b = x.chunk(2, 1)
            x = torch.cat([left(a), b], 1)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.fc(x.mean((2, 3)))


SHAPES: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "resnet": (SmallResNet, (3, 16, 16)),
    "padded": (Padded, (3, 16, 16)),
    "dscnn": (DsCnn, (3, 16, 16)),
    "conv1d": (Conv1dNet, (3, 32)),
    "vit": (TinyViT, (3, 32, 32)),
    "mixer": (TinyMixer, (3, 32, 32)),
    "densesplit": (DenseSplit, (3, 16, 16)),
}


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with random parameters and statistics, so that nothing is equal by being zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if "running_var" in name:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point() and tensor.dim() <= 1:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2 + ("norm" in name))
    return module


@dataclass(frozen=True)
class ListSplit:
    """The part of a data split that models use."""

    x: torch.Tensor
    labels: np.ndarray
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def batches(self, size: int, *, shuffle_seed=None, augmentation=None):
        order = np.arange(len(self))
        if shuffle_seed is not None:
            np.random.default_rng(shuffle_seed).shuffle(order)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield self.x[chosen], torch.from_numpy(self.labels[chosen])


def learnable(count: int, classes: int = 3, shape: tuple[int, ...] = (3, 16, 16), seed: int = 0) -> ListSplit:
    """Noise around one random picture per class."""
    means = torch.randn(classes, *shape, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = np.arange(count) % classes
    noise = torch.randn(count, *shape, generator=generator)
    return ListSplit(means[labels] + noise, labels.astype(np.int64), tuple(f"{seed}-{i}" for i in range(count)))
