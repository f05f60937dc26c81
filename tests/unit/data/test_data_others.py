"""Samples of the classes beside the class set, for outside detection; and labels of a full head."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ebbtide.data import Dataset, FrozenChoices, Split, load_prepared, prepare, read_opening_log
from ebbtide.errors import EbbtideError

SHARES = SimpleNamespace(train=0.6, select=0.2, test=0.2, seed=1)
CHOICES = FrozenChoices.of({"all": "chosen"})
NAMES = ("v", "w", "x", "y", "z")


def pixels(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def section(path: Path, *, images: Any, labels: Any, split: Any = None, names: tuple[str, ...] = NAMES) -> Any:
    given = {} if split is None else {"split": np.array(split)}
    ids = np.array([f"id{i}" for i in range(len(labels))])
    np.savez(path, images=images, labels=np.asarray(labels), names=np.array(names), ids=ids, **given)
    return SimpleNamespace(npz=path, split=SHARES, input=None)


def made(tmp_path: Path, source: Any, *, name: str = "out", classes: Any = ("x", "v"), **options: Any) -> Dataset:
    folder = tmp_path / name
    folder.mkdir()
    chosen = classes if isinstance(classes, str) else list(classes)
    prepare(source, classes=chosen, seed=0, folder=folder, **options)
    return load_prepared(folder, opening_log=tmp_path / "openings")


@pytest.fixture
def source(tmp_path: Path) -> Any:
    return section(tmp_path / "d.npz", images=pixels(100), labels=np.arange(100) % 5)


def opened(data: Dataset) -> Split:
    assert data.outside_test is not None
    return data.outside_test.open(CHOICES)


def test_others_are_select_and_test_of_a_build_of_all_classes(tmp_path: Path, source: Any) -> None:
    data, whole = made(tmp_path, source, outside_samples=1000), made(tmp_path, source, name="all", classes="all")
    assert data.outside_select is not None
    outside = {f"id{i}" for i in range(100) if NAMES[i % 5] not in {"x", "v"}}
    assert set(data.outside_select.ids) == set(whole.select.ids) & outside
    assert set(opened(data).ids) == set(whole.test.ids) & outside
    assert len(data.outside_select) == len(opened(data)) == 12
    for split in (data.outside_select, opened(data)):
        for index, name in enumerate(split.ids):
            assert np.array_equal(split.pixels[index], pixels(100)[int(name[2:])])
            assert split.labels[index] == int(name[2:]) % 5
            assert data.universal_classes[split.labels[index]] not in data.classes


def test_class_set_does_not_change_when_others_are_kept(tmp_path: Path, source: Any) -> None:
    plain, data = made(tmp_path, source), made(tmp_path, source, name="more", outside_samples=3)
    assert (plain.outside_select, plain.outside_test) == (None, None)
    assert plain.digest == data.digest
    assert plain.train.ids == data.train.ids
    assert plain.provenance == data.provenance


def test_others_are_spread_evenly_over_classes_when_there_are_more_than_wanted(tmp_path: Path, source: Any) -> None:
    data = made(tmp_path, source, outside_samples=6)
    assert data.outside_select is not None
    for split in (data.outside_select, opened(data)):
        assert sorted(split.labels.tolist()) == [1, 1, 3, 3, 4, 4]


def test_samples_for_a_teacher_are_what_a_build_of_all_classes_trains_on(tmp_path: Path, source: Any) -> None:
    whole = made(tmp_path, source, name="all", classes="all")
    data = made(tmp_path, source, transfer_samples=1000, outside_samples=1000)
    assert data.transfer is not None
    assert data.outside_select is not None
    outside = {f"id{i}" for i in range(100) if NAMES[i % 5] not in {"x", "v"}}
    assert set(data.transfer.ids) == set(whole.train.ids) & outside
    assert not set(data.transfer.ids) & {*data.outside_select.ids, *opened(data).ids}
    for index, name in enumerate(data.transfer.ids):
        assert np.array_equal(data.transfer.pixels[index], pixels(100)[int(name[2:])])
    few = made(tmp_path, source, name="few", transfer_samples=6)
    assert few.transfer is not None
    assert (few.outside_select, few.outside_test) == (None, None)
    assert sorted(few.transfer.labels.tolist()) == [1, 1, 3, 3, 4, 4]
    assert few.digest == data.digest
    facts = [json.loads((tmp_path / name / "dataset.json").read_bytes())["transfer"] for name in ("out", "few", "all")]
    assert facts[0]["digest"] != facts[1]["digest"]
    assert facts[2] is None


def test_outside_test_is_sealed_like_test_and_its_opening_logged(tmp_path: Path, source: Any) -> None:
    data = made(tmp_path, source, outside_samples=6)
    assert data.outside_test is not None
    with pytest.raises(EbbtideError) as caught:
        data.outside_test.labels  # noqa: B018 - the access is the test
    assert caught.value.code == "data.test_sealed"
    data.test.open(CHOICES)
    data.outside_test.open(CHOICES)
    assert read_opening_log(tmp_path / "openings") == (CHOICES.digest, CHOICES.digest)


def test_copies_of_other_samples_are_left_out_of_the_others(tmp_path: Path) -> None:
    images = pixels(100)
    plain = made(tmp_path, section(tmp_path / "a.npz", images=images, labels=np.arange(100) % 5), outside_samples=99)
    assert plain.outside_select is not None
    first, second = (int(name[2:]) for name in plain.outside_select.ids[:2])
    kept = int(opened(plain).ids[0][2:])
    images[first] = images[int(plain.train.ids[0][2:])]
    images[second] = images[kept]
    copied = section(tmp_path / "b.npz", images=images, labels=np.arange(100) % 5)
    data = made(tmp_path, copied, name="copied", outside_samples=99)
    assert data.outside_select is not None
    assert set(plain.outside_select.ids) - set(data.outside_select.ids) == {f"id{first}", f"id{second}"}
    assert f"id{kept}" in opened(data).ids
    assert any("2 samples of other classes were left out" in note for note in data.provenance["notes"])


def test_official_splits_stay_what_they_are_among_the_others(tmp_path: Path) -> None:
    given = ["test" if i < 25 else "train" for i in range(100)]
    official = section(tmp_path / "d.npz", images=pixels(100), labels=np.arange(100) % 5, split=given)
    data = made(tmp_path, official, outside_samples=99)
    assert sorted(opened(data).ids) == sorted(f"id{i}" for i in range(25) if NAMES[i % 5] not in {"x", "v"})
    assert data.outside_select is not None
    assert not {int(name[2:]) for name in data.outside_select.ids} & set(range(25))


def test_small_other_classes_are_left_out_and_told(tmp_path: Path) -> None:
    labels = [*(np.arange(60) % 3), 3, 3, 4]
    few = section(tmp_path / "d.npz", images=pixels(63), labels=labels)
    data = made(tmp_path, few, classes=("v", "w"), outside_samples=99)
    assert data.outside_select is not None
    assert set(data.outside_select.labels.tolist()) == {2}
    assert any("2 other classes have too few samples to be divided: y, z" in note for note in data.provenance["notes"])


def test_nothing_is_outside_and_it_is_said_when_the_class_set_is_all(tmp_path: Path, source: Any) -> None:
    data = made(tmp_path, source, classes="all", outside_samples=10)
    assert (data.outside_select, data.outside_test) == (None, None)
    assert any("no samples of other classes" in note for note in data.provenance["notes"])
    facts = json.loads((tmp_path / "out/dataset.json").read_bytes())["outside"]
    assert (facts["splits"], facts["counts"]) == ({}, {})


def test_class_of_the_set_with_too_few_samples_is_refused_by_name(tmp_path: Path) -> None:
    few = section(tmp_path / "d.npz", images=pixels(62), labels=[*(np.arange(60) % 3), 3, 3])
    with pytest.raises(EbbtideError) as caught:
        made(tmp_path, few, classes=("v", "y"), outside_samples=10)
    assert caught.value.code == "data.too_few"
    assert "'y'" in caught.value.message


def test_labels_index_all_classes_when_the_head_is_full(tmp_path: Path, source: Any) -> None:
    data = made(tmp_path, source, full_head=True)
    assert (data.classes, data.class_set, data.class_indices) == (NAMES, ("x", "v"), (0, 1, 2, 3, 4))
    for split in (data.train, data.select, data.test.open(CHOICES)):
        assert {NAMES[label] for label in split.labels} == {"x", "v"}
        assert all(label == int(name[2:]) % 5 for name, label in zip(split.ids, split.labels, strict=True))
    assert set(data.train.ids) == set(made(tmp_path, source, name="restricted").train.ids)
