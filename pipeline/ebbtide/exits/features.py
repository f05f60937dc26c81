"""One pass of the frozen backbone over a split; everything the exits and the head ever need of it, kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebbtide.data import Augmentation, array_file
from ebbtide.exits.pools import Pool
from ebbtide.model.training import epoch_seed
from ebbtide.steps import Progress, silent, write_json

_FACTS = "cache.json"


class _Split(Protocol):
    @property
    def labels(self) -> NDArray[np.int64]: ...

    def __len__(self) -> int: ...

    def batches(self, size: int, *, augmentation: Augmentation | None = ...) -> Iterator[tuple[Tensor, Tensor]]: ...


@dataclass(frozen=True)
class FeatureCache:
    """Pooled features and head logits of one split; n rows are its samples in order, once for each pass.

    Attributes:
        labels: (n,) int64.
        pooled: by position and name of the pooling, (n, features, ...) float32 or float16.
        logits: (n, classes) float32, of the head.
        passes: how often each sample is there, changed at random each time.
    """

    labels: NDArray[np.int64]
    pooled: Mapping[tuple[int, str], NDArray[np.float32]]
    logits: NDArray[np.float32]
    passes: int = 1

    @classmethod
    def load(cls, folder: Path) -> FeatureCache:
        """Memory-map what `cache_features` wrote."""
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        return cls(
            labels=np.load(folder / "labels.npy"),
            pooled={
                (position, pool): np.load(folder / _file(position, pool), mmap_mode="r")
                for position, pool in facts["pooled"]
            },
            logits=np.load(folder / "logits.npy", mmap_mode="r"),
            passes=facts["passes"],
        )


def _file(position: int, pool: str) -> str:
    return f"{pool}{position}.npy"


def cache_features(
    split: _Split,
    stages: Sequence[Callable[[Tensor], Tensor]],
    head: Callable[[Tensor], Tensor],
    *,
    pools: Mapping[int, Sequence[Pool]],
    folder: Path,
    passes: int = 1,
    augmentation: Augmentation | None = None,
    half: bool = False,
    batch_size: int = 256,
    device: str = "cpu",
    progress: Progress = silent,
) -> None:
    """Run the backbone and write pooled features per position, head logits and labels as .npy files.

    One pass serves all positions and poolings. A backbone is surer of the images it learned from than of others, and
    exits trained on what it makes of those images learn to trust it too much; several passes over images that are
    changed at random, as they were for the backbone, make up for some of that.

    Args:
        split: the samples, in their own order.
        stages: the backbone's stages in eval mode; called without gradients, so no weight and no statistic moves.
        head: the model's own classifier.
        pools: the poolings at each position, each name once; a position is the index of the stage it follows.
        folder: where to write.
        passes: over the split, one after the other.
        augmentation: random changes, other ones in each pass; without it there can be one pass only.
        half: keep pooled features as float16: half the size, and an error of at most 1 in 2048 of a value.
        batch_size: samples at a time; memory grows with it.
        device: where stages and head live.
        progress: shows samples done.

    Raises:
        ValueError: for several passes that would all be the same.
    """
    if passes != 1 and augmentation is None:
        raise ValueError("several passes need an augmentation")
    count = len(split) * passes
    files: dict[str, IO[bytes]] = {}

    def keep(name: str, values: Tensor, kind: Any) -> None:
        host = values.float().contiguous().cpu().numpy().astype(kind, copy=False)
        if name not in files:
            files[name] = opened.enter_context(array_file(folder / name, (count, *host.shape[1:]), kind))
        files[name].write(host.data)

    stored = np.float16 if half else np.float32
    with ExitStack() as opened, torch.inference_mode(), progress.task("Caching features", count) as task:
        for number in range(passes):
            changed = {}
            if augmentation is not None:
                changed["augmentation"] = replace(augmentation, seed=epoch_seed(augmentation.seed, number))
            for inputs, _ in split.batches(batch_size, **changed):
                value = inputs.to(device)
                for position, stage in enumerate(stages):
                    value = stage(value)
                    for pool in pools.get(position, ()):
                        keep(_file(position, pool.name), pool(value), stored)
                keep("logits.npy", head(value), np.float32)
                task.advance(len(inputs))
    labels = np.tile(np.ascontiguousarray(split.labels, dtype=np.int64), passes)
    with array_file(folder / "labels.npy", labels.shape, labels.dtype) as file:
        file.write(labels.data)
    facts = {"passes": passes, "pooled": [[p, pool.name] for p in sorted(pools) for pool in pools[p]]}
    write_json(folder / _FACTS, facts)
