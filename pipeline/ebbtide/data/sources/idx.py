"""IDX files as MNIST and Fashion-MNIST have them, plain or gzipped; test files, if given, stay test.

The format (LeCun, https://yann.lecun.com/exdb/mnist): two zero bytes, a type code, the number of axes, each axis as a
big-endian uint32, then the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.data.source import Samples, Source, array_source, check_lengths, digest_files, reading
from ebbtide.errors import EbbtideError

_UINT8 = 0x08
# No single data file is larger; a damaged header must not ask for all memory.
_MOST_BYTES = 1 << 36


def open_source(value: Any, *, allow_code: bool) -> Source:
    """Read ``images`` and ``labels``, and ``test_images`` and ``test_labels`` where given.

    Raises:
        EbbtideError: data.missing, data.corrupt_file, and those of `array_source`.
    """
    images, labels = _pair(Path(value.images), Path(value.labels))
    ids = [f"train/{i:06}" for i in range(len(images))]
    split = None
    if getattr(value, "test_images", None) is not None:
        test_images, test_labels = _pair(Path(value.test_images), Path(value.test_labels))
        if test_images.shape[1:] != images.shape[1:]:
            raise EbbtideError(
                "data.array",
                "Test images do not have the size of the training images.",
                expected=str(images.shape[1:]),
                found=str(test_images.shape[1:]),
                place=str(value.test_images),
                hint="give the test files of the same data set",
            )
        split = ["train"] * len(images) + ["test"] * len(test_images)
        ids += [f"test/{i:06}" for i in range(len(test_images))]
        images, labels = np.concatenate([images, test_images]), np.concatenate([labels, test_labels])
    samples = Samples(images=images, labels=labels, ids=ids, split=split, name=Path(value.images).name)
    return array_source(samples, place=str(value.images))


def fingerprint(value: Any, *, allow_code: bool) -> str:
    """SHA-256 of the files."""
    names = ("images", "labels", "test_images", "test_labels")
    files = [Path(path) for name in names if (path := getattr(value, name, None)) is not None]
    # Each file has its own role, so their order counts and their names do not.
    return "".join(digest_files([file], root=file) for file in files)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The uint8 array of one IDX file, its size checked against its header."""
    with reading(path), path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            magic = stream.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UINT8 or magic[3] == 0:
                raise _corrupt(path, "the header is not that of IDX data of type uint8")
            axes = stream.read(4 * magic[3])
            if len(axes) < 4 * magic[3]:
                raise _corrupt(path, "the header is cut off")
            shape = struct.unpack(f">{magic[3]}I", axes)
            expected = math.prod(shape)
            if expected > _MOST_BYTES:
                raise _corrupt(path, f"the header announces {expected} bytes")
            content = stream.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _corrupt(path, str(error)) from error
    if len(content) != expected:
        found = "more" if len(content) > expected else str(len(content))
        raise _corrupt(path, f"the header announces {expected} bytes and {found} follow")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _pair(images_file: Path, labels_file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = read_idx(images_file), read_idx(labels_file)
    for path, array, axes in ((images_file, images, (3, 4)), (labels_file, labels, (1,))):
        if array.ndim not in axes:
            raise EbbtideError(
                "data.array",
                "The IDX file does not have the right number of axes.",
                expected=" or ".join(map(str, axes)),
                found=str(array.ndim),
                place=str(path),
                hint="check that images and labels are not exchanged",
            )
    check_lengths({"images": len(images), "labels": len(labels)}, place=str(labels_file))
    return images, labels.astype(np.int64)


def _corrupt(path: Path, reason: str) -> EbbtideError:
    return EbbtideError(
        "data.corrupt_file",
        f"The IDX file cannot be read: {reason}.",
        place=str(path),
        hint="fetch the file again",
    )
