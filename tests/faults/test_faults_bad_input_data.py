"""Data that cannot be used is refused with the file or sample that is wrong, and leaves nothing in the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from faults_command import Command
from PIL import Image


def photos(folder: Path, count: int = 8) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (6 + index, 9, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


FOLDER = {"folder": "photos", "input": {"size": 8}}
COLORED = {"factory": "net.py:net", "arguments": {"channels": 3}}


def test_check_is_refused_when_data_has_one_class(ebb: Command) -> None:
    ebb.data(labels=np.zeros(60, np.int64), names=["cat"])
    found = ebb.refused(ebb.recipe(), code="data.one_class")
    assert found.place.startswith("data: ")
    assert found.line("found") == "cat"


def test_check_is_refused_when_the_class_set_leaves_a_class_without_samples(ebb: Command) -> None:
    ebb.data(names=["cat", "dog", "owl", "emu"])
    found = ebb.refused(ebb.recipe(classes=["cat", "dog", "emu"]), code="data.too_few")
    assert "emu" in found.text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_check_names_the_sample_when_a_signal_is_not_finite(ebb: Command, value: float) -> None:
    signals = np.zeros((60, 2, 5), np.float32)
    signals[17, 1, 3] = value
    data = ebb.data(images=None, signals=signals)
    found = ebb.refused(ebb.recipe(), code="data.not_finite")
    assert str(data) in found.place
    assert "17" in found.place


@pytest.mark.parametrize("harm", ["cut", "noise"])
def test_check_names_the_file_when_a_picture_is_corrupt(ebb: Command, harm: str) -> None:
    picture = photos(ebb.folder / "photos") / "dog" / "5.png"
    content = picture.read_bytes()
    picture.write_bytes(content[: len(content) // 2] if harm == "cut" else b"not a picture at all")
    found = ebb.refused(ebb.recipe(model=COLORED, data=FOLDER), code="data.corrupt_image")
    assert str(picture) in found.place


def test_check_is_refused_when_an_archive_is_damaged(ebb: Command) -> None:
    data = ebb.data()
    data.write_bytes(data.read_bytes()[:-400])
    assert str(data) in ebb.refused(ebb.recipe(), code="data.corrupt_file").place


def test_check_is_refused_when_pictures_have_a_wrong_channel_count(ebb: Command) -> None:
    data = ebb.data(images=np.zeros((60, 4, 4, 4), np.uint8))
    found = ebb.refused(ebb.recipe(), code="data.channels")
    assert str(data) in found.place
    assert "4 channels" in found.place


def test_check_is_refused_when_the_model_takes_other_channels_than_the_data_has(ebb: Command) -> None:
    data = {"npz": "data.npz", "input": {"color": "RGB"}}
    found = ebb.refused(ebb.recipe(data=data), code="model.forward")
    assert "(2, 3, 4, 4)" in found.place
    assert "net.py" in found.place


def test_no_archive_runs_code_when_it_holds_objects(ebb: Command) -> None:
    touched = ebb.folder / "touched"

    class Bomb:
        def __reduce__(self):
            return (open, (str(touched), "w"))

    data = ebb.data(labels=np.array([Bomb()] * 60, dtype=object))
    assert str(data) in ebb.refused(ebb.recipe(), code="data.pickle").place
    assert not touched.exists()


def test_build_leaves_the_output_empty_when_data_is_wrong(ebb: Command) -> None:
    ebb.data(labels=np.zeros(60, np.int64))
    ebb.refused(ebb.recipe(), code="data.one_class", command="build")
