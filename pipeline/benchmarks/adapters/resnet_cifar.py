"""ResNets for 32 x 32 images (He et al. 2015, arXiv:1512.03385, section 4.2) and their shared trained weights.

``resnet20()`` and so on make untrained networks; ``cifar10_resnet20()`` and so on carry the shared weights, for
``model: {factory: resnet_cifar.py:cifar10_resnet20, trained: true}``. The weights (BSD-2-Clause, Yerlan Idelbayev,
pytorch_resnet_cifar10; those for CIFAR-100 trained for this project) are no part of the project: they are read from the
shared data folder and kept as .safetensors in EBBTIDE_WEIGHTS, else in ``build/weights``.

Input is RGB, (x / 255 - mean) / std with the means and deviations of `CIFAR10_INPUT` and `CIFAR100_INPUT`.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from shared_data import REPOSITORY, data_folder
from torch import nn
from torch.nn import functional as F

from ebbtide.data import InputDefaults
from ebbtide.errors import EbbtideError

CIFAR10_INPUT = InputDefaults(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=(32, 32), color="RGB")
CIFAR100_INPUT = InputDefaults(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762), size=(32, 32), color="RGB")


class PaddedShortcut(nn.Module):
    """Option A of the paper: every second pixel, and zeros for the channels that are new. No weights."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.before = new_channels // 2
        self.after = new_channels - self.before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.short: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.short = (
                nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
                if projection
                else PaddedShortcut(outputs - inputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.short(x))


class ResNetCifar(nn.Module):
    def __init__(self, blocks: int, *, width: int, classes: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _layer(width, width, blocks, stride=1, projection=projection)
        self.layer2 = _layer(width, 2 * width, blocks, stride=2, projection=projection)
        self.layer3 = _layer(2 * width, 4 * width, blocks, stride=2, projection=projection)
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _layer(inputs: int, outputs: int, blocks: int, *, stride: int, projection: bool) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride=stride, projection=projection)
    rest = [BasicBlock(outputs, outputs, stride=1, projection=projection) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def _option_a(blocks: int, classes: int = 10) -> ResNetCifar:
    return ResNetCifar(blocks, width=16, classes=classes, projection=False)


resnet20 = partial(_option_a, 3)
resnet32 = partial(_option_a, 5)
resnet44 = partial(_option_a, 7)
resnet56 = partial(_option_a, 9)


def resnet20x2(classes: int = 100) -> ResNetCifar:
    """Twice the channels (32, 64, 128), projection shortcuts."""
    return ResNetCifar(3, width=32, classes=classes, projection=True)


def cifar10_resnet20() -> nn.Module:
    """91.73 % on the 10,000 test images."""
    return _trained(resnet20(), "cifar10_resnet20")


def cifar10_resnet32() -> nn.Module:
    """92.62 % on the 10,000 test images."""
    return _trained(resnet32(), "cifar10_resnet32")


def cifar10_resnet44() -> nn.Module:
    """93.11 % on the 10,000 test images."""
    return _trained(resnet44(), "cifar10_resnet44")


def cifar10_resnet56() -> nn.Module:
    """93.39 % on the 10,000 test images."""
    return _trained(resnet56(), "cifar10_resnet56")


def cifar100_resnet20x2() -> nn.Module:
    """71.05 % on the 10,000 test images."""
    return _trained(resnet20x2(), "cifar100_resnet20x2")


def weights_file(name: str) -> Path:
    """The shared weights as .safetensors, converted from .npz at first use; the name holds the source's digest."""
    source = data_folder() / f"weights_{name}.npz"
    if not source.is_file():
        raise EbbtideError("data.missing", f"The weights {source.name} are not there.", place=str(source.parent))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    folder = Path(os.environ.get("EBBTIDE_WEIGHTS") or REPOSITORY / "build" / "weights")
    target = folder / f"{name}-{digest[:16]}.safetensors"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with np.load(source, allow_pickle=False) as archive:
            tensors = {key: torch.from_numpy(archive[key]).contiguous() for key in archive.files}
        # The .npz files leave out batch norm's counters, which a complete state dict has.
        for key in [key for key in tensors if key.endswith("running_var")]:
            tensors[key.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
        unfinished = target.with_suffix(f".{os.getpid()}.tmp")
        save_file(tensors, unfinished)
        unfinished.replace(target)
    return target


def _trained(network: ResNetCifar, name: str) -> nn.Module:
    network.load_state_dict(load_file(weights_file(name)))
    return network.eval()
