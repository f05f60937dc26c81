"""Random changes of training samples: a whole batch at once, and the same again for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ebbtide.data.input import Kind


@dataclass(frozen=True)
class Augmentation:
    """What may change in a training sample.

    Args:
        flip: images: mirror left to right with probability 1/2.
        crop_padding: images: so many black pixels around the image, then a random part of its old size.
        noise: signals: standard deviation of added normal noise, in the unit of the signal.
        shift: signals: largest shift in time, in samples either way; what leaves at one end enters at the other.
        seed: of all of it.

    What does not belong to the kind of the data does nothing.
    """

    flip: bool = False
    crop_padding: int = 0
    noise: float = 0.0
    shift: int = 0
    seed: int = 0

    @classmethod
    def from_section(cls, section: Any, *, seed: int) -> Augmentation | None:
        """The augmentation of a recipe's ``training.augmentation``, or None if it changes nothing."""
        made = cls(
            flip=section.flip,
            crop_padding=section.crop_padding,
            noise=section.noise,
            shift=section.shift,
            seed=seed,
        )
        return made if made.flip or made.crop_padding or made.noise or made.shift else None

    def apply(self, values: NDArray[Any], *, kind: Kind, stream: tuple[int, ...] = ()) -> NDArray[Any]:
        """A changed copy of a batch.

        Args:
            values: uint8 (k, H, W, C) or float32 (k, C, T).
            kind: of the data.
            stream: numbers that name this batch (epoch, batch); with the seed they decide everything.
        """
        random = np.random.default_rng([self.seed, *stream])
        return self._image(values, random) if kind == "image" else self._signal(values, random)

    def _image(self, values: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
        count, height, width, _ = values.shape
        if self.crop_padding:
            pad = self.crop_padding
            padded = np.pad(values, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
            tops, lefts = random.integers(0, 2 * pad + 1, size=(2, count))
            windows = sliding_window_view(padded, (height, width), axis=(1, 2))
            values = windows[np.arange(count), tops, lefts].transpose(0, 2, 3, 1)
        if self.flip:
            mirrored = random.random(size=(count, 1, 1, 1)) < 0.5
            values = np.where(mirrored, values[:, :, ::-1], values)
        return np.ascontiguousarray(values)

    def _signal(self, values: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
        count, _, length = values.shape
        if self.shift:
            shifts = random.integers(-self.shift, self.shift + 1, size=(count, 1, 1))
            places = (np.arange(length) - shifts) % length
            values = np.take_along_axis(values, places, axis=2)
        if self.noise:
            noise = random.standard_normal(values.shape, dtype=np.float32)
            values = values + noise * np.float32(self.noise)
        return np.ascontiguousarray(values)
