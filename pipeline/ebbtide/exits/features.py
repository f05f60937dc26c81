"""One pass of the frozen backbone over a split; everything the exits and the head ever need of it, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ebbtide.data import array_file
from ebbtide.steps import Progress, silent


class _Split(Protocol):
    labels: NDArray[np.int64]

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]: ...


@dataclass(frozen=True)
class FeatureCache:
    """Pooled features and head logits of one split.

    Attributes:
        labels: (n,) int64.
        pooled: by position, (n, channels) float32.
        logits: (n, classes) float32, of the head.
    """

    labels: NDArray[np.int64]
    pooled: Mapping[int, NDArray[np.float32]]
    logits: NDArray[np.float32]

    @classmethod
    def load(cls, folder: Path) -> FeatureCache:
        """Memory-map what `cache_features` wrote."""
        pooled = {
            int(file.stem.removeprefix("pooled")): np.load(file, mmap_mode="r") for file in folder.glob("pooled*.npy")
        }
        return cls(
            labels=np.load(folder / "labels.npy"),
            pooled=dict(sorted(pooled.items())),
            logits=np.load(folder / "logits.npy", mmap_mode="r"),
        )


def cache_features(
    split: _Split,
    stages: Sequence[Callable[[Tensor], Tensor]],
    head: Callable[[Tensor], Tensor],
    *,
    pools: Mapping[int, nn.Module],
    folder: Path,
    batch_size: int = 256,
    device: str = "cpu",
    progress: Progress = silent,
) -> None:
    """Run the backbone once and write pooled features per position, head logits and labels as .npy files.

    Args:
        split: the samples, in their own order.
        stages: the backbone's stages in eval mode; called without gradients, so no weight and no statistic moves.
        head: the model's own classifier.
        pools: the pooling of each position; a position is the index of the stage it follows.
        folder: where to write.
        batch_size: samples a pass; memory grows with it.
        device: where stages and head live.
        progress: shows samples done.
    """
    count = len(split)
    files: dict[str, IO[bytes]] = {}

    def keep(name: str, values: Tensor) -> None:
        host = values.float().contiguous().cpu().numpy()
        if name not in files:
            shape = (count, host.shape[1])
            files[name] = opened.enter_context(array_file(folder / f"{name}.npy", shape, np.float32))
        files[name].write(host.data)

    with ExitStack() as opened, torch.inference_mode(), progress.task("Caching features", count) as task:
        for inputs, _ in split.batches(batch_size):
            value = inputs.to(device)
            for position, stage in enumerate(stages):
                value = stage(value)
                if position in pools:
                    keep(f"pooled{position}", pools[position](value))
            keep("logits", head(value))
            task.advance(len(inputs))
    labels = np.ascontiguousarray(split.labels, dtype=np.int64)
    with array_file(folder / "labels.npy", labels.shape, labels.dtype) as file:
        file.write(labels.data)
