"""From a source to three splits on disk and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ebbtide.data import Augmentation, Dataset, FrozenChoices, InputDefaults, load_prepared, prepare, preprocess
from ebbtide.errors import EbbtideError
from ebbtide.recipe import DataSection

SPLIT = SimpleNamespace(train=0.6, select=0.2, test=0.2, seed=1)
CHOICES = FrozenChoices.of({"all": "chosen"})


def npz_section(path: Path, *, split: Any = SPLIT, **arrays: Any) -> Any:
    np.savez(path, **arrays)
    return SimpleNamespace(npz=path, split=split, input=None)


def images(count: int, size: tuple[int, ...] = (6, 5, 3), seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)


def made(tmp_path: Path, section: Any, *, classes: Any = "all", name: str = "out", **options: Any) -> Dataset:
    folder = tmp_path / name
    folder.mkdir()
    prepare(section, classes=classes, seed=0, folder=folder, **options)
    return load_prepared(folder, opening_log=tmp_path / "openings")


@pytest.fixture
def simple(tmp_path: Path) -> Any:
    return npz_section(
        tmp_path / "d.npz",
        images=images(60),
        labels=np.arange(60) % 3,
        names=np.array(["x", "y", "z"]),
        ids=np.array([f"id{i}" for i in range(60)]),
    )


def test_splits_hold_the_pixels_and_labels_of_their_ids(tmp_path: Path, simple: Any) -> None:
    data = made(tmp_path, simple)
    test = data.test.open(CHOICES)
    assert (len(data.train), len(data.select), len(test)) == (36, 12, 12)
    for split in (data.train, data.select, test):
        for i, name in enumerate(split.ids):
            number = int(name[2:])
            assert np.array_equal(split.pixels[i], images(60)[number])
            assert split.labels[i] == number % 3


def test_labels_follow_the_order_of_the_class_set(tmp_path: Path, simple: Any) -> None:
    data = made(tmp_path, simple, classes=["z", "x"])
    assert (data.classes, data.universal_classes, data.class_indices) == (("z", "x"), ("x", "y", "z"), (2, 0))
    for name, label in zip(data.train.ids, data.train.labels, strict=True):
        assert data.class_indices[label] == int(name[2:]) % 3
    whole = made(tmp_path, simple, name="whole")
    assert set(data.train.ids) < set(whole.train.ids)
    assert set(data.test.ids) < set(whole.test.ids)


def test_tensor_equals_preprocess_bit_for_bit(tmp_path: Path, simple: Any) -> None:
    known = InputDefaults(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=(8, 8))
    data = made(tmp_path, simple, input_defaults=known)
    tensor = data.train.tensor([5, 0, 7])
    assert tensor.shape == (3, 3, 8, 8)
    assert tensor.is_contiguous()
    for row, i in zip(tensor, (5, 0, 7), strict=True):
        original = images(60)[int(data.train.ids[i][2:])]
        assert np.array_equal(row.numpy(), preprocess(original, data.input))
    assert np.array_equal(data.train.tensor(slice(0, 8))[5].numpy(), tensor[0].numpy())


def test_batches_give_every_sample_once_in_seeded_order(tmp_path: Path, simple: Any) -> None:
    train = made(tmp_path, simple).train
    stored = list(train.batches(10))
    assert [len(y) for _, y in stored] == [10, 10, 10, 6]
    assert np.array_equal(np.concatenate([y.numpy() for _, y in stored]), train.labels)
    one, same, other = (
        np.concatenate([x.numpy() for x, _ in train.batches(10, shuffle_seed=seed)]) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    whole = np.concatenate([x.numpy() for x, _ in stored])
    assert sorted(map(bytes, one)) == sorted(map(bytes, whole))
    for x, y in train.batches(10, shuffle_seed=3):
        place = [next(i for i in range(len(train)) if np.array_equal(whole[i], sample)) for sample in x.numpy()]
        assert train.labels[place].tolist() == y.tolist()


def test_batches_are_augmented_the_same_way_again(tmp_path: Path, simple: Any) -> None:
    train, change = made(tmp_path, simple).train, Augmentation(flip=True, crop_padding=1, seed=3)
    one = [x.numpy() for x, _ in train.batches(10, shuffle_seed=1, augmentation=change)]
    again = [x.numpy() for x, _ in train.batches(10, shuffle_seed=1, augmentation=change)]
    plain = [x.numpy() for x, _ in train.batches(10, shuffle_seed=1)]
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, plain, strict=True))


def test_prepared_files_are_equal_when_samples_come_in_another_order(tmp_path: Path) -> None:
    order, ids = np.random.default_rng(1).permutation(60), np.array([f"id{i}" for i in range(60)])
    arrays = {"images": images(60), "labels": np.arange(60) % 3, "ids": ids}
    made(tmp_path, npz_section(tmp_path / "d.npz", **arrays), name="one")
    shuffled = {key: value[order] for key, value in arrays.items()}
    made(tmp_path, npz_section(tmp_path / "d.npz", **shuffled), name="two")
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert [str(path) for path in files] == [
        "dataset.json",
        "sealed/test.labels.npy",
        "sealed/test.pixels.npy",
        "select.labels.npy",
        "select.pixels.npy",
        "train.labels.npy",
        "train.pixels.npy",
    ]
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in files)


def test_digest_changes_with_one_pixel_and_with_input(tmp_path: Path, simple: Any) -> None:
    first = made(tmp_path, simple, name="a").digest
    changed = images(60)
    changed[7, 0, 0, 0] ^= 1
    arrays = dict(np.load(tmp_path / "d.npz"))
    other = npz_section(tmp_path / "e.npz", **{**arrays, "images": changed})
    assert made(tmp_path, other, name="b").digest != first
    assert made(tmp_path, simple, name="c", input_defaults=InputDefaults(mean=(0.1,), std=(1,))).digest != first
    assert made(tmp_path, simple, name="d").digest == first


def test_provenance_records_splits_and_copies(tmp_path: Path) -> None:
    copied = images(60)
    copied[3] = copied[0]
    section = npz_section(tmp_path / "d.npz", images=copied, labels=np.arange(60) % 3)
    told: list[str] = []

    class Loud:
        def task(self, label: str, total: int | None = None) -> Any:
            from ebbtide.steps import silent

            return silent.task(label, total)

        def say(self, text: str) -> None:
            told.append(text)

    facts = made(tmp_path, section, progress=Loud()).provenance
    assert (facts["source"], facts["split_seed"], facts["duplicates"]["duplicate_samples"]) == ("d.npz", 1, 1)
    assert sum(facts["splits"][split]["count"] for split in ("train", "select", "test")) == 60
    assert all(len(facts["splits"][split]["ids_sha256"]) == 64 for split in ("train", "select", "test"))
    assert any("copies" in text for text in told)
    assert any("mean and std" in text for text in told)


def test_folder_of_mixed_pictures_becomes_one_size(tmp_path: Path) -> None:
    for i in range(24):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (9 + i, 12, 3) if i % 3 else (14, 14)
        Image.fromarray(images(1, shape, seed=i)[0]).save(path)
    wanted = SimpleNamespace(size=8, mean=None, std=None, color="RGB")
    data = made(tmp_path, SimpleNamespace(folder=tmp_path / "photos", split=SPLIT, input=wanted))
    assert data.train.pixels.shape[1:] == (8, 8, 3)
    name = data.train.ids[0]
    original = np.asarray(Image.open(tmp_path / "photos" / name))
    assert np.array_equal(data.train.tensor([0])[0].numpy(), preprocess(original, data.input))


def test_corrupt_picture_is_named_when_found_while_preparing(tmp_path: Path) -> None:
    for i in range(12):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images(1, (60, 60, 3), seed=i)[0]).save(path)
    broken = tmp_path / "photos" / "a" / "04.png"
    broken.write_bytes(broken.read_bytes()[:3000])
    with pytest.raises(EbbtideError) as caught:
        made(tmp_path, SimpleNamespace(folder=tmp_path / "photos", split=SPLIT, input=None))
    assert (caught.value.code, caught.value.place) == ("data.corrupt_image", str(broken))


def test_signals_are_prepared_without_change(tmp_path: Path) -> None:
    signals = np.random.default_rng(0).standard_normal((30, 2, 40)).astype(np.float32)
    section = npz_section(tmp_path / "d.npz", signals=signals, labels=np.arange(30) % 2)
    section.input = SimpleNamespace(size=None, mean=[1.0, 2.0], std=[2.0, 2.0], color=None)
    data = made(tmp_path, section)
    i = int(data.train.ids[0])
    assert np.array_equal(data.train.pixels[0], signals[i])
    assert np.array_equal(data.train.tensor([0])[0].numpy(), preprocess(signals[i], data.input))


def test_recipe_section_is_understood_and_its_seed_used(tmp_path: Path, simple: Any) -> None:
    values = {"train": 0.6, "select": 0.2, "test": 0.2}
    sections = [DataSection(npz=simple.npz, split={**values, "seed": seed}) for seed in (1, 2)]
    one, two = (made(tmp_path, section, name=f"s{i}") for i, section in enumerate(sections))
    assert one.provenance["split_seed"] == 1
    assert one.digest == made(tmp_path, simple, name="plain").digest
    assert set(one.train.ids) != set(two.train.ids)


def test_loading_does_not_touch_test_pixels(tmp_path: Path, simple: Any) -> None:
    made(tmp_path, simple)
    for path in (tmp_path / "out" / "sealed").iterdir():
        path.unlink()
    data = load_prepared(tmp_path / "out")
    assert len(data.test) == 12
    with pytest.raises(EbbtideError) as caught:
        data.test.open(CHOICES)
    assert caught.value.code == "data.prepared"


@pytest.mark.parametrize("name", ["sealed/test.pixels.npy", "sealed/test.labels.npy"])
def test_opening_is_refused_when_test_was_altered(tmp_path: Path, simple: Any, name: str) -> None:
    data = made(tmp_path, simple)
    path = tmp_path / "out" / name
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(EbbtideError) as caught:
        data.test.open(CHOICES)
    assert caught.value.code == "data.prepared"


@pytest.mark.parametrize("damage", ["missing", "format", "json", "pixels", "shared id", "object"])
def test_loading_is_refused_when_files_are_damaged(tmp_path: Path, simple: Any, damage: str) -> None:
    made(tmp_path, simple)
    described = tmp_path / "out" / "dataset.json"
    content = json.loads(described.read_text())
    if damage == "missing":
        described.unlink()
    elif damage == "json":
        described.write_text("{")
    elif damage == "pixels":
        np.save(tmp_path / "out" / "train.pixels.npy", np.zeros((3, 3), np.uint8))
    elif damage == "object":
        np.save(tmp_path / "out" / "train.labels.npy", np.array([None] * 36), allow_pickle=True)
    elif damage == "format":
        described.write_text(json.dumps({**content, "format": 99}))
    else:
        content["splits"]["test"]["ids"][0] = content["splits"]["train"]["ids"][0]
        described.write_text(json.dumps(content))
    with pytest.raises(EbbtideError) as caught:
        load_prepared(tmp_path / "out")
    assert caught.value.code == "data.prepared"


def test_full_disk_raises_instead_of_killing(tmp_path: Path, simple: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["ebbtide.data.prepare"]
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(module, "pixels_file", lambda *_: Path("/dev/full"))
    with pytest.raises(OSError) as caught:
        prepare(simple, classes="all", seed=0, folder=folder)
    assert caught.value.errno == 28


def test_data_package_imports_no_torch() -> None:
    code = "import sys, ebbtide.data; print([m for m in ('torch', 'sklearn', 'torchvision') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
