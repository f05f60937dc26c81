"""A NumPy ``.npz`` file: images (or signals), labels and optionally names, ids and split. Never unpickles."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.data.source import Samples, Source, array_source, digest_files, reading
from ebbtide.errors import EbbtideError, nearest

KEYS = ("images", "signals", "labels", "names", "ids", "split")


def open_source(value: Any, *, allow_code: bool) -> Source:
    """Read the archive; the arrays are those of `ebbtide.data.Samples`, with class names under "names".

    Raises:
        EbbtideError: data.missing, data.corrupt_file, data.pickle, data.array, and those of `array_source`.
    """
    path = Path(value)
    arrays = _arrays(path)
    if "labels" not in arrays or not ({"images", "signals"} & set(arrays)):
        wanted = "labels" if "labels" not in arrays else "images"
        close = nearest(wanted, sorted(arrays))
        raise EbbtideError(
            "data.array",
            f"The archive has no array {wanted!r}.",
            expected="images or signals, labels, and optionally names, ids, split",
            found=", ".join(sorted(arrays)) or "nothing",
            place=str(path),
            hint=f"rename {close!r} to {wanted!r}" if close else None,
        )
    return array_source(
        Samples(
            images=arrays.get("images"),
            signals=arrays.get("signals"),
            labels=arrays["labels"],
            classes=_texts(arrays.get("names"), "names", path),
            ids=_texts(arrays.get("ids"), "ids", path),
            split=_texts(arrays.get("split"), "split", path),
            name=path.name,
        ),
        place=str(path),
    )


def fingerprint(value: Any, *, allow_code: bool) -> str:
    """SHA-256 of the file."""
    return digest_files([Path(value)], root=Path(value).parent)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with reading(path), path.open("rb") as file:
        start = file.read(2)
    if start[:1] == b"\x80":
        raise _pickle(path, "the file")
    # np.load would take whatever is not a zip for a single array or a pickle.
    if start != b"PK":
        raise _corrupt(path, "it is not an .npz archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: _member(archive, name, path) for name in archive.files if name in KEYS}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, NotImplementedError) as error:
        raise _corrupt(path, str(error)) from error


def _member(archive: Any, name: str, path: Path) -> NDArray[Any]:
    try:
        return np.asarray(archive[name])
    except ValueError as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise _pickle(path, f"the array {name!r}") from error
        raise _corrupt(path, f"{name}: {error}") from error


def _pickle(path: Path, what: str) -> EbbtideError:
    return EbbtideError(
        "data.pickle",
        f"Reading {what} would run code: it holds Python objects.",
        place=str(path),
        hint="save numbers with a fixed type and texts as np.array([...], dtype=str)",
    )


def _corrupt(path: Path, reason: str) -> EbbtideError:
    return EbbtideError(
        "data.corrupt_file",
        f"The archive cannot be read: {reason}.",
        expected="an .npz file as np.savez writes it",
        place=str(path),
        hint="copy it or save it again",
    )


def _texts(array: NDArray[Any] | None, name: str, path: Path) -> list[str] | None:
    if array is None:
        return None
    if array.dtype.kind != "U" or array.ndim != 1:
        raise EbbtideError(
            "data.array",
            f"The array {name!r} is not a list of texts.",
            expected="np.array([...], dtype=str)",
            found=f"{array.dtype} {array.shape}",
            place=str(path),
            hint="save texts with dtype=str, one for each sample or class",
        )
    return [str(text) for text in array]
