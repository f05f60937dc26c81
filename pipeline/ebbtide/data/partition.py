"""Which sample goes to which split: disjoint by id and by content, stratified by class, the same in any file order."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebbtide.data.source import SPLITS
from ebbtide.errors import EbbtideError


@dataclass(frozen=True)
class Partition:
    """Sample positions of each split, in an order that mixes the classes, and what is to be told of duplicates.

    Args:
        members: for "train", "select" and "test" the positions, int64.
        duplicate_groups: contents that more than one sample has.
        duplicate_samples: samples with a content seen before.
        conflicting_groups: of those groups, how many carry different labels.
        dropped: ids left out since a copy of them is in an official split of higher rank (test before select).
    """

    members: Mapping[str, NDArray[np.int64]]
    duplicate_groups: int
    duplicate_samples: int
    conflicting_groups: int
    dropped: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """For provenance and report."""
        return {
            "duplicate_groups": self.duplicate_groups,
            "duplicate_samples": self.duplicate_samples,
            "conflicting_groups": self.conflicting_groups,
            "dropped": len(self.dropped),
            "dropped_ids_sha256": digest_ids(self.dropped),
        }


def digest_ids(ids: Sequence[str]) -> str:
    """SHA-256 over the sorted ids, each followed by a line feed."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(ids)).encode()).hexdigest()


def divide(
    ids: Sequence[str],
    labels: NDArray[np.int64],
    contents: Sequence[bytes],
    *,
    given: Sequence[str] | None,
    fractions: Mapping[str, float],
    seed: int,
    classes: Sequence[str],
) -> Partition:
    """Divide samples into train, select and test.

    Samples of one content stay together. An official select or test split is kept; the fractions then divide the rest
    among the splits that are not given. Each class is divided by itself, in the order of SHA-256 of ``"seed\\nid"``, so
    a sample's split depends on no other class: a class set divides as all classes together do (but for copies that
    carry labels of two classes).

    Args:
        ids, labels, contents: per sample: unique text, class, digest of what the model will see.
        given: official split per sample, "train" meaning the pool; or None.
        fractions: of train, select and test, each above 0.
        seed: of the division.
        classes: names of the classes, for messages.

    Raises:
        EbbtideError: data.split, data.one_class, data.too_few.
    """
    order = hash_order(ids, seed)
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i in order:
        groups[contents[i]].append(i)
    chosen: dict[str, list[int]] = {split: [] for split in SPLITS}
    pool: dict[int, list[list[int]]] = defaultdict(list)
    dropped: list[str] = []
    for group in groups.values():
        official = _official(group, given)
        if official == "train":
            pool[int(labels[group[0]])].append(group)
            continue
        kept = [i for i in group if given is not None and given[i] == official]
        chosen[official] += kept
        dropped += [ids[i] for i in group if i not in kept]
    unfilled = [split for split in SPLITS if split == "train" or not chosen[split]]
    _check_classes(labels, classes)
    for label, name in enumerate(classes):
        for split, part in divide_class(pool[label], unfilled, fractions, name).items():
            chosen[split] += part
    rank = {i: r for r, i in enumerate(order)}
    members = {split: np.array(sorted(chosen[split], key=rank.__getitem__), np.int64) for split in SPLITS}
    copies = [group for group in groups.values() if len(group) > 1]
    partition = Partition(
        members=members,
        duplicate_groups=len(copies),
        duplicate_samples=sum(len(group) - 1 for group in copies),
        conflicting_groups=sum(len({int(labels[i]) for i in group}) > 1 for group in copies),
        dropped=tuple(sorted(dropped)),
    )
    _check(partition, ids, labels, contents, classes)
    return partition


def hash_order(ids: Sequence[str], seed: int) -> list[int]:
    """Positions in the order of SHA-256 of ``"seed\\nid"``."""
    keys = [hashlib.sha256(f"{seed}\n{name}".encode()).digest() for name in ids]
    return sorted(range(len(ids)), key=lambda i: (keys[i], ids[i]))


def _official(group: Sequence[int], given: Sequence[str] | None) -> str:
    found = {"train"} if given is None else {given[i] for i in group}
    return next(split for split in ("test", "select", "train") if split in found)


def _check_classes(labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    present = np.bincount(labels, minlength=len(classes)) > 0
    if present.sum() < 2:
        raise EbbtideError(
            "data.one_class",
            "The data has samples of fewer than two classes.",
            found=", ".join(name for name, there in zip(classes, present, strict=True) if there) or "none",
            place="data",
            hint="give samples of two classes or more",
        )
    if not present.all():
        name = classes[int(np.argmin(present))]
        raise EbbtideError(
            "data.too_few",
            f"The class {name!r} has no samples.",
            hint="add samples or leave it out",
            place="data",
        )


def divide_class(
    groups: list[list[int]], splits: Sequence[str], fractions: Mapping[str, float], name: str
) -> dict[str, list[int]]:
    """Fill the splits one after the other up to their share, large groups of copies first; none stays empty.

    Args:
        groups: positions of samples of one content each, in the order they are taken.
        splits: those to fill.
        fractions: of at least these splits.
        name: of the class, for the message.

    Raises:
        EbbtideError: ``data.too_few`` if there are fewer groups than splits.
    """
    if len(groups) < len(splits):
        raise EbbtideError(
            "data.too_few",
            f"The class {name!r} has too few different samples.",
            expected=f"at least {len(splits)}, one for each of {', '.join(splits)}",
            found=str(len(groups)),
            hint="add samples or leave the class out",
            place="data",
        )
    room = shares(sum(map(len, groups)), {split: fractions[split] for split in splits})
    result: dict[str, list[list[int]]] = {split: [] for split in splits}
    # sorted is stable, so groups of one size keep the order of their hashes.
    for group in sorted(groups, key=lambda group: -len(group)):
        split = next((s for s in splits if room[s] >= len(group)), max(splits, key=room.__getitem__))
        result[split].append(group)
        room[split] -= len(group)
    for split in splits:
        if not result[split]:
            donor = max(splits, key=lambda s: len(result[s]))
            result[split].append(result[donor].pop())
    return {split: [i for group in result[split] for i in group] for split in splits}


def shares(total: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that sum to `total`, by largest remainder, each at least 1 where `total` allows.

    Raises:
        EbbtideError: data.split if a fraction is not above 0.
    """
    if not fractions or not all(np.isfinite(value) and value > 0 for value in fractions.values()):
        raise EbbtideError(
            "data.split",
            "The fractions of the split are not all above 0.",
            expected="train, select and test each above 0",
            found=str(dict(fractions)),
            place="data.split",
            hint="for example train: 0.7, select: 0.15, test: 0.15",
        )
    whole = sum(fractions.values())
    exact = {split: total * value / whole for split, value in fractions.items()}
    result = {split: int(value) for split, value in exact.items()}
    by_remainder = sorted(fractions, key=lambda split: result[split] - exact[split])
    for split in by_remainder[: total - sum(result.values())]:
        result[split] += 1
    for split in fractions:
        largest = max(result, key=result.__getitem__)
        if result[split] == 0 and result[largest] > 1:
            result[split], result[largest] = 1, result[largest] - 1
    return result


def _check(
    partition: Partition,
    ids: Sequence[str],
    labels: NDArray[np.int64],
    contents: Sequence[bytes],
    classes: Sequence[str],
) -> None:
    """Prove what the rest of the build relies on, instead of trusting the code above."""
    seen_ids: set[str] = set()
    seen_contents: set[bytes] = set()
    for split, members in partition.members.items():
        own_ids, own_contents = {ids[i] for i in members}, {contents[i] for i in members}
        if len(own_ids) != len(members) or own_ids & seen_ids or own_contents & seen_contents:
            raise EbbtideError("api.internal", f"The split {split!r} is not disjoint from the others.")
        seen_ids |= own_ids
        seen_contents |= own_contents
        missing = np.setdiff1d(np.arange(len(classes)), labels[members])
        if len(missing):
            raise EbbtideError(
                "data.too_few",
                f"The class {classes[missing[0]]!r} has no samples in the {split} split.",
                hint="add samples to the official split or leave the class out",
                place="data",
            )
