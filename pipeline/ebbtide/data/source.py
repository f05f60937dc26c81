"""What every data source gives: ids, labels, class names and samples; and the checks that hold for all of them.

A source is one module in `ebbtide.data.sources`, named like its key in the recipe's ``data`` section, with two
functions:

    open_source(value, *, allow_code) -> Source     # value: what the recipe says under that key
    fingerprint(value, *, allow_code) -> str        # SHA-256 of the content; changes when a sample or a label does
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ebbtide.data.input import Color, Kind
from ebbtide.data.preprocess import check_channels
from ebbtide.errors import EbbtideError

SPLITS = ("train", "select", "test")


class Source(Protocol):
    """Labelled samples, wherever they come from."""

    @property
    def name(self) -> str:
        """For messages and provenance."""

    @property
    def kind(self) -> Kind:
        """ "image" or "signal"."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, in the order of the universal model's outputs."""

    @property
    def ids(self) -> tuple[str, ...]:
        """One unique text per sample."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Indices into `classes`, (n,)."""

    @property
    def given(self) -> tuple[str, ...] | None:
        """Official split of each sample ("train", "select", "test"), or None.

        "train" is the pool from which splits that are not given are drawn; an official test set stays test.
        """

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(H, W) of images or (C, T) of signals where all samples have it, else None."""

    @property
    def color(self) -> Color | None:
        """Of images, where all have it, else None."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report: what was skipped or assumed."""

    def stack(self, indices: NDArray[np.int64]) -> NDArray[Any] | None:
        """Samples as one array, uint8 (k, H, W, C) or float32 (k, C, T); None if they must be read one by one."""

    def read(self, index: int) -> NDArray[Any]:
        """One sample, uint8 (H, W, C), oriented as seen, or float32 (C, T). Safe to call from several threads."""


@dataclass(frozen=True)
class Samples:
    """What a user's ``file.py:function`` returns (or a dict with these keys).

    Args:
        images: uint8 (n, H, W) gray or (n, H, W, C) with C 1 or 3; exactly one of images and signals.
        signals: finite numbers (n, T) or (n, C, T); kept as float32.
        labels: whole numbers (n,), indices into `classes`.
        classes: class names; left out: "0", "1", ... up to the largest label.
        ids: unique texts (n,); left out: the running number. Give them if the order may ever change.
        split: "train", "select" or "test" for each sample, where the data has an official split; "train" is the pool
            from which a split that does not occur is drawn.
        name: of the data set, for the report.
    """

    labels: Any
    images: Any = None
    signals: Any = None
    classes: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    split: Sequence[str] | None = None
    name: str = "function"


@dataclass(frozen=True)
class ArraySource:
    """A source whose samples lie in one array, memory-mapped or not."""

    name: str
    kind: Kind
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    array: NDArray[Any] = field(repr=False)
    given: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(H, W) or (C, T)."""
        return tuple(self.array.shape[1:3])

    @property
    def color(self) -> Color | None:
        """By the number of channels."""
        return None if self.kind == "signal" else ("gray" if self.array.shape[3] == 1 else "RGB")

    def stack(self, indices: NDArray[np.int64]) -> NDArray[Any] | None:
        """The samples at `indices`."""
        return np.asarray(self.array[indices])

    def read(self, index: int) -> NDArray[Any]:
        """The sample at `index`."""
        return np.asarray(self.array[index])


def array_source(samples: Samples, *, place: str) -> ArraySource:
    """Check arrays and make a source of them.

    Raises:
        EbbtideError: data.source, data.array, data.channels, data.not_finite, data.labels, data.length_mismatch,
            data.empty, data.duplicate_id, data.split; `place` is where the arrays come from.
    """
    if (samples.images is None) == (samples.signals is None):
        raise EbbtideError(
            "data.source", "Exactly one of images and signals is needed.", place=place, hint="give images or signals"
        )
    images = samples.images is not None
    array = _images(samples.images, place) if images else _signals(samples.signals, place)
    if len(array) == 0:
        raise EbbtideError(
            "data.empty",
            "There are no samples.",
            place=place,
            hint="give samples of two classes or more",
        )
    classes = None if samples.classes is None else tuple(str(name) for name in samples.classes)
    labels, names = check_labels(samples.labels, classes, place=place)
    digits = len(str(len(array) - 1))
    ids = (
        tuple(map(str, samples.ids)) if samples.ids is not None else tuple(f"{i:0{digits}}" for i in range(len(array)))
    )
    given = None if samples.split is None else tuple(map(str, samples.split))
    check_lengths({"samples": len(array), "labels": len(labels), "ids": len(ids)}, place=place)
    if given is not None:
        check_lengths({"samples": len(array), "split": len(given)}, place=place)
        check_given(given, place=place)
    check_ids(ids, place=place)
    return ArraySource(
        name=samples.name,
        kind="image" if images else "signal",
        classes=names,
        ids=ids,
        labels=labels,
        array=array,
        given=given,
    )


def _images(value: Any, place: str) -> NDArray[np.uint8]:
    array = _numeric(value, "images", place)
    if array.dtype != np.uint8:
        raise EbbtideError(
            "data.array",
            "Images are not uint8.",
            expected="uint8 pixels 0..255",
            found=str(array.dtype),
            place=place,
            hint="for values in 0..1: (images * 255).round().astype('uint8')",
        )
    if array.ndim not in (3, 4):
        raise EbbtideError(
            "data.array",
            "Images do not have the right number of axes.",
            expected="(n, height, width) or (n, height, width, channels)",
            found=str(array.shape),
            place=place,
            hint="reshape the array; a gray image needs no channel axis",
        )
    if array.ndim == 3:
        array = array[..., None]
    check_channels(array.shape[3], place=place)
    if 0 in array.shape[1:]:
        raise EbbtideError(
            "data.empty",
            "Images have no pixels.",
            found=str(array.shape),
            place=place,
            hint="give images of at least 1 x 1 pixel",
        )
    return array


def _signals(value: Any, place: str) -> NDArray[np.float32]:
    array = _numeric(value, "signals", place)
    if array.dtype.kind not in "fiu" or array.ndim not in (2, 3):
        raise EbbtideError(
            "data.array",
            "Signals are not an array of numbers.",
            expected="(n, samples) or (n, channels, samples)",
            found=f"{array.dtype} {array.shape}",
            place=place,
            hint="save them as one float32 array, every signal of one length",
        )
    if array.ndim == 2:
        array = array[:, None, :]
    if array.shape[1] == 0:
        raise EbbtideError(
            "data.channels",
            "Signals have no channels.",
            found=str(array.shape),
            place=place,
            hint="give at least one channel",
        )
    if array.shape[2] == 0:
        raise EbbtideError(
            "data.empty",
            "Signals have no values.",
            found=str(array.shape),
            place=place,
            hint="give at least one value per channel",
        )
    array = array.astype(np.float32, copy=False)
    for start in range(0, len(array), 1024):
        finite = np.isfinite(array[start : start + 1024]).all(axis=(1, 2))
        if not finite.all():
            raise EbbtideError(
                "data.not_finite",
                f"Signal {start + int(np.argmin(finite))} holds NaN or infinite values.",
                place=place,
                hint="leave the sample out or fill the gap",
            )
    return array


def _numeric(value: Any, what: str, place: str) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise EbbtideError(
            "data.array",
            f"The {what} are an object array.",
            expected="one array of numbers",
            place=place,
            hint="save them as one array, all samples of one shape",
        )
    return array


def check_labels(
    value: Any, classes: tuple[str, ...] | None, *, place: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as int64 (n,) and the class names, made from the largest label where none are given."""
    labels = np.asarray(value)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise EbbtideError(
            "data.labels",
            "Labels are not a list of whole numbers.",
            expected="integers of shape (n,)",
            found=f"{labels.dtype} {labels.shape}",
            place=place,
            hint="give the index of its class for each sample, and the class names beside them",
        )
    result = labels.astype(np.int64)
    if classes is None:
        # A stray huge label must not turn into a million made-up class names.
        top = int(result.max(initial=-1))
        if top >= max(len(result), 1):
            raise EbbtideError(
                "data.labels", f"Label {top} is larger than the number of samples.", place=place, hint="give names"
            )
        classes = tuple(str(i) for i in range(top + 1))
    if len(set(classes)) != len(classes) or not all(classes):
        raise EbbtideError(
            "data.labels",
            "Class names are empty or not distinct.",
            found=str(classes)[:200],
            place=place,
            hint="give each class one name of its own",
        )
    wrong = np.flatnonzero((result < 0) | (result >= len(classes)))
    if len(wrong):
        raise EbbtideError(
            "data.labels",
            f"Sample {wrong[0]} has label {result[wrong[0]]}, which is no class.",
            expected=f"0 to {len(classes) - 1}",
            place=place,
            hint="correct the label, or name the class it stands for",
        )
    return result, classes


def check_lengths(lengths: Mapping[str, int], *, place: str) -> None:
    """Refuse lists of different lengths."""
    if len(set(lengths.values())) > 1:
        raise EbbtideError(
            "data.length_mismatch",
            "Lists that belong together differ in length.",
            found=", ".join(f"{count} {what}" for what, count in lengths.items()),
            place=place,
            hint="give one of each for every sample",
        )


def check_ids(ids: Sequence[str], *, place: str) -> None:
    """Refuse an id that occurs twice."""
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        for name in ids:
            if name in seen:
                raise EbbtideError(
                    "data.duplicate_id",
                    f"The id {name!r} occurs more than once.",
                    place=place,
                    hint="give every sample an id of its own, or no ids at all",
                )
            seen.add(name)


def check_given(given: Sequence[str], *, place: str) -> None:
    """Refuse an official split with an unknown name."""
    unknown = sorted(set(given) - set(SPLITS))
    if unknown:
        raise EbbtideError(
            "data.split",
            f"A sample is assigned to {unknown[0]!r}, which is no split.",
            expected=", ".join(SPLITS),
            place=place,
            hint="correct the name of the split",
        )


def digest_files(files: Iterable[Path], *, root: Path) -> str:
    """SHA-256 over relative names and contents, independent of the order in which files are found."""
    named = sorted((file.relative_to(root).as_posix(), file) for file in files)
    with ThreadPoolExecutor(4) as pool:
        contents = pool.map(lambda item: _file_digest(item[1]), named)
        digest = hashlib.sha256()
        for (name, _), content in zip(named, contents, strict=True):
            digest.update(f"{len(name)}:{name}:{content}\n".encode())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    with reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_source(source: Source) -> str:
    """SHA-256 over everything a source gives, for sources whose content no file stands for."""
    digest = hashlib.sha256(repr((source.kind, source.classes, source.ids, source.given, source.shape)).encode())
    digest.update(np.ascontiguousarray(source.labels).tobytes())
    for start in range(0, len(source.ids), 1024):
        indices = np.arange(start, min(start + 1024, len(source.ids)))
        stack = source.stack(indices)
        for sample in stack if stack is not None else (source.read(int(i)) for i in indices):
            digest.update(repr(sample.shape).encode())
            digest.update(np.ascontiguousarray(sample).tobytes())
    return digest.hexdigest()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the absence of a file, or of the right to read it, into an error that names it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise EbbtideError(
            "data.missing",
            f"The file {path.name} cannot be read: {error.strerror}.",
            place=str(path),
            hint="check the path in the recipe's data section",
        ) from error
