"""A prepared data set, memory-mapped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.data.input import InputSpec
from ebbtide.data.others import SELECT, TEST, TRANSFER
from ebbtide.data.prepare import DATASET_FILE, FORMAT, labels_file, pixels_file
from ebbtide.data.seal import SealedSplit
from ebbtide.data.split import Split
from ebbtide.errors import EbbtideError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything a build knows of its data.

    Args:
        classes: names of the model's outputs, in their order; labels count in it. The class set, or with a full head
            all classes.
        class_set: names of the classes that there are samples of, in their order.
        universal_classes: names of all classes, in the order of the universal model's outputs.
        class_indices: of `classes` in `universal_classes`.
        input: how samples become the model's input.
        train, select: for tuning and for choosing.
        test: closed until the final report.
        outside_select, outside_test: samples of the classes beside the class set, labels counting in
            `universal_classes`; None where they were not asked for or there are none. The second is sealed like test.
        transfer: train samples of those classes, likewise, for a teacher to answer; None where none were asked for.
        digest: SHA-256 over classes, input, ids, labels and pixels; samples of other classes have no part in it.
        provenance: source, seed, fractions, digests of ids and pixels of each split, duplicates, notes.
    """

    classes: tuple[str, ...]
    class_set: tuple[str, ...]
    universal_classes: tuple[str, ...]
    class_indices: tuple[int, ...]
    input: InputSpec
    train: Split
    select: Split
    test: SealedSplit
    outside_select: Split | None
    outside_test: SealedSplit | None
    transfer: Split | None
    digest: str
    provenance: dict[str, Any]


def load_prepared(folder: Path, *, opening_log: Path | None = None) -> Dataset:
    """Open what `prepare` wrote. The pixels of train and select are mapped, those of test are not touched.

    Args:
        folder: written by `prepare`.
        opening_log: file to which openings of the test split are added; it must lie outside `folder`.

    Raises:
        EbbtideError: data.prepared.
    """
    try:
        content = json.loads((folder / DATASET_FILE).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise _damaged(folder, f"format {content['format']}")
        spec = InputSpec.from_json(content["input"])
        beside = [content[name]["splits"] for name in ("outside", "transfer") if content[name] is not None]
        facts = {split: own for splits in (content["splits"], *beside) for split, own in splits.items()}
        ids = {split: tuple(own["ids"]) for split, own in facts.items()}
        _check_disjoint(ids, folder)

        def unseal(name: str) -> Split:
            split = _open(folder, name, ids[name], spec, facts[name])
            _check_content(split, facts[name], pixels_file(folder, name))
            return split

        return Dataset(
            classes=tuple(content["classes"]),
            class_set=tuple(content["class_set"]),
            universal_classes=tuple(content["universal_classes"]),
            class_indices=tuple(content["class_indices"]),
            input=spec,
            train=_open(folder, "train", ids["train"], spec, facts["train"]),
            select=_open(folder, "select", ids["select"], spec, facts["select"]),
            test=SealedSplit(ids["test"], lambda: unseal("test"), log=opening_log),
            outside_select=_open(folder, SELECT, ids[SELECT], spec, facts[SELECT]) if SELECT in facts else None,
            outside_test=SealedSplit(ids[TEST], lambda: unseal(TEST), log=opening_log) if TEST in facts else None,
            transfer=_open(folder, TRANSFER, ids[TRANSFER], spec, facts[TRANSFER]) if TRANSFER in facts else None,
            digest=str(content["digest"]),
            provenance=content["provenance"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, f"{type(error).__name__}: {error}") from error


def _open(folder: Path, name: str, ids: tuple[str, ...], spec: InputSpec, facts: Mapping[str, Any]) -> Split:
    path = pixels_file(folder, name)
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        labels: NDArray[np.int64] = np.load(labels_file(folder, name), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    if list(pixels.shape) != facts["shape"] or pixels.dtype.str != facts["dtype"] or labels.shape != (len(ids),):
        raise _damaged(path, f"{pixels.dtype.str} {pixels.shape} with {labels.shape} labels and {len(ids)} ids")
    labels.setflags(write=False)
    return Split(name=name, ids=ids, labels=labels, pixels=pixels, input=spec)


def _check_disjoint(ids: Mapping[str, tuple[str, ...]], folder: Path) -> None:
    together = [name for split in ids.values() for name in split]
    if len(set(together)) != len(together):
        raise _damaged(folder, "a sample id in two splits")


def _check_content(split: Split, facts: Mapping[str, Any], path: Path) -> None:
    digest = hashlib.sha256()
    for start in range(0, len(split), 1024):
        digest.update(np.ascontiguousarray(split.pixels[start : start + 1024]).data)
    if digest.hexdigest() != facts["pixels_sha256"]:
        raise _damaged(path, "other pixels than were written")
    if hashlib.sha256(np.ascontiguousarray(split.labels).data).hexdigest() != facts["labels_sha256"]:
        raise _damaged(path, "other labels than were written")


def _damaged(path: Path, found: str) -> EbbtideError:
    return EbbtideError(
        "data.prepared",
        "The prepared data set cannot be used.",
        found=found,
        place=str(path),
        hint="remove it; the next build prepares the data again",
    )
