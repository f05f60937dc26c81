"""Make a data set ready once: class set, pixels of the model's size, three splits; written as npy and JSON.

dataset.json                              classes, input, ids, digests, provenance
train.pixels.npy  train.labels.npy        select likewise
sealed/test.pixels.npy  test.labels.npy   not mapped before the test split is opened
outside-select, sealed/outside-test       likewise, of the other classes, where they were asked for; transfer, too
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.data.array_file import array_file
from ebbtide.data.classes import choose_classes
from ebbtide.data.halves import HALVES_NOTE, TEST_HALVES, test_halves
from ebbtide.data.input import InputDefaults, InputSpec, resolve_input
from ebbtide.data.others import SELECT, TEST, TRANSFER, Others, choose_others, digest_of_splits, without_copies
from ebbtide.data.partition import Partition, digest_ids, divide
from ebbtide.data.preprocess import check_channels, fit_pixels
from ebbtide.data.source import SPLITS, Source
from ebbtide.data.sources import open_source
from ebbtide.steps import Progress, canonical_json, silent, write_json

FORMAT = 1
DATASET_FILE = "dataset.json"
# Samples handled at once: enough for BLAS and for the disk, small enough for memory.
_CHUNK_BYTES = 16 << 20
_THREADS = 2


def pixels_file(folder: Path, split: str) -> Path:
    """Where a split's pixels lie; what belongs to test has a folder of its own."""
    return folder / ("sealed" if split.endswith("test") else "") / f"{split}.pixels.npy"


def labels_file(folder: Path, split: str) -> Path:
    """Where a split's labels lie."""
    return folder / ("sealed" if split.endswith("test") else "") / f"{split}.labels.npy"


def prepare(
    section: Any,
    *,
    classes: Any,
    seed: int,
    allow_code: bool = True,
    input_defaults: InputDefaults | None = None,
    full_head: bool = False,
    outside_samples: int | None = None,
    transfer_samples: int = 0,
    folder: Path,
    progress: Progress = silent,
) -> None:
    """Write the prepared data set that a recipe's ``data`` section describes into `folder`, for `load_prepared`.

    Memory stays at a few chunks of samples beside what the source itself holds. Equal content and settings give equal
    files, byte for byte, whatever the order of files on disk.

    Args:
        section: the recipe's ``data`` section.
        classes: the recipe's ``classes``: "all", a list, or a draw.
        seed: used where the section's split has no seed.
        allow_code: whether ``file.py:function`` may run.
        input_defaults: what the model's author says about its input.
        full_head: the model keeps the outputs of all classes: labels then index all of them, though only samples of
            the class set are kept.
        outside_samples: also keep at most so many samples of the other classes for each of select and test; None
            keeps none.
        transfer_samples: also keep at most so many train samples of the other classes, for a teacher to answer.
        folder: exists and is empty; making it appear at once when all is written is the step store's work.
        progress: told of each sample and of everything chosen without being asked for.

    Raises:
        EbbtideError: data.*, recipe.no_code.
    """
    source = open_source(section, allow_code=allow_code)
    class_indices = choose_classes(classes, source.classes)
    wanted = getattr(section, "input", None)
    spec, notes = resolve_input(wanted, input_defaults, kind=source.kind, shape=source.shape, color=source.color)
    positions, labels = _select(source, class_indices)
    names = tuple(source.classes[i] for i in class_indices)
    ids = [source.ids[i] for i in positions]
    staged = folder / "all.npy"
    contents = _stage(source, positions, spec, staged, progress=progress)
    protocol = getattr(section.split, "protocol", "shares")
    split_seed = getattr(section.split, "seed", None)
    split_seed = seed if split_seed is None else int(split_seed)
    fractions = {split: float(getattr(section.split, split)) for split in SPLITS}
    partition = divide(
        ids,
        labels,
        contents,
        given=_given(section, source, positions, labels, contents),
        fractions=fractions,
        seed=split_seed,
        classes=names,
    )
    (folder / "sealed").mkdir()
    if full_head:
        labels = np.array(class_indices, np.int64)[labels]
    splits = _write_splits(folder, staged, partition.members, ids, labels, progress=progress)
    staged.unlink()
    notes = [*source.notes, *notes, *_duplicate_notes(partition)]
    outside, transfer = None, None
    if outside_samples is not None or transfer_samples:
        others = choose_others(
            source,
            class_indices,
            fractions=fractions,
            seed=split_seed,
            most=outside_samples or 0,
            transfer=transfer_samples,
        )
        found, told = _write_others(folder, source, others, spec, set(contents), progress=progress)
        notes += told
        transfer = found.pop(TRANSFER, None)
        outside = None if outside_samples is None else found
    for note in notes:
        progress.say(note)
    if protocol == TEST_HALVES:
        notes.append(HALVES_NOTE)
    provenance = {
        "protocol": protocol,
        "source": source.name,
        "samples": len(source.ids),
        "split_seed": split_seed,
        "fractions": fractions,
        "official": sorted(set(source.given)) if source.given else [],
        "duplicates": partition.facts(),
        "notes": notes,
    }
    outputs = tuple(range(len(source.classes))) if full_head else class_indices
    beside = {"outside": outside, "transfer": None if transfer is None else {TRANSFER: transfer}}
    _write_description(folder, source, outputs, spec, splits, provenance, class_set=names, beside=beside)


def _given(
    section: Any, source: Source, positions: NDArray[np.int64], labels: NDArray[np.int64], contents: list[bytes]
) -> list[str] | None:
    """The official split of each sample, if there is one, with the test samples in halves where that is asked for."""
    given = None if source.given is None else [source.given[i] for i in positions]
    if getattr(section.split, "protocol", "shares") != TEST_HALVES:
        return given
    return test_halves([source.ids[i] for i in positions], labels, contents, given, choose_on=section.split.choose_on)


def _write_description(
    folder: Path,
    source: Source,
    class_indices: tuple[int, ...],
    spec: InputSpec,
    splits: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, Any],
    *,
    class_set: tuple[str, ...],
    beside: Mapping[str, Mapping[str, Mapping[str, Any]] | None],
) -> None:
    names = [source.classes[i] for i in class_indices]
    told = ("count", "per_class", "ids_sha256", "pixels_sha256")
    content = {
        "format": FORMAT,
        "classes": names,
        "class_set": class_set,
        "universal_classes": source.classes,
        "class_indices": class_indices,
        "input": spec.to_json(),
        "splits": {split: {"ids": facts["ids"], **_stored(facts)} for split, facts in splits.items()},
        "digest": _digest(names, spec, splits),
        # None: not asked for; without splits: there are no other classes.
        **{name: None if found is None else _described(found) for name, found in beside.items()},
        "provenance": {
            **provenance,
            "splits": {split: {key: facts[key] for key in told} for split, facts in splits.items()},
        },
    }
    write_json(folder / DATASET_FILE, content)


def _described(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    described = {split: {"ids": facts["ids"], **_stored(facts)} for split, facts in splits.items()}
    counts = {split: facts["count"] for split, facts in splits.items()}
    names = [TRANSFER] if TRANSFER in splits else [SELECT, TEST]
    return {"splits": described, "counts": counts, "digest": digest_of_splits(splits, names)}


def _stored(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: facts[key] for key in ("shape", "dtype", "pixels_sha256", "labels_sha256")}


def _select(source: Source, class_indices: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the samples of the class set, by id, and their labels 0..k-1 in the order of the class set."""
    place = np.full(len(source.classes), -1, np.int64)
    place[list(class_indices)] = np.arange(len(class_indices))
    positions = np.flatnonzero(place[source.labels] >= 0)
    positions = np.array(sorted(positions.tolist(), key=source.ids.__getitem__), np.int64)
    return positions, place[source.labels[positions]]


def _stage(
    source: Source, positions: NDArray[np.int64], spec: InputSpec, path: Path, *, progress: Progress
) -> list[bytes]:
    """Write every sample in the model's size, in the order of `positions`; return the digest of each."""
    shape, dtype = _stored_shape(spec)
    contents: list[bytes] = []
    with (
        array_file(path, (len(positions), *shape), dtype) as file,
        progress.task("prepare data", len(positions)) as task,
    ):
        for values in _samples(source, positions, spec):
            contents += [hashlib.sha256(sample).digest() for sample in values]
            file.write(values.data)
            task.advance(len(values))
    return contents


def _samples(source: Source, positions: NDArray[np.int64], spec: InputSpec) -> Iterator[NDArray[Any]]:
    per_sample = max(1, int(np.prod(spec.shape)) * 4, int(np.prod(source.shape or (1,))) * 3)
    size = int(np.clip(_CHUNK_BYTES // per_sample, 1, 1024))
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(positions), size):
            chunk = positions[start : start + size]
            stack = source.stack(chunk)
            if stack is not None:
                yield _fit(stack, spec)
            else:
                waiting = [pool.submit(_read_fitted, source, int(i), spec) for i in chunk]
                yield np.concatenate([_result(future, waiting) for future in waiting])


def _result(future: Future[NDArray[Any]], waiting: list[Future[NDArray[Any]]]) -> NDArray[Any]:
    try:
        return future.result()
    except BaseException:
        # Without this a broken first picture is told only after all the others were decoded.
        for other in waiting:
            other.cancel()
        raise


def _read_fitted(source: Source, index: int, spec: InputSpec) -> NDArray[Any]:
    sample = source.read(index)
    if spec.kind == "image":
        check_channels(sample.shape[2], place=source.ids[index])
    return _fit(sample[None], spec)


def _fit(stack: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    return np.ascontiguousarray(fit_pixels(stack, spec) if spec.kind == "image" else stack)


def _stored_shape(spec: InputSpec) -> tuple[tuple[int, ...], Any]:
    if spec.kind == "signal":
        return spec.shape, np.dtype("<f4")
    channels, height, width = spec.shape
    return (height, width, channels), np.dtype("u1")


def _write_others(
    folder: Path, source: Source, others: Others, spec: InputSpec, inside: set[bytes], *, progress: Progress
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Write the samples of the other classes; facts by split, none for a split without samples, and what to tell."""
    positions = np.unique(np.concatenate(list(others.members.values())))
    if not len(positions):
        return {}, ["There are no samples of other classes: what outside detection misses cannot be measured."]
    staged = folder / "others.npy"
    contents = _stage(source, positions, spec, staged, progress=progress)
    by_position = dict(zip(positions.tolist(), contents, strict=True))
    members, copies = without_copies(others.members, by_position, inside)
    # From here on rows of the staged file.
    rows = {split: np.searchsorted(positions, of_split) for split, of_split in members.items() if len(of_split)}
    ids = [source.ids[i] for i in positions]
    splits = _write_splits(folder, staged, rows, ids, source.labels[positions], progress=progress)
    staged.unlink()
    notes = []
    if others.left_out:
        shown = ", ".join(others.left_out[:10]) + (", ..." if len(others.left_out) > 10 else "")
        notes.append(f"{len(others.left_out)} other classes have too few samples to be divided: {shown}.")
    if copies:
        notes.append(f"{copies} samples of other classes were left out: others have the same content.")
    return splits, notes


def _write_splits(
    folder: Path,
    staged: Path,
    members_by_split: Mapping[str, NDArray[np.int64]],
    ids: list[str],
    labels: NDArray[np.int64],
    *,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    pixels = np.load(staged, mmap_mode="r", allow_pickle=False)
    rows = max(1, _CHUNK_BYTES // max(1, pixels[0].nbytes))
    splits = {}
    with progress.task("divide data", sum(map(len, members_by_split.values()))) as task:
        for split, members in members_by_split.items():
            digest = hashlib.sha256()
            shape = (len(members), *pixels.shape[1:])
            with array_file(pixels_file(folder, split), shape, pixels.dtype) as file:
                for start in range(0, len(members), rows):
                    values = np.ascontiguousarray(pixels[members[start : start + rows]])
                    file.write(values.data)
                    digest.update(values.data)
                    task.advance(len(values))
            own_labels = labels[members].astype("<i8")
            with array_file(labels_file(folder, split), own_labels.shape, own_labels.dtype) as file:
                file.write(own_labels.data)
            own_ids = [ids[i] for i in members]
            splits[split] = {
                "ids": own_ids,
                "count": len(members),
                "per_class": np.bincount(own_labels).tolist(),
                "ids_sha256": digest_ids(own_ids),
                "shape": list(shape),
                "dtype": pixels.dtype.str,
                "pixels_sha256": digest.hexdigest(),
                "labels_sha256": hashlib.sha256(own_labels.data).hexdigest(),
            }
    return splits


def _digest(names: list[str], spec: InputSpec, splits: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 over what a model sees of the data set: classes, input, and ids, labels and pixels in their order."""
    parts = {
        split: [hashlib.sha256("\n".join(facts["ids"]).encode()).hexdigest(), *_stored(facts).values()]
        for split, facts in splits.items()
    }
    return hashlib.sha256(canonical_json([names, spec.to_json(), parts])).hexdigest()


def _duplicate_notes(partition: Partition) -> list[str]:
    notes = []
    if partition.duplicate_samples:
        notes.append(
            f"{partition.duplicate_samples} samples are copies of others ({partition.duplicate_groups} groups, "
            f"{partition.conflicting_groups} with differing labels); copies stay in one split."
        )
    if partition.dropped:
        notes.append(f"{len(partition.dropped)} samples were left out: an official test or select split has them too.")
    return notes
