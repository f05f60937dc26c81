"""A split in use: stored pixels or signals, labels, ids; tensors and batches of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.data.augmentation import Augmentation
from ebbtide.data.input import InputSpec
from ebbtide.data.preprocess import normalize

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Split:
    """Samples of one split in a fixed order that mixes the classes.

    Args:
        name: "train", "select" or "test".
        ids: one text per sample.
        labels: int64 (n,), 0..k-1 in the order of the class set.
        pixels: uint8 (n, H, W, C) after crop, resize and colour, or float32 (n, C, T); usually memory-mapped.
        input: how they become the model's input.
    """

    name: str
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    pixels: NDArray[Any] = field(repr=False)
    input: InputSpec

    def __len__(self) -> int:
        return len(self.ids)

    def tensor(self, indices: Sequence[int] | NDArray[np.int64] | slice) -> torch.Tensor:
        """Model input float32 (k, C, H, W) or (k, C, T) of the samples at `indices`; equal to `preprocess` of each."""
        return self._tensor(np.asarray(self.pixels[_indexable(indices)]))

    def targets(self, indices: Sequence[int] | NDArray[np.int64] | slice) -> torch.Tensor:
        """Labels int64 (k,) of the samples at `indices`."""
        import torch

        return torch.from_numpy(np.array(self.labels[_indexable(indices)], np.int64))

    def batches(
        self, size: int, *, shuffle_seed: int | None = None, augmentation: Augmentation | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All samples once, as (input, labels) of at most `size`; the last batch may be smaller.

        Args:
            size: samples per batch.
            shuffle_seed: order of this pass, a new one each epoch; None keeps the stored order.
            augmentation: random changes. They depend on its seed, on `shuffle_seed` and on the number of the batch
                alone, so that training continued from a checkpoint sees what an uninterrupted one does.
        """
        order = np.arange(len(self))
        if shuffle_seed is not None:
            np.random.default_rng(shuffle_seed).shuffle(order)
        for number, start in enumerate(range(0, len(self), size)):
            chosen = order[start : start + size]
            yield self.changed(chosen, augmentation, stream=(shuffle_seed or 0, number)), self.targets(chosen)

    def changed(
        self, indices: NDArray[np.int64], augmentation: Augmentation | None, *, stream: tuple[int, ...]
    ) -> torch.Tensor:
        """Model input of the samples at `indices`, changed at random.

        Args:
            indices: int64 (k,).
            augmentation: the changes; None for none.
            stream: numbers that decide them, with the augmentation's seed.
        """
        # Reading a mapped file in ascending order touches each page once.
        values = self._rows(indices)
        if augmentation is not None:
            values = augmentation.apply(values, kind=self.input.kind, stream=stream)
        return self._tensor(values)

    def _rows(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        ranks = np.argsort(chosen)
        values = np.asarray(self.pixels[chosen[ranks]])
        result = np.empty_like(values)
        result[ranks] = values
        return result

    def _tensor(self, values: NDArray[Any]) -> torch.Tensor:
        import torch

        if self.input.kind == "image":
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        return torch.from_numpy(normalize(values, self.input))


def _indexable(indices: Sequence[int] | NDArray[np.int64] | slice) -> NDArray[np.int64] | slice:
    return indices if isinstance(indices, slice) else np.asarray(indices, np.int64)
