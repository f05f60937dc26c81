"""Small models, each with one way in which channels of different tensors depend on each other."""

from __future__ import annotations

import torch
from model_samples import conv_bn
from torch import nn


class Flattened(nn.Module):
    """A map flattened before a linear layer, channels first or last."""

    def __init__(self, *, last: bool) -> None:
        super().__init__()
        self.last = last
        self.conv = conv_bn(3, 6, stride=2)
        self.hidden = nn.Linear(6 * 16, 10)
        self.fc = nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        x = x.permute(0, 2, 3, 1).flatten(1) if self.last else torch.flatten(x, 1)
        return self.fc(torch.relu(self.hidden(x)))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv_bn(3, 12), conv_bn(12, 12, groups=12)
        self.less, self.more = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.last = conv_bn(12, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.a(x))
        scale = torch.relu(self.less(x.mean((2, 3), keepdim=True)))
        return self.fc(self.last(x * torch.sigmoid(self.more(scale))).mean((2, 3)))


class Grouped(nn.Module):
    """Grouped convolutions with more channels in a group than groups, and with fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = conv_bn(3, 16)
        self.few = conv_bn(16, 16, groups=2)
        self.between = conv_bn(16, 12, 1)
        self.many = conv_bn(12, 12, groups=6)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.many(self.between(self.few(self.a(x)))).mean((2, 3)))


class Shuffled(nn.Module):
    """Channel shuffle between grouped convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv_bn(3, 24), conv_bn(24, 24, groups=2), conv_bn(24, 24, groups=2)
        self.fc = nn.Linear(24, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.a(x))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(self.c(x).mean((2, 3)))


class Gated(nn.Module):
    """A split whose halves are multiplied, a split with unequal use, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv_bn(3, 16), conv_bn(8, 12), conv_bn(20, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.a(x).chunk(2, 1)
        gated = left * torch.sigmoid(right)
        first, second = self.b(gated).split([4, 8], 1)
        joined = torch.cat([torch.relu(first), torch.tanh(second), gated], 1)
        return self.fc(self.c(joined).mean((2, 3)))


class Scaled(nn.Module):
    """ConvNeXt's block: depthwise, layer norm, MLP, layer scale, residual; and a group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 2, 2)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.norm = nn.LayerNorm(12)
        self.up, self.down = nn.Linear(12, 20), nn.Linear(20, 12)
        self.gamma = nn.Parameter(torch.rand(12))
        self.last = nn.Conv2d(12, 16, 1)
        self.group = nn.GroupNorm(4, 16)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(nn.functional.gelu(self.up(y))) * self.gamma
        x = x + y.permute(0, 3, 1, 2)
        return self.fc(torch.relu(self.group(self.last(x))).mean((2, 3)))


class PlainAttention(nn.Module):
    """Attention spelled out in matrix products, with a learned bias for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)
        self.bias = nn.Parameter(torch.randn(3, 4, 4))
        self.fc = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, 3, c // 3).permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q @ k.transpose(-2, -1) * 0.5 + self.bias, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, t, c))
        return self.fc(x.mean(1))


class Picked(nn.Module):
    """Channels picked by their number, and weights made in the graph: nothing of theirs can move."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv_bn(3, 8), conv_bn(8, 8)
        self.raw = nn.Parameter(torch.randn(6, 8))
        self.fc = nn.Linear(7, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        b = self.b(a).mean((2, 3))
        made = nn.functional.linear(b, torch.tanh(self.raw))
        return self.fc(torch.cat([made, b[:, 3:4]], 1) * a[:, 2].mean((1, 2)).unsqueeze(1))


COUPLED: dict[str, tuple[nn.Module, dict[str, int]]] = {
    # model -> units of each group, by hand
    "flatten_first": (Flattened(last=False), {"conv.0": 6, "hidden": 10}),
    "flatten_last": (Flattened(last=True), {"conv.0": 6, "hidden": 10}),
    "squeeze_excite": (SqueezeExcite(), {"a.0": 12, "less": 4, "last.0": 8}),
    "grouped": (Grouped(), {"a.0": 8, "few.0": 8, "between.0": 6}),
    "shuffled": (Shuffled(), {"a.0": 12, "b.0": 6, "c.0": 12}),
    "gated": (Gated(), {"a.0": 8, "b.0": 4, "b.0#2": 8, "c.0": 8}),
    "scaled": (Scaled(), {"stem": 12, "up": 20, "last": 4}),
    "plain_attention": (PlainAttention(), {"patch": 12, "qkv": 3}),
}
