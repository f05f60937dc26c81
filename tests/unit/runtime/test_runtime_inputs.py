from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ebbtide.errors import EbbtideError
from ebbtide.runtime import load_inputs


def picture(path: Path, *, size: tuple[int, int] = (6, 4), orientation: int | None = None) -> np.ndarray:
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif)
    return pixels


def test_image_gives_its_pixels_when_it_is_a_png(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "one.PNG")
    ((name, array),) = load_inputs(tmp_path / "one.PNG")
    assert name == "one.PNG"
    np.testing.assert_array_equal(array, pixels)


def test_image_is_turned_when_its_exif_says_so(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "turned.png", orientation=6)
    ((_, array),) = load_inputs(tmp_path / "turned.png")
    np.testing.assert_array_equal(array, np.rot90(pixels, -1))


def test_folder_gives_images_in_order_and_says_what_it_skips_when_it_is_mixed(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.png", "a/y.webp", ".hidden/no.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    found = load_inputs(tmp_path)
    assert [name for name, _ in found] == list(found.names) == ["a/y.webp", "a/z.png", "b.png"]
    assert (len(found), found.skipped) == (3, ("notes.txt",))


def test_damaged_image_is_an_error_that_names_the_file_when_it_is_reached(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    reader = iter(load_inputs(tmp_path))
    assert next(reader)[0] == "a.png"
    with pytest.raises(EbbtideError) as caught:
        next(reader)
    assert caught.value.code == "data.corrupt_image"
    assert "b.png" in (caught.value.place or "")


@pytest.mark.parametrize(
    ("arrays", "shape"),
    [
        ({"images": np.zeros((3, 8, 8), np.uint8), "labels": np.zeros(3)}, (8, 8)),
        ({"images": np.zeros((3, 8, 8, 3), np.uint8)}, (8, 8, 3)),
        ({"signals": np.zeros((3, 2, 50), np.float32)}, (2, 50)),
        ({"x": np.zeros((3, 8, 8), np.uint8)}, (8, 8)),
    ],
)
def test_archive_gives_its_samples_when_it_has_them(
    tmp_path: Path, arrays: dict[str, np.ndarray], shape: tuple[int, ...]
) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    found = list(load_inputs(tmp_path / "set.npz"))
    assert [name for name, _ in found] == ["set.npz[0]", "set.npz[1]", "set.npz[2]"]
    assert {array.shape for _, array in found} == {shape}


def write_pickle(path: Path) -> None:
    np.savez(path, images=np.array([{"code": 1}, None], dtype=object))


def write_two(path: Path) -> None:
    np.savez(path, a=np.zeros((1, 2, 2)), b=np.zeros((1, 2, 2)))


def write_flat(path: Path) -> None:
    np.savez(path, images=np.zeros(4))


def write_empty(path: Path) -> None:
    np.savez(path, images=np.zeros((0, 8, 8), np.uint8))


def write_noise(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 not an archive")


def write_cut(path: Path) -> None:
    np.savez_compressed(path, images=np.random.default_rng(0).integers(0, 255, (9, 8, 8), np.uint8))
    data = bytearray(path.read_bytes())
    data[120:140] = b"\xff" * 20
    path.write_bytes(data)


def write_npy(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros((2, 8, 8)))


@pytest.mark.parametrize("write", [write_pickle, write_two, write_flat, write_empty, write_noise, write_cut, write_npy])
def test_archive_is_refused_with_its_name_when_it_is_not_one_of_inputs(tmp_path: Path, write: object) -> None:
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(EbbtideError) as caught:
        load_inputs(path)
    assert (caught.value.code, caught.value.place) == ("runtime.input", str(path))
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("name", ["absent.png", "notes.txt", "empty"])
def test_path_is_refused_when_there_is_nothing_to_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EbbtideError) as caught:
        load_inputs(tmp_path / name)
    assert (caught.value.code, caught.value.place) == ("runtime.input", str(tmp_path / name))
