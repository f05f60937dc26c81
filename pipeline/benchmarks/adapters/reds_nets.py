"""The networks that nested widths are measured on (Corti et al. 2023, arXiv:2311.13349), as plain modules.

Full MACs, counted by `ebbtide.model.cost`, are those of the published tables: DNN 79,200 and 494,424, CNN 2,498,304 and
12,636,672, DS-CNN 2,656,768 and 28,327,812 (Google Speech Commands v2, 12 words), DS-CNN S on images 3,776,384
(28 x 28 x 1) and 5,227,136 (32 x 32 x 3), MobileNetV1 on 96 x 96 x 3 pixels 104,274,432 without its classifier.

The inputs for keywords are MFCCs, one channel of (frames, coefficients): (1, 25, 10) for DNNs, else (1, 49, 10).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

DNN_INPUT = (1, 25, 10)
KEYWORDS_INPUT = (1, 49, 10)
FASHION_INPUT = (1, 28, 28)
KEYWORDS = 12


def _dnn(width: int) -> nn.Sequential:
    inputs = DNN_INPUT[1] * DNN_INPUT[2]
    hidden = [layer for size in (inputs, width, width) for layer in (nn.Linear(size, width), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, KEYWORDS))


dnn_s = partial(_dnn, 144)
dnn_l = partial(_dnn, 436)


def _cnn(first: int, second: int, narrow: int) -> nn.Sequential:
    """Two convolutions without padding (maps of 40 x 7 and 16 x 4), a linear bottleneck, two more linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, first, (10, 4), bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, (10, 4), stride=(2, 1), bias=False),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * 16 * 4, narrow),
        nn.Linear(narrow, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, KEYWORDS),
    )


cnn_s = partial(_cnn, 28, 30, 16)
cnn_l = partial(_cnn, 60, 76, 58)


def _norm(channels: int, slope: float) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.LeakyReLU(slope) if slope else nn.ReLU()]


def separable(inputs: int, outputs: int, *, stride: int = 1, slope: float = 0.0) -> nn.Sequential:
    """A 3 x 3 depthwise and a pointwise convolution, each with batch norm and (leaky) ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False),
        *_norm(inputs, slope),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        *_norm(outputs, slope),
    )


class DepthwiseSeparable(nn.Module):
    """A first convolution, separable blocks, the global mean and a linear classifier.

    Args:
        first: its layers, up to its activation.
        blocks: the separable blocks.
        width: channels of the last one.
        classes: how many logits.
    """

    def __init__(self, first: list[nn.Module], blocks: list[nn.Sequential], *, width: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*first)
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.first(x))
        logits: torch.Tensor = self.linear(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _dscnn_keywords(width: int, blocks: int, stride: tuple[int, int], second_stride: int) -> DepthwiseSeparable:
    # Padded as TensorFlow's "same": what is odd goes below and to the right. Maps of 25 x 5, or 25 x 10 and 13 x 5.
    sideways = (1, 1) if stride[1] == 2 else (1, 2)
    first = [nn.ZeroPad2d((*sideways, 4, 5)), nn.Conv2d(1, width, (10, 4), stride, bias=False), *_norm(width, 0.0)]
    rest = [separable(width, width, stride=1 if number else second_stride) for number in range(blocks)]
    return DepthwiseSeparable(first, rest, width=width, classes=KEYWORDS)


dscnn_s = partial(_dscnn_keywords, 64, 4, (2, 2), 1)
dscnn_l = partial(_dscnn_keywords, 276, 5, (2, 1), 2)


def dscnn_s_images(channels: int = 1, classes: int = 10) -> DepthwiseSeparable:
    """DS-CNN S for images: 64 channels, LeakyReLU of torch's own slope."""
    slope = 0.01
    first = [nn.Conv2d(channels, 64, 3, 2, padding=1, bias=False), *_norm(64, slope)]
    blocks = [separable(64, 64, slope=slope) for _ in range(4)]
    return DepthwiseSeparable(first, blocks, width=64, classes=classes)


def mobilenet_v1(classes: int = 2) -> DepthwiseSeparable:
    """MobileNetV1 (Howard et al. 2017, arXiv:1704.04861) at full width."""
    widths = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    first = [nn.Conv2d(3, 32, 3, 2, padding=1, bias=False), *_norm(32, 0.0)]
    blocks = [
        separable(inputs, outputs, stride=stride)
        for inputs, outputs, stride in zip(widths[:-1], widths[1:], strides, strict=True)
    ]
    return DepthwiseSeparable(first, blocks, width=widths[-1], classes=classes)
