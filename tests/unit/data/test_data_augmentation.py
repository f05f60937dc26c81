"""Augmentation: seeded, the right kind of change, nothing invented."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from ebbtide.data import Augmentation


def images(count: int = 64) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(1, 256, (count, 6, 5, 3), dtype=np.uint8)


def test_augmentation_is_the_same_for_same_seed_and_batch_only() -> None:
    made = Augmentation(flip=True, crop_padding=2, seed=5)
    one = made.apply(images(), kind="image", stream=(1, 2))
    assert np.array_equal(one, made.apply(images(), kind="image", stream=(1, 2)))
    assert not np.array_equal(one, made.apply(images(), kind="image", stream=(1, 3)))
    other = Augmentation(flip=True, crop_padding=2, seed=6)
    assert not np.array_equal(one, other.apply(images(), kind="image", stream=(1, 2)))


def test_flip_mirrors_about_half_and_changes_nothing_else() -> None:
    before = images(400)
    after = Augmentation(flip=True).apply(before, kind="image")
    mirrored = (after == before[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (after == before).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250


def test_crop_padding_moves_each_image_and_fills_with_black() -> None:
    before = images(200)
    after = Augmentation(crop_padding=2).apply(before, kind="image")
    assert (after.shape, after.dtype) == (before.shape, np.uint8)
    moves = set()
    padded = np.pad(before, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for i in range(len(before)):
        found = [
            (y, x) for y in range(5) for x in range(5) if np.array_equal(padded[i, y : y + 6, x : x + 5], after[i])
        ]
        assert len(found) == 1
        moves |= set(found)
    assert len(moves) == 25


def test_signal_shift_turns_round_and_noise_has_its_deviation() -> None:
    before = np.tile(np.arange(50, dtype=np.float32), (100, 2, 1))
    after = Augmentation(shift=3).apply(before, kind="signal")
    starts = after[:, 0, 0].astype(int)
    assert set(starts.tolist()) == {47, 48, 49, 0, 1, 2, 3}
    assert np.array_equal(after[0], np.roll(before[0], -starts[0], axis=1))
    noisy = Augmentation(noise=0.5).apply(before, kind="signal")
    assert noisy.dtype == np.float32
    assert abs((noisy - before).std() - 0.5) < 0.02


def test_input_is_left_alone() -> None:
    before = images()
    copy = before.copy()
    Augmentation(flip=True, crop_padding=1).apply(before, kind="image")
    assert np.array_equal(before, copy)


def test_section_gives_none_when_it_changes_nothing() -> None:
    nothing = SimpleNamespace(flip=False, crop_padding=0, noise=0.0, shift=0)
    assert Augmentation.from_section(nothing, seed=1) is None
    some = SimpleNamespace(flip=True, crop_padding=4, noise=0.0, shift=0)
    assert Augmentation.from_section(some, seed=1) == Augmentation(flip=True, crop_padding=4, seed=1)
