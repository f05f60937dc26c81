"""The inputs of ``ebb run``: an image file, a folder of images, or an ``.npz`` archive."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ebbtide.data.sources.folder import SUFFIXES, read_image
from ebbtide.errors import EbbtideError

_PREFERRED = ("images", "signals")
_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Inputs:
    """Named inputs, read one by one when they are iterated over.

    Args:
        names: one text for each input: a path relative to the folder, a file name, or ``file.npz[3]``.
        readers: what reads each of them; a reader's error names the file.
        skipped: files of the folder that are no images, by relative path.
    """

    names: tuple[str, ...]
    readers: tuple[Callable[[], _Array], ...]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, _Array]]:
        for name, read in zip(self.names, self.readers, strict=True):
            yield name, read()


def load_inputs(path: Path) -> Inputs:
    """Find the inputs at a path.

    * An image (PNG, JPEG, WebP): uint8 (H, W, 1 or 3), its EXIF orientation applied.
    * A folder: all images below it, in the order of their paths; hidden files and folders are left out.
    * An ``.npz``: the samples along the first axis of ``images`` (n, H, W) or (n, H, W, C), of ``signals`` (n, C, T),
      or of its only array. Pickled objects are never read.

    Raises:
        EbbtideError: ``runtime.input`` at once if there is nothing to read; while iterating, what reading an image
            raises (``data.corrupt_image``), with the file as place.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise _refused(path, "There is no such file or folder.", hint="check the path")
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return Inputs((path.name,), (partial(read_image, path),))
    if suffix == ".npz":
        samples = _archive(path)
        names = tuple(f"{path.name}[{index}]" for index in range(len(samples)))
        return Inputs(names, tuple(partial(samples.__getitem__, index) for index in range(len(samples))))
    raise _refused(
        path,
        f"Files of the kind {path.suffix or 'without a suffix'} cannot be run.",
        expected=f"a folder, .npz or one of {', '.join(sorted(SUFFIXES))}",
    )


def _folder(folder: Path) -> Inputs:
    names, readers, skipped = [], [], []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if path.suffix.lower() in SUFFIXES:
            names.append(relative.as_posix())
            readers.append(partial(read_image, path))
        else:
            skipped.append(relative.as_posix())
    if not names:
        raise _refused(folder, "The folder has no images.", expected=f"files with {', '.join(sorted(SUFFIXES))}")
    return Inputs(tuple(names), tuple(readers), tuple(skipped))


def _archive(path: Path) -> _Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            arrays = list(archive.files)
            chosen = next((name for name in _PREFERRED if name in arrays), arrays[0] if len(arrays) == 1 else None)
            samples = None if chosen is None else archive[chosen]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, TypeError) as error:
        raise _refused(
            path,
            f"The archive cannot be read: {error}.",
            expected="an .npz file as np.savez writes it, without Python objects",
        ) from error
    if samples is None:
        raise _refused(
            path, "It is not clear which array holds the inputs.", expected="images or signals", found=", ".join(arrays)
        )
    if samples.ndim < 3 or not len(samples) or samples.dtype.kind not in "fiu":
        raise _refused(
            path,
            f"The array {chosen!r} holds no images or signals.",
            expected="numbers of shape (n, H, W), (n, H, W, C) or (n, C, T)",
            found=f"{samples.dtype} {list(samples.shape)}",
        )
    return np.asarray(samples)


def _refused(
    path: Path, message: str, *, expected: str | None = None, found: str | None = None, hint: str | None = None
) -> EbbtideError:
    return EbbtideError("runtime.input", message, expected=expected, found=found, hint=hint, place=str(path))
