"""A folder of pictures, one folder per class; ids are relative paths.

photos/daisy/1.jpg  photos/rose/a/2.png                    classes: the folders, in alphabetical order
photos/train/daisy/1.jpg  photos/test/daisy/9.jpg          the same with an official split
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ebbtide.data.input import Color, Kind
from ebbtide.data.source import Source, digest_files, reading
from ebbtide.errors import EbbtideError

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
# Folder names that mark an official split, where at least train and one other are all there is.
_OFFICIAL = {
    "train": "train",
    "select": "select",
    "val": "select",
    "valid": "select",
    "validation": "select",
    "test": "test",
}
_ORIENTATION = 0x0112
_GRAY_MODES = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class FolderSource:
    """Pictures on disk, decoded one by one; see `ebbtide.data.source.Source` for the attributes."""

    name: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    given: tuple[str, ...] | None
    shape: tuple[int, ...] | None
    color: Color | None
    notes: tuple[str, ...]
    root: Path = field(repr=False)
    kind: Kind = "image"

    def stack(self, indices: NDArray[np.int64]) -> NDArray[Any] | None:
        """None: pictures are read one by one."""
        return None

    def read(self, index: int) -> NDArray[Any]:
        """Decode one picture."""
        return read_image(self.root / self.ids[index])


def open_source(value: Any, *, allow_code: bool) -> Source:
    """List the folder and read the header of every picture.

    Raises:
        EbbtideError: data.missing, data.empty (no pictures, or a class without any), data.corrupt_image.
    """
    root = Path(value)
    official = _official(root)
    skipped = 0
    found: list[tuple[str, str, str]] = []
    names: set[str] = set()
    for part, split in sorted(official.items()) if official else [("", "train")]:
        for class_folder in _folders(root / part):
            names.add(class_folder.name)
            pictures, others = _pictures(class_folder)
            skipped += others
            if not pictures and split == "train":
                raise EbbtideError(
                    "data.empty",
                    f"The class folder {class_folder.name!r} has no pictures.",
                    expected=", ".join(sorted(SUFFIXES)),
                    place=str(class_folder),
                    hint="remove the folder or add pictures",
                )
            found += [(path.relative_to(root).as_posix(), class_folder.name, split) for path in pictures]
    if not found:
        raise EbbtideError(
            "data.empty",
            "The folder has no pictures in class folders.",
            expected=f"one folder per class with {', '.join(sorted(SUFFIXES))} files",
            place=str(root),
            hint="put the pictures of each class into a folder with its name",
        )
    found.sort()
    classes = tuple(sorted(names))
    index = {name: i for i, name in enumerate(classes)}
    shape, color = _common([root / name for name, _, _ in found])
    return FolderSource(
        name=root.name,
        classes=classes,
        ids=tuple(name for name, _, _ in found),
        labels=np.array([index[name] for _, name, _ in found], np.int64),
        given=tuple(split for _, _, split in found) if official else None,
        shape=shape,
        color=color,
        notes=(f"{skipped} files that are not pictures were left out.",) if skipped else (),
        root=root,
    )


def fingerprint(value: Any, *, allow_code: bool) -> str:
    """SHA-256 over names and contents of all pictures."""
    root = Path(value)
    files = [path for folder in _folders(root) for path in _pictures(folder)[0]]
    return digest_files(files, root=root)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG or WebP file to uint8 (H, W, 1 or 3), turned as its EXIF orientation says; alpha is dropped.

    Raises:
        EbbtideError: data.missing, data.corrupt_image with the file as place.
    """
    with _decoding(path) as image:
        _check_mode(image, path)
        image.load()
        turned = ImageOps.exif_transpose(image)
        mode = "L" if turned.mode in _GRAY_MODES else "RGB"
        pixels = np.array(turned if turned.mode == mode else turned.convert(mode), np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _check_mode(image: Image.Image, path: Path) -> None:
    if image.mode.startswith(("I", "F")):
        raise EbbtideError(
            "data.corrupt_image",
            "The picture has more than 8 bits per channel.",
            expected="8 bits per channel",
            found=f"mode {image.mode}",
            place=str(path),
            hint="convert it to 8 bits; how to map the range is your choice",
        )


@contextmanager
def _decoding(path: Path) -> Iterator[Image.Image]:
    try:
        with reading(path), Image.open(path, formats=FORMATS) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise EbbtideError(
            "data.corrupt_image",
            f"The picture cannot be decoded: {error}.",
            expected="a whole PNG, JPEG or WebP file",
            place=str(path),
            hint="remove or replace the file",
        ) from error


def _common(paths: list[Path]) -> tuple[tuple[int, int] | None, Color | None]:
    """Size and colour if all pictures share them, from the headers alone."""
    sizes: set[tuple[int, int]] = set()
    colors: set[Color] = set()
    for path in paths:
        with _decoding(path) as image:
            _check_mode(image, path)
            # Orientations 5 to 8 exchange height and width.
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            sizes.add(image.size if turned else image.size[::-1])
            colors.add("gray" if image.mode in _GRAY_MODES else "RGB")
    return (sizes.pop() if len(sizes) == 1 else None), (colors.pop() if len(colors) == 1 else None)


def _official(root: Path) -> dict[str, str]:
    folders = _folders(root)
    names = {folder.name for folder in folders}
    if "train" not in names or len(names) < 2 or not names <= set(_OFFICIAL):
        return {}
    # Pictures directly inside mean that these are classes which happen to be called so.
    if any(entry.suffix.lower() in SUFFIXES for folder in folders for entry in folder.iterdir()):
        return {}
    return {name: _OFFICIAL[name] for name in names}


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise EbbtideError(
            "data.missing",
            f"There is no folder {root.name!r}.",
            place=str(root),
            hint="check the path in the recipe's data section",
        )
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not _hidden(entry.name))


def _pictures(folder: Path) -> tuple[list[Path], int]:
    """Pictures at any depth, and how many other files there are; hidden ones are neither."""
    pictures, others = [], 0
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        for name in files:
            if Path(name).suffix.lower() in SUFFIXES and not _hidden(name):
                pictures.append(Path(place, name))
            elif not _hidden(name):
                others += 1
    return pictures, others


def _hidden(name: str) -> bool:
    return name.startswith((".", "__")) or name in ("Thumbs.db", "desktop.ini")
