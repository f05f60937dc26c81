"""Every source: what it gives, and what it refuses with which code and place."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ebbtide.data import Samples, fingerprint, known_sources, open_source, read_image
from ebbtide.data.source import array_source
from ebbtide.errors import EbbtideError


def section(**fields: Any) -> Any:
    return SimpleNamespace(**fields)


def refused(code: str, value: Any, place: str | None = None) -> EbbtideError:
    with pytest.raises(EbbtideError) as caught:
        value()
    assert caught.value.code == code
    if place is not None:
        assert place in str(caught.value.place)
    return caught.value


def picture(path: Path, *, size: tuple[int, int] = (6, 4), mode: str = "RGB", seed: int = 0, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    Image.fromarray(values, mode).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(3):
        picture(tmp_path / "photos" / "rose" / f"{i}.png", seed=i)
        picture(tmp_path / "photos" / "daisy" / "deep" / f"{i}.webp", seed=9 + i, lossless=True)
    return tmp_path / "photos"


def test_every_source_of_the_recipe_is_found() -> None:
    assert known_sources() == ("digits", "folder", "function", "idx", "npz", "torchvision")


@pytest.mark.parametrize("fields", [{}, {"digits": True, "folder": Path("x")}], ids=["none", "two"])
def test_section_is_refused_when_not_exactly_one_source_is_named(fields: dict[str, Any]) -> None:
    refused("data.source", lambda: open_source(section(**fields)))


def test_digits_cover_the_whole_range_of_pixels() -> None:
    source = open_source(section(digits=True))
    stack = source.stack(np.arange(len(source.ids)))
    assert stack is not None
    assert (stack.shape, stack.dtype, stack.min(), stack.max()) == ((1797, 8, 8, 1), np.uint8, 0, 255)
    assert (source.classes[3], source.color, source.shape, len(set(source.ids))) == ("3", "gray", (8, 8), 1797)
    assert fingerprint(section(digits=True)) == fingerprint(section(digits=True))


# --- folder


def test_folder_gives_classes_by_name_and_relative_ids(photos: Path) -> None:
    (photos / "rose" / "notes.txt").write_text("not a picture")
    (photos / "rose" / ".hidden.png").write_bytes(b"")
    source = open_source(section(folder=photos))
    assert source.classes == ("daisy", "rose")
    assert source.ids[0] == "daisy/deep/0.webp"
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (source.shape, source.color, source.given) == ((4, 6), "RGB", None)
    assert "1 files" in source.notes[0]
    expected = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert np.array_equal(source.read(source.ids.index("rose/1.png")), expected)


def test_folder_takes_official_splits(tmp_path: Path) -> None:
    for i, part in enumerate(("train", "val", "test")):
        for name in ("a", "b"):
            picture(tmp_path / part / name / "1.png", seed=i)
    source = open_source(section(folder=tmp_path))
    assert source.classes == ("a", "b")
    assert dict(zip(source.ids, source.given or (), strict=True)) == {
        f"{part}/{name}/1.png": split
        for part, split in (("train", "train"), ("val", "select"), ("test", "test"))
        for name in ("a", "b")
    }


def test_folder_takes_classes_called_train_and_test_when_pictures_lie_in_them(tmp_path: Path) -> None:
    for name in ("train", "test"):
        picture(tmp_path / name / "1.png")
    source = open_source(section(folder=tmp_path))
    assert (source.classes, source.given) == (("test", "train"), None)


def test_folder_says_no_common_shape_or_color_when_pictures_differ(photos: Path) -> None:
    picture(photos / "rose" / "big.jpeg", size=(10, 10), mode="L")
    source = open_source(section(folder=photos))
    assert (source.shape, source.color) == (None, None)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_picture_is_turned_as_exif_says(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = picture(tmp_path / "a" / "x.png", size=(5, 3), exif=exif)
    picture(tmp_path / "b" / "y.png", size=(5, 3), exif=exif)
    stored = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    flipped = stored[:, ::-1]
    seen = {
        1: stored,
        2: flipped,
        3: np.rot90(stored, 2),
        4: stored[::-1],
        5: np.rot90(flipped, 1),
        6: np.rot90(stored, -1),
        7: np.rot90(flipped, -1),
        8: np.rot90(stored, 1),
    }[orientation]
    assert np.array_equal(read_image(path), seen)
    assert open_source(section(folder=tmp_path)).shape == seen.shape[:2]


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3)])
def test_picture_loses_alpha_and_keeps_color(tmp_path: Path, mode: str, channels: int) -> None:
    assert read_image(picture(tmp_path / "x.png", mode=mode)).shape == (4, 6, channels)


def test_folder_fingerprint_changes_only_with_content(photos: Path) -> None:
    before = fingerprint(section(folder=photos))
    (photos / "rose" / "notes.txt").write_text("not a picture")
    (photos / "rose" / "0.png").touch()
    assert fingerprint(section(folder=photos)) == before
    picture(photos / "rose" / "0.png", seed=77)
    assert fingerprint(section(folder=photos)) != before


def test_folder_is_refused_when_missing_or_without_pictures(tmp_path: Path) -> None:
    refused("data.missing", lambda: open_source(section(folder=tmp_path / "no")), "no")
    refused("data.empty", lambda: open_source(section(folder=tmp_path)), str(tmp_path))
    picture(tmp_path / "a" / "x.png")
    (tmp_path / "b").mkdir()
    refused("data.empty", lambda: open_source(section(folder=tmp_path)), "b")


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "gif", "16bit"])
def test_picture_is_refused_with_its_file_when_damaged(photos: Path, damage: str) -> None:
    path = picture(photos / "rose" / "bad.png", size=(60, 60))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "text":
        path.write_text("no picture")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gif":
        Image.new("L", (4, 4)).save(path, format="GIF")
    else:
        Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    refused("data.corrupt_image", lambda: read_image(path), "bad.png")


# --- npz


def npz(path: Path, **arrays: Any) -> Any:
    np.savez(path, **arrays)
    return section(npz=path)


IMAGES = np.arange(4 * 2 * 2, dtype=np.uint8).reshape(4, 2, 2)


def test_npz_gives_images_labels_names_ids_and_split(tmp_path: Path) -> None:
    source = open_source(
        npz(
            tmp_path / "d.npz",
            images=IMAGES,
            labels=np.array([0, 1, 1, 0], np.uint8),
            names=np.array(["no", "yes"]),
            ids=np.array(["a", "b", "c", "d"]),
            split=np.array(["train", "train", "test", "test"]),
        )
    )
    assert (source.classes, source.ids, source.kind) == (("no", "yes"), ("a", "b", "c", "d"), "image")
    assert source.given == ("train", "train", "test", "test")
    assert source.labels.dtype == np.int64
    assert np.array_equal(source.read(3), IMAGES[3][..., None])


def test_npz_gives_signals_when_it_holds_them(tmp_path: Path) -> None:
    source = open_source(npz(tmp_path / "d.npz", signals=np.ones((4, 50), np.float64), labels=np.array([0, 1, 1, 0])))
    assert (source.kind, source.shape, source.color, source.read(0).dtype) == ("signal", (1, 50), None, np.float32)


LABELS = np.array([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"images": IMAGES}, "data.array"),
        ({"labels": LABELS}, "data.array"),
        ({"images": IMAGES, "signals": np.ones((4, 3)), "labels": LABELS}, "data.source"),
        ({"images": IMAGES / 255, "labels": LABELS}, "data.array"),
        ({"images": IMAGES[0], "labels": LABELS}, "data.array"),
        ({"images": np.zeros((4, 5, 5, 4), np.uint8), "labels": LABELS}, "data.channels"),
        ({"images": np.zeros((4, 3, 32, 32), np.uint8), "labels": LABELS}, "data.channels"),
        ({"images": np.zeros((4, 0, 5), np.uint8), "labels": LABELS}, "data.empty"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "data.empty"),
        ({"images": IMAGES, "labels": LABELS[:3]}, "data.length_mismatch"),
        ({"images": IMAGES, "labels": LABELS, "ids": np.array(["a"])}, "data.length_mismatch"),
        ({"images": IMAGES, "labels": LABELS, "split": np.array(["train"])}, "data.length_mismatch"),
        ({"images": IMAGES, "labels": LABELS, "split": np.array(["train"] * 3 + ["dev"])}, "data.split"),
        ({"images": IMAGES, "labels": LABELS, "ids": np.array(list("abca"))}, "data.duplicate_id"),
        ({"images": IMAGES, "labels": LABELS.astype(float)}, "data.labels"),
        ({"images": IMAGES, "labels": LABELS - 1}, "data.labels"),
        ({"images": IMAGES, "labels": LABELS * 1000}, "data.labels"),
        ({"images": IMAGES, "labels": LABELS, "names": np.array(["a"])}, "data.labels"),
        ({"images": IMAGES, "labels": LABELS, "names": np.array(["a", "a"])}, "data.labels"),
        ({"images": IMAGES, "labels": LABELS, "names": np.array([1, 2])}, "data.array"),
        ({"signals": np.array([[0, np.nan]] * 4), "labels": LABELS}, "data.not_finite"),
        ({"signals": np.array([[0, np.inf]] * 4), "labels": LABELS}, "data.not_finite"),
        ({"signals": np.zeros((4, 0, 9)), "labels": LABELS}, "data.channels"),
        ({"signals": np.zeros((4, 1, 0)), "labels": LABELS}, "data.empty"),
        ({"signals": np.zeros((4, 1, 2, 3)), "labels": LABELS}, "data.array"),
    ],
)
def test_npz_is_refused_with_its_file_when_arrays_do_not_fit(tmp_path: Path, arrays: Any, code: str) -> None:
    refused(code, lambda: open_source(npz(tmp_path / "d.npz", **arrays)), "d.npz")


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def test_npz_never_runs_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = np.array([Bomb()], dtype=object)
    refused("data.pickle", lambda: open_source(npz(tmp_path / "d.npz", images=objects, labels=LABELS)), "d.npz")
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Bomb()))
    refused("data.pickle", lambda: open_source(section(npz=tmp_path / "p.npz")), "p.npz")
    assert not (tmp_path / "exploded").exists()


def test_npz_is_refused_when_damaged_or_missing(tmp_path: Path) -> None:
    refused("data.missing", lambda: open_source(section(npz=tmp_path / "no.npz")), "no.npz")
    path = tmp_path / "d.npz"
    np.savez_compressed(
        path, images=np.random.default_rng(0).integers(0, 256, (4, 40, 40)).astype(np.uint8), labels=LABELS
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused("data.corrupt_file", lambda: open_source(section(npz=path)), "d.npz")
    path.write_bytes(whole[:2000] + bytes(50) + whole[2050:])
    refused("data.corrupt_file", lambda: open_source(section(npz=path)), "d.npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00")
    refused("data.corrupt_file", lambda: open_source(section(npz=path)), "d.npz")
    buffer = io.BytesIO()
    np.save(buffer, IMAGES)
    path.write_bytes(buffer.getvalue())
    refused("data.corrupt_file", lambda: open_source(section(npz=path)), "d.npz")


# --- IDX


def idx(path: Path, array: np.ndarray[Any, Any], *, cut: int = 0, extra: bytes = b"", kind: int = 8) -> Path:
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes() + extra
    content = content[: len(content) - cut]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def idx_section(folder: Path, **changes: Any) -> Any:
    files = {
        "images": idx(folder / "images.gz", IMAGES),
        "labels": idx(folder / "labels.gz", LABELS),
        "test_images": None,
        "test_labels": None,
    }
    return section(idx=section(**{**files, **changes}))


def test_idx_gives_official_test_when_test_files_are_named(tmp_path: Path) -> None:
    source = open_source(
        idx_section(
            tmp_path,
            test_images=idx(tmp_path / "ti", IMAGES[:2]),
            test_labels=idx(tmp_path / "tl", LABELS[:2]),
        )
    )
    assert source.ids == tuple([f"train/{i:06}" for i in range(4)] + ["test/000000", "test/000001"])
    assert source.given == ("train",) * 4 + ("test",) * 2
    assert np.array_equal(source.read(5)[..., 0], IMAGES[1])
    assert open_source(idx_section(tmp_path)).given is None


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ({"cut": 1}, "data.corrupt_file"),
        ({"extra": b"x"}, "data.corrupt_file"),
        ({"kind": 9}, "data.corrupt_file"),
        ({"cut": 26}, "data.corrupt_file"),
        ({"cut": 20}, "data.corrupt_file"),
    ],
)
@pytest.mark.parametrize("name", ["bad.gz", "bad"])
def test_idx_is_refused_when_size_or_header_is_wrong(tmp_path: Path, damage: Any, code: str, name: str) -> None:
    bad = idx(tmp_path / name, IMAGES, **damage)
    refused(code, lambda: open_source(idx_section(tmp_path, images=bad)), name)


def test_idx_is_refused_when_header_asks_for_more_than_any_disk(tmp_path: Path) -> None:
    bad = tmp_path / "huge"
    bad.write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**31, 2**31))
    refused("data.corrupt_file", lambda: open_source(idx_section(tmp_path, images=bad)), "huge")


def test_idx_is_refused_when_files_do_not_belong_together(tmp_path: Path) -> None:
    short = idx(tmp_path / "short", LABELS[:2])
    refused("data.length_mismatch", lambda: open_source(idx_section(tmp_path, labels=short)), "short")
    refused("data.array", lambda: open_source(idx_section(tmp_path, images=tmp_path / "labels.gz")), "labels.gz")
    refused("data.missing", lambda: open_source(idx_section(tmp_path, images=tmp_path / "no.gz")), "no.gz")
    other = idx(tmp_path / "other", np.zeros((4, 3, 3)))
    refused(
        "data.array", lambda: open_source(idx_section(tmp_path, test_images=other, test_labels=tmp_path / "labels.gz"))
    )
    cut = tmp_path / "cut.gz"
    cut.write_bytes((tmp_path / "images.gz").read_bytes()[:-9])
    refused("data.corrupt_file", lambda: open_source(idx_section(tmp_path, images=cut)), "cut.gz")


# --- function

CODE = """
import numpy as np
from ebbtide.data import Samples
def good():
    return Samples(images=np.zeros((4, 2, 2), np.uint8), labels=[0, 1, 1, 0], classes=["a", "b"], name="mine")
def as_dict():
    return {"signals": np.zeros((2, 3, 9)), "labels": [0, 1]}
def mistyped():
    return {"imagse": np.zeros((2, 3, 9)), "labels": [0, 1]}
def without():
    return {"images": np.zeros((2, 3, 9))}
def objects():
    return Samples(images=np.array([None, 1]), labels=[0, 1])
def nothing():
    return None
good.fingerprint = lambda: "v1"
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def test_function_gives_samples_or_dict(code: Path) -> None:
    source = open_source(section(function=f"{code}:good"))
    assert (source.name, source.classes, source.ids) == ("mine", ("a", "b"), ("0", "1", "2", "3"))
    source = open_source(section(function=f"{code}:as_dict"))
    assert (source.kind, source.shape, source.classes) == ("signal", (3, 9), ("0", "1"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mistyped", "data.source"), ("without", "data.source"), ("nothing", "data.source"), ("objects", "data.array")],
)
def test_function_is_refused_when_it_returns_something_else(code: Path, name: str, expected: str) -> None:
    error = refused(expected, lambda: open_source(section(function=f"{code}:{name}")), "mine.py")
    assert name != "mistyped" or "images" in str(error.hint)


def test_function_is_not_run_when_code_is_forbidden(code: Path) -> None:
    refused("recipe.no_code", lambda: open_source(section(function=f"{code}:good"), allow_code=False))
    refused("recipe.no_code", lambda: fingerprint(section(function=f"{code}:good"), allow_code=False))


def test_function_fingerprint_changes_with_code_and_content(code: Path) -> None:
    own, content = fingerprint(section(function=f"{code}:good")), fingerprint(section(function=f"{code}:as_dict"))
    assert own.endswith(" v1")
    assert content == fingerprint(section(function=f"{code}:as_dict"))
    code.write_text(CODE.replace('np.zeros((2, 3, 9)), "labels": [0, 1]', 'np.ones((2, 3, 9)), "labels": [0, 1]'))
    assert content.split()[1] != fingerprint(section(function=f"{code}:as_dict")).split()[1]


def test_ids_are_padded_so_that_their_order_is_that_of_the_samples() -> None:
    source = array_source(Samples(images=np.zeros((11, 2, 2), np.uint8), labels=[0, 1] * 5 + [0]), place="here")
    assert (source.ids[0], source.ids[10]) == ("00", "10")


# --- torchvision


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    pytest.importorskip("torchvision")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28))
        idx(raw / f"{part}-images-idx3-ubyte", images)
        idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return tmp_path


def test_torchvision_gives_official_splits(mnist: Path) -> None:
    chosen = section(torchvision=section(name="MNIST", root=mnist))
    source = open_source(chosen)
    assert (source.shape, source.color, len(source.classes)) == ((28, 28), "gray", 10)
    assert source.given == ("train",) * 20 + ("test",) * 10
    assert source.ids[20] == "test/000000"
    assert np.array_equal(source.read(20)[..., 0], np.random.default_rng(10).integers(0, 256, (10, 28, 28))[0])
    assert fingerprint(chosen) == fingerprint(chosen)


def test_torchvision_reads_pictures_one_by_one_when_not_in_memory(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    for name in ("a", "b"):
        for i in range(2):
            picture(tmp_path / "eurosat" / "2750" / name / f"{name}_{i}.jpg", size=(8, 8 + i), seed=i)
    source = open_source(section(torchvision=section(name="EuroSAT", root=tmp_path)))
    assert (source.shape, source.given, source.labels.tolist()) == (None, None, [0, 0, 1, 1])
    assert source.stack(np.arange(2)) is None
    assert source.read(3).shape == (9, 8, 3)
    (tmp_path / "eurosat" / "2750" / "b" / "b_1.jpg").write_bytes(b"no picture")
    refused("data.corrupt_image", lambda: source.read(3), str(tmp_path))


def test_torchvision_is_refused_when_unknown_or_not_on_disk(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    error = refused("data.source", lambda: open_source(section(torchvision=section(name="CIFAR-10", root=tmp_path))))
    assert "CIFAR10" in str(error.hint)
    refused("data.source", lambda: open_source(section(torchvision=section(name="LSUN", root=tmp_path))))
    refused("data.missing", lambda: open_source(section(torchvision=section(name="CIFAR10", root=tmp_path))))
