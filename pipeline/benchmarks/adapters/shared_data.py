"""CIFAR-10 and CIFAR-100 from the shared data folder, as ``data: {function: shared_data.py:cifar10}``.

The data are no part of the project. Their folder is EBBTIDE_DATA, else ``../shared/data`` beside the repository. Images
are lossless sheets of 100 x 100 tiles of 32 x 32 pixels, taken over bit for bit; the official test set stays test.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebbtide.data import Samples
from ebbtide.errors import EbbtideError

REPOSITORY = Path(__file__).resolve().parents[3]
_TILES, _TILE = 100, 32
_PER_SHEET = _TILES * _TILES


def data_folder() -> Path:
    """The shared data folder; data.missing if it is not there."""
    folder = Path(os.environ.get("EBBTIDE_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "meta.json").is_file():
        raise EbbtideError(
            "data.missing",
            "The shared benchmark data are not here.",
            expected="meta.json and the CIFAR sheets",
            place=str(folder),
            hint="set EBBTIDE_DATA to their folder",
        )
    return folder


def cifar10() -> Samples:
    """50,000 training and 10,000 test images; ids are "train/012345" and "test/001234", in sheet order.

    For a select split of 5,000 of the training images: ``split: {train: 0.81, select: 0.09, test: 0.1}`` (the share of
    test is not used, since test is official).
    """
    return _cifar("cifar10")


def cifar100() -> Samples:
    """50,000 training and 10,000 test images.

    The 5,000 training images that the shared weights have not been trained on (the second half of each class in the
    last training sheet) are the official select split.
    """
    samples = _cifar("cifar100")
    held_out = range(4 * _PER_SHEET, 5 * _PER_SHEET)
    split = ["select" if i in held_out and i % 100 >= 50 else name for i, name in enumerate(samples.split or ())]
    return replace(samples, split=split)


def _cifar(name: str) -> Samples:
    folder = data_folder()
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    per_class = _PER_SHEET // len(meta[f"{name}_names"])
    train, test = _sheets(folder, name)
    images = np.concatenate([_tiles(path) for path in (*train, test)])
    trained = len(train) * _PER_SHEET
    return Samples(
        images=images,
        labels=np.tile(np.arange(_PER_SHEET) // per_class, len(train) + 1),
        classes=meta[f"{name}_names"],
        ids=[f"train/{i:06}" for i in range(trained)] + [f"test/{i:06}" for i in range(_PER_SHEET)],
        split=["train"] * trained + ["test"] * _PER_SHEET,
        name=name,
    )


def _sheets(folder: Path, name: str) -> tuple[list[Path], Path]:
    train = [folder / f"{name}_train_{i}.webp" for i in range(5)]
    test = folder / f"{name}_test.webp"
    for path in (*train, test):
        if not path.is_file():
            raise EbbtideError("data.missing", f"The sheet {path.name} is not there.", place=str(folder))
    return train, test


def _tiles(path: Path) -> NDArray[np.uint8]:
    side = _TILES * _TILE
    try:
        # No limit of Pillow's is lifted: 10 million pixels are far below it.
        with Image.open(path, formats=("WEBP",)) as image:
            sheet = np.array(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise EbbtideError("data.corrupt_image", f"The sheet cannot be decoded: {error}.", place=str(path)) from error
    if sheet.shape != (side, side, 3):
        raise EbbtideError("data.corrupt_image", "The sheet has another size.", found=str(sheet.shape), place=str(path))
    tiles = sheet.reshape(_TILES, _TILE, _TILES, _TILE, 3).swapaxes(1, 2)
    return np.ascontiguousarray(tiles).reshape(_PER_SHEET, _TILE, _TILE, 3)


def _fingerprint(name: str) -> Callable[[], str]:
    def content() -> str:
        folder = data_folder()
        train, test = _sheets(folder, name)
        digest = hashlib.sha256()
        for path in (folder / "meta.json", *train, test):
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    return content


def _attach(function: Any, name: str) -> None:
    # Read by ebbtide.data.fingerprint, so that an unchanged rebuild need not decode 60,000 images.
    function.fingerprint = _fingerprint(name)


_attach(cifar10, "cifar10")
_attach(cifar100, "cifar100")
