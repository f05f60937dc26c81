"""Halves of the official test samples, for weights that saw every other sample."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ebbtide.data import Dataset, FrozenChoices, load_prepared, prepare
from ebbtide.errors import EbbtideError

CHOICES = FrozenChoices.of({"all": "chosen"})


def made(tmp_path: Path, choose_on: str, *, official: bool = True, copies: bool = False) -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
    if copies:
        images[41] = images[45]
    given = {"split": np.array(["train"] * 40 + ["test"] * 20)} if official else {}
    ids = np.array([f"id{i:02}" for i in range(60)])
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(60) % 2, ids=ids, **given)
    split = SimpleNamespace(train=0.6, select=0.2, test=0.2, seed=1, protocol="test-halves", choose_on=choose_on)
    folder = tmp_path / choose_on
    folder.mkdir()
    section: Any = SimpleNamespace(npz=tmp_path / "d.npz", split=split, input=None)
    prepare(section, classes="all", seed=0, folder=folder)
    return load_prepared(folder)


def test_halves_share_out_the_official_test_samples_and_nothing_else(tmp_path: Path) -> None:
    data = made(tmp_path, "first")
    assert sorted(data.train.ids) == [f"id{i:02}" for i in range(40)]
    assert sorted({*data.select.ids, *data.test.ids}) == [f"id{i:02}" for i in range(40, 60)]
    for labels in (data.select.labels, data.test.open(CHOICES).labels):
        assert np.bincount(labels).tolist() == [5, 5]


def test_halves_change_places_and_train_stays_the_same(tmp_path: Path) -> None:
    first, second = made(tmp_path, "first"), made(tmp_path, "second")
    assert set(first.select.ids) == set(second.test.ids)
    assert set(first.test.ids) == set(second.select.ids)
    assert first.train.ids == second.train.ids
    assert first.digest != second.digest


def test_copies_stay_in_one_half(tmp_path: Path) -> None:
    data = made(tmp_path, "first", copies=True)
    assert len({"id41", "id45"} & set(data.select.ids)) in (0, 2)
    assert not data.provenance["duplicates"]["dropped"]


def test_protocol_is_told_with_the_data(tmp_path: Path) -> None:
    data = made(tmp_path, "first")
    assert data.provenance["protocol"] == "test-halves"
    assert any("one half of the official test samples" in note for note in data.provenance["notes"])


def test_halves_are_refused_without_an_official_test_set(tmp_path: Path) -> None:
    with pytest.raises(EbbtideError) as caught:
        made(tmp_path, "first", official=False)
    assert (caught.value.code, caught.value.place) == ("data.halves", "data.split")
