"""torchvision data sets that are already on disk; nothing is ever downloaded.

Only sets that torchvision reads without unpickling, or (CIFAR) after comparing with a checksum in its own source, are
taken: data must not be able to run code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.data.input import Color, Kind
from ebbtide.data.source import Samples, Source, array_source, check_labels, digest_files
from ebbtide.errors import EbbtideError, nearest

_BY_TRAIN: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_BY_SPLIT: Mapping[str, Mapping[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: Mapping[str, Mapping[str, Any]] = {**_BY_SPLIT, "select": {"split": "val"}}
_VALIDATED: Mapping[str, Mapping[str, Any]] = {"train": {"split": "train"}, "test": {"split": "val"}}
_ONE: Mapping[str, Mapping[str, Any]] = {"": {}}

# For each data set the official splits and the constructor's arguments that give them.
DATA_SETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "CIFAR10": _BY_TRAIN,
    "CIFAR100": _BY_TRAIN,
    "Caltech101": _ONE,
    "Caltech256": _ONE,
    "Country211": {"train": {"split": "train"}, "select": {"split": "valid"}, "test": {"split": "test"}},
    "DTD": _THREE,
    "EuroSAT": _ONE,
    "FGVCAircraft": _THREE,
    "FashionMNIST": _BY_TRAIN,
    "Flowers102": _THREE,
    "Food101": _BY_SPLIT,
    "GTSRB": _BY_SPLIT,
    "Imagenette": _VALIDATED,
    "KMNIST": _BY_TRAIN,
    "MNIST": _BY_TRAIN,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "PCAM": _THREE,
    "STL10": _BY_SPLIT,
    "SVHN": _BY_SPLIT,
    "StanfordCars": _BY_SPLIT,
    "USPS": _BY_TRAIN,
}


@dataclass(frozen=True)
class TorchvisionSource:
    """Pictures that torchvision decodes one by one; see `ebbtide.data.source.Source` for the attributes."""

    name: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    given: tuple[str, ...] | None
    parts: tuple[Any, ...] = field(repr=False)
    starts: tuple[int, ...] = field(repr=False)
    shape: tuple[int, ...] | None = None
    color: Color | None = None
    notes: tuple[str, ...] = ()
    kind: Kind = "image"
    # torchvision does not promise that its data sets may be read from several threads.
    lock: Any = field(default_factory=Lock, repr=False, compare=False)

    def stack(self, indices: NDArray[np.int64]) -> NDArray[Any] | None:
        """None: pictures are read one by one."""
        return None

    def read(self, index: int) -> NDArray[Any]:
        """Decode one picture; alpha is dropped."""
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        with self.lock:
            try:
                image = self.parts[part][index - self.starts[part]][0]
            except (OSError, SyntaxError, ValueError) as error:
                raise EbbtideError(
                    "data.corrupt_image",
                    f"The picture {self.ids[index]} of {self.name} cannot be decoded: {error}.",
                    place=str(getattr(self.parts[part], "root", self.name)),
                    hint="fetch the data set again",
                ) from error
        pixels = np.array(image if image.mode == "L" else image.convert("RGB"), np.uint8)
        return pixels[..., None] if pixels.ndim == 2 else pixels


def open_source(value: Any, *, allow_code: bool) -> Source:
    """Open the set ``value.name`` under ``value.root`` with its official splits.

    Raises:
        EbbtideError: data.source (unknown name, torchvision not installed), data.missing, data.labels.
    """
    splits = DATA_SETS.get(value.name)
    if splits is None:
        close = nearest(value.name, list(DATA_SETS))
        raise EbbtideError(
            "data.source",
            f"The torchvision data set {value.name!r} is not one that Ebbtide reads.",
            expected=", ".join(DATA_SETS),
            place="data.torchvision.name",
            hint=f"did you mean {close}?" if close else "read it in a function of your own (data.function)",
        )
    parts = {split: _open_part(value, arguments) for split, arguments in splits.items()}
    order = [split for split in ("", "train", "select", "test") if split in parts]
    labels = {split: _labels(parts[split], value.name) for split in order}
    joined = np.concatenate([labels[split] for split in order])
    joined, classes = check_labels(joined, _classes(parts[order[0]]), place=str(value.root))
    ids = [f"{split or 'all'}/{i:06}" for split in order for i in range(len(labels[split]))]
    given = None if order == [""] else [split for split in order for _ in labels[split]]
    stacks = [_pixels(parts[split]) for split in order]
    arrays = [stack for stack in stacks if stack is not None]
    if len(arrays) == len(order) and len({array.shape[1:] for array in arrays}) == 1:
        samples = Samples(
            images=np.concatenate(arrays), labels=joined, classes=classes, ids=ids, split=given, name=value.name
        )
        return array_source(samples, place=str(value.root))
    starts = np.cumsum([0, *[len(labels[split]) for split in order[:-1]]])
    return TorchvisionSource(
        name=value.name,
        classes=classes,
        ids=tuple(ids),
        labels=joined,
        given=None if given is None else tuple(given),
        parts=tuple(parts[split] for split in order),
        starts=tuple(int(start) for start in starts),
    )


def fingerprint(value: Any, *, allow_code: bool) -> str:
    """SHA-256 over all files under the root, and the name."""
    root = Path(value.root)
    return f"{value.name} {digest_files((path for path in root.rglob('*') if path.is_file()), root=root)}"


def _open_part(value: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        from torchvision import datasets
    except ImportError as error:
        raise EbbtideError(
            "data.source",
            "torchvision is not installed.",
            place="data.torchvision",
            hint="pip install 'ebbtide[vision]'",
        ) from error
    try:
        # The default of `download` is False everywhere; it is not spelled out since some sets do not know it.
        return getattr(datasets, value.name)(str(value.root), **arguments)
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        raise EbbtideError(
            "data.missing",
            f"torchvision finds no intact {value.name} here: {error}",
            place=str(value.root),
            hint="point data.torchvision.root to the folder torchvision downloaded to; Ebbtide downloads nothing",
        ) from error


def _labels(part: Any, name: str) -> NDArray[np.int64]:
    for attribute in ("targets", "labels", "_labels", "y"):
        values = getattr(part, attribute, None)
        if isinstance(values, Sequence) or hasattr(values, "__array__"):
            labels = np.asarray(values)
            if labels.ndim == 1 and len(labels) == len(part) and labels.dtype.kind in "iu":
                return labels.astype(np.int64)
    samples = getattr(part, "_samples", None) or getattr(part, "samples", None)
    if samples:
        return np.array([label for _, label in samples], np.int64)
    return np.array([int(part[i][1]) for i in range(len(part))], np.int64)


def _classes(part: Any) -> tuple[str, ...] | None:
    names = getattr(part, "classes", None) or getattr(part, "categories", None)
    return tuple(" ".join(name) if isinstance(name, tuple) else str(name) for name in names) if names else None


def _pixels(part: Any) -> NDArray[np.uint8] | None:
    """The whole set as uint8 (n, H, W, C) where torchvision holds it in memory so, else None."""
    data = getattr(part, "data", None)
    if data is None or not hasattr(data, "__array__"):
        return None
    array = np.asarray(data)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or len(array) != len(part):
        return None
    if array.ndim == 4 and array.shape[1] == 3 and array.shape[3] != 3:
        array = array.transpose(0, 2, 3, 1)
    return array[..., None] if array.ndim == 3 else array
