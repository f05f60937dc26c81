"""Samples of the other classes: what outside detection is chosen and measured on, and what a teacher answers."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebbtide.data.partition import divide_class, hash_order
from ebbtide.data.source import SPLITS, Source

SELECT, TEST = "outside-select", "outside-test"
"""Names of the two splits of outside detection, and of their files."""
TRANSFER = "transfer"
"""Of samples that the universal model's own train split holds: nothing is chosen or measured on them."""


@dataclass(frozen=True)
class Others:
    """Candidates from the other classes.

    Attributes:
        members: for `SELECT`, `TEST` and `TRANSFER` positions, int64, in an order that mixes the classes.
        left_out: names of classes with too few samples to be divided.
    """

    members: Mapping[str, NDArray[np.int64]]
    left_out: tuple[str, ...]


def choose_others(
    source: Source, inside: Sequence[int], *, fractions: Mapping[str, float], seed: int, most: int, transfer: int = 0
) -> Others:
    """Divide the samples of all other classes as a build of all classes divides them.

    So whatever a universal model learnt from in a build of the same data, seed and shares (train) is not among those of
    select and test; of that, some are kept for a teacher to answer.
    They are divided by their ids alone, as if no two had the same content, so that nothing need be read that is not
    kept; `without_copies` removes copies afterwards.

    Args:
        source: all samples.
        inside: indices of the class set.
        fractions: of train, select and test.
        seed: of the division.
        most: at most so many samples of select and of test each, spread evenly over the classes.
        transfer: likewise of train.
    """
    given, labels = source.given, source.labels
    rank = {position: index for index, position in enumerate(hash_order(source.ids, seed))}
    official_splits = set(given or ()) - {"train"}
    splits = [split for split in SPLITS if split not in official_splits]
    by_class: dict[int, dict[str, list[int]]] = defaultdict(lambda: {split: [] for split in SPLITS})
    for position in sorted(np.flatnonzero(~np.isin(labels, list(inside))).tolist(), key=rank.__getitem__):
        by_class[int(labels[position])]["train" if given is None else given[position]].append(position)
    chosen: dict[str, list[list[int]]] = {"select": [], "test": [], "train": []}
    left_out = []
    for label in sorted(set(range(len(source.classes))) - set(inside)):
        official, name = by_class[label], source.classes[label]
        if len(official["train"]) < len(splits):
            left_out.append(name)
            continue
        found = official | divide_class([[position] for position in official["train"]], splits, fractions, name)
        for split, parts in chosen.items():
            parts.append(found[split])
    return Others(
        members={
            name: np.array(sorted(_evenly(chosen[split], count), key=rank.__getitem__), np.int64)
            for name, split, count in ((SELECT, "select", most), (TEST, "test", most), (TRANSFER, "train", transfer))
        },
        left_out=tuple(left_out),
    )


def _evenly(parts: Sequence[Sequence[int]], most: int) -> list[int]:
    """The first of every part, then the second of every part, and so on, until there are `most`."""
    ranked = sorted((place, number) for number, part in enumerate(parts) for place in range(len(part)))
    return [parts[number][place] for place, number in ranked[:most]]


def without_copies(
    others: Mapping[str, NDArray[np.int64]], contents: Mapping[int, bytes], inside: set[bytes]
) -> tuple[dict[str, NDArray[np.int64]], int]:
    """The members whose content stands nowhere else: not among the class set's samples, and once among these.

    A content that several splits hold stays in test, or else in select.

    Args:
        others: positions by split.
        contents: digest of what the model will see, by position.
        inside: the digests of the class set's samples, of all its splits.

    Returns:
        The members that stay, and how many were removed.
    """
    seen, kept = set(inside), {}
    for name in (TEST, SELECT, TRANSFER):
        staying = []
        for position in others[name].tolist():
            if contents[position] not in seen:
                seen.add(contents[position])
                staying.append(position)
        kept[name] = np.array(staying, np.int64)
    return kept, sum(map(len, others.values())) - sum(map(len, kept.values()))


def digest_of_splits(splits: Mapping[str, Mapping[str, object]], names: Sequence[str] = (SELECT, TEST)) -> str:
    """SHA-256 over ids, labels and pixels of splits, in this order."""
    digest = hashlib.sha256()
    for name in names:
        facts = splits.get(name)
        told = "" if facts is None else f"{facts['ids_sha256']}{facts['pixels_sha256']}{facts['labels_sha256']}"
        digest.update(f"{name}\n{told}\n".encode())
    return digest.hexdigest()
