"""Class sets and the division into train, select and test."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.data import choose_classes
from ebbtide.data.partition import Partition, digest_ids, divide, shares
from ebbtide.errors import EbbtideError

FRACTIONS = {"train": 0.7, "select": 0.15, "test": 0.15}
NAMES = ["ant", "bee", "cat", "dog"]


def cut(labels: list[int], contents: list[str] | None = None, **changes: Any) -> Partition:
    ids = [f"s{i:03}" for i in range(len(labels))]
    settings = {
        "given": None,
        "fractions": FRACTIONS,
        "seed": 0,
        "classes": NAMES[: max(labels, default=0) + 1],
        **changes,
    }
    keys = [hashlib.sha256((contents or ids)[i].encode()).digest() for i in range(len(ids))]
    return divide(ids, np.array(labels, np.int64), keys, **settings)


def ids_of(partition: Partition, split: str) -> set[int]:
    return set(partition.members[split].tolist())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60)), min_size=1, max_size=80),
    st.integers(0, 5),
)
def test_splits_are_disjoint_by_id_and_content_or_refused(samples: list[tuple[int, int]], seed: int) -> None:
    labels, contents = [label for label, _ in samples], [str(content) for _, content in samples]
    classes_by_label = [{c for label, c in zip(labels, contents, strict=True) if label == k} for k in range(3)]
    try:
        partition = cut(labels, contents, seed=seed, classes=NAMES[:3])
    except EbbtideError:
        # Refused only when a class may lack contents of its own for three splits.
        own = [
            found - set().union(*classes_by_label[:k], *classes_by_label[k + 1 :])
            for k, found in enumerate(classes_by_label)
        ]
        assert min(map(len, own)) < 3
        return
    parts = [ids_of(partition, split) for split in FRACTIONS]
    assert set().union(*parts) == set(range(len(labels)))
    assert sum(map(len, parts)) == len(labels)
    texts = [{contents[i] for i in part} for part in parts]
    assert sum(map(len, texts)) == len(set().union(*texts))
    assert all({labels[i] for i in part} == {0, 1, 2} for part in parts)


def test_shares_are_exact_when_contents_differ() -> None:
    partition = cut([0] * 100 + [1] * 40)
    assert {split: len(partition.members[split]) for split in FRACTIONS} == {"train": 98, "select": 21, "test": 21}
    labels = np.array([0] * 100 + [1] * 40)
    assert np.bincount(labels[partition.members["test"]]).tolist() == [15, 6]


def test_division_is_the_same_when_order_of_samples_changes() -> None:
    ids, labels = [f"s{i}" for i in range(60)], np.arange(60) % 2
    keys = [hashlib.sha256(name.encode()).digest() for name in ids]
    order = np.random.default_rng(0).permutation(60)
    options: Any = {"given": None, "fractions": FRACTIONS, "seed": 3, "classes": NAMES[:2]}
    one = divide(ids, labels, keys, **options)
    other = divide([ids[i] for i in order], labels[order], [keys[i] for i in order], **options)
    for split in FRACTIONS:
        assert [ids[i] for i in one.members[split]] == [ids[order[i]] for i in other.members[split]]


def test_division_differs_when_seed_does() -> None:
    assert ids_of(cut([0, 1] * 50, seed=1), "test") != ids_of(cut([0, 1] * 50, seed=2), "test")


def test_division_of_a_class_does_not_depend_on_other_classes() -> None:
    both = cut([0] * 50 + [1] * 50 + [2] * 50)
    fewer = cut([0] * 50 + [1] * 50)
    for split in FRACTIONS:
        assert {i for i in ids_of(both, split) if i < 100} == ids_of(fewer, split)


def test_stored_order_mixes_classes() -> None:
    partition = cut([0] * 200 + [1] * 200)
    first = partition.members["train"][:60]
    assert 10 < (first < 200).sum() < 50


def test_copies_stay_together_and_are_counted() -> None:
    contents = [str(i // 2) if i < 20 else f"x{i}" for i in range(80)]
    partition = cut([0, 0, 1, 1] * 20, contents)
    assert (partition.duplicate_groups, partition.duplicate_samples, partition.conflicting_groups) == (10, 10, 0)
    place = {i: split for split in FRACTIONS for i in ids_of(partition, split)}
    assert all(place[i] == place[i + 1] for i in range(0, 20, 2))


def test_conflicting_labels_of_copies_are_counted() -> None:
    contents = ["same", "same", *(f"x{i}" for i in range(78))]
    assert cut([0, 1] * 40, contents).conflicting_groups == 1


def test_official_test_is_kept_whole_and_its_copies_leave_the_pool() -> None:
    official = ["train"] * 40 + ["test"] * 20
    contents = [f"c{i}" for i in range(60)]
    contents[0] = contents[45]
    partition = cut([0, 1] * 30, contents, given=official)
    assert ids_of(partition, "test") == set(range(40, 60))
    assert partition.dropped == ("s000",)
    assert len(partition.members["train"]) + len(partition.members["select"]) == 39
    # 0.15 / 0.85 of the pool of each class
    assert len(partition.members["select"]) in (6, 7)


def test_fractions_are_not_used_when_all_splits_are_official() -> None:
    official = ["train", "train", "select", "select", "test", "test"]
    partition = cut([0, 1] * 3, given=official)
    assert [sorted(partition.members[split].tolist()) for split in FRACTIONS] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("labels", "changes", "code"),
    [
        ([0, 0, 0, 1, 1], {}, "data.too_few"),
        ([0, 0, 0, 0], {}, "data.one_class"),
        ([0, 0, 0, 1, 1, 1], {"classes": NAMES[:3]}, "data.too_few"),
        ([0, 0, 0, 1, 1, 1], {"fractions": {"train": 1.0, "select": 0.0, "test": 0.0}}, "data.split"),
        (
            [0, 0, 0, 0, 1, 1, 1],
            {"given": ["train", "train", "train", "test", "train", "train", "train"]},
            "data.too_few",
        ),
    ],
)
def test_division_is_refused_when_a_split_would_lack_a_class(labels: list[int], changes: Any, code: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        cut(labels, **changes)
    assert caught.value.code == code


@given(st.integers(3, 500), st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.01, 1))
def test_shares_sum_and_none_is_empty(total: int, a: float, b: float, c: float) -> None:
    result = shares(total, {"train": a, "select": b, "test": c})
    assert sum(result.values()) == total
    assert min(result.values()) >= 1


def test_ids_digest_does_not_depend_on_order() -> None:
    assert digest_ids(["b", "a"]) == digest_ids(["a", "b"]) == hashlib.sha256(b"a\nb\n").hexdigest()


def test_class_set_keeps_its_own_order() -> None:
    assert choose_classes(["dog", 0, "cat"], NAMES) == (3, 0, 2)
    assert choose_classes("all", NAMES) == (0, 1, 2, 3)


def test_class_draw_is_nested_and_depends_on_seed() -> None:
    names = [f"class {i}" for i in range(50)]
    small = choose_classes(SimpleNamespace(count=5, seed=1), names)
    large = choose_classes(SimpleNamespace(count=10, seed=1), names)
    assert set(small) < set(large)
    assert list(small) == sorted(small)
    assert small != choose_classes(SimpleNamespace(count=5, seed=2), names)


@pytest.mark.parametrize(
    ("wanted", "code", "told"),
    [
        (["ant", "bea"], "data.class_unknown", "'bee'"),
        (["ant", 4], "data.class_unknown", "0 to 3"),
        (["ant", -1], "data.class_unknown", "-1"),
        (["ant", True], "data.class_unknown", "True"),
        (["ant", 0], "data.class_unknown", "twice"),
        ("ant", "data.class_unknown", "'ant'"),
        ([], "data.class_set_empty", "at least two"),
        (["ant"], "data.class_set_empty", "at least two"),
        (SimpleNamespace(count=9, seed=0), "data.class_unknown", "2 to 4"),
        (SimpleNamespace(count=1, seed=0), "data.class_set_empty", "2 to 4"),
    ],
)
def test_class_set_is_refused_with_what_is_known(wanted: Any, code: str, told: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        choose_classes(wanted, NAMES)
    assert caught.value.code == code
    assert told in str(caught.value)


def test_class_set_is_refused_when_data_has_one_class() -> None:
    with pytest.raises(EbbtideError) as caught:
        choose_classes("all", ["only"])
    assert caught.value.code == "data.one_class"
