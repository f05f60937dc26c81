"""The test split opens once, for frozen choices, and for nothing else."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebbtide.data import FrozenChoices, SealedSplit, Split, image_spec, read_opening_log
from ebbtide.errors import EbbtideError

ONE, OTHER = FrozenChoices.of({"tiers": ["c0"]}), FrozenChoices.of({"tiers": ["c1"]})


def sealed(calls: list[int] | None = None, log: Path | None = None) -> SealedSplit:
    split = Split(
        name="test",
        ids=("a", "b"),
        labels=np.array([0, 1]),
        pixels=np.zeros((2, 2, 2, 1), np.uint8),
        input=image_spec((2, 2), "gray"),
    )

    def unseal() -> Split:
        if calls is not None:
            calls.append(1)
        return split

    return SealedSplit(("a", "b"), unseal, log=log)


@pytest.mark.parametrize("name", ["labels", "pixels", "tensor", "batches", "targets", "input", "_split", "anything"])
def test_sealed_split_raises_when_touched(name: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        getattr(sealed(), name)
    assert caught.value.code == "data.test_sealed"
    assert name in caught.value.message


def test_sealed_split_tells_size_and_ids_without_reading() -> None:
    calls: list[int] = []
    split = sealed(calls)
    assert (len(split), split.ids, split.name) == (2, ("a", "b"), "test")
    assert "closed" in repr(split)
    assert not calls


@pytest.mark.parametrize("choices", [None, "x", {"tiers": ["c0"]}, ONE.digest])
def test_sealed_split_stays_closed_when_choices_are_not_frozen(choices: Any) -> None:
    calls: list[int] = []
    with pytest.raises(EbbtideError) as caught:
        sealed(calls).open(choices)
    assert caught.value.code == "data.test_sealed"
    assert not calls


def test_sealed_split_opens_again_only_for_the_same_choices() -> None:
    calls: list[int] = []
    split = sealed(calls)
    first = split.open(ONE)
    assert split.open(FrozenChoices.of({"tiers": ["c0"]})) is first
    assert len(calls) == 1
    with pytest.raises(EbbtideError) as caught:
        split.open(OTHER)
    assert caught.value.code == "data.test_sealed"
    assert split.openings == (ONE.digest, ONE.digest)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_sealed_split_cannot_be_copied(way: Callable[[SealedSplit], object]) -> None:
    with pytest.raises(EbbtideError) as caught:
        way(sealed())
    assert caught.value.code == "data.test_sealed"


def test_opening_log_keeps_every_choice_and_survives_a_cut_line(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "test-openings.jsonl"
    assert read_opening_log(log) == ()
    sealed(log=log).open(ONE)
    sealed(log=log).open(OTHER)
    with log.open("a") as file:
        file.write('{"choi')
    assert read_opening_log(log) == (ONE.digest, OTHER.digest)


def test_opening_is_logged_before_anything_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def fail() -> Split:
        raise OSError

    with pytest.raises(OSError):
        SealedSplit(("a",), fail, log=log).open(ONE)
    assert read_opening_log(log) == (ONE.digest,)


def test_choices_are_canonical_json() -> None:
    choices = FrozenChoices.of({"b": [1, 2.5], "a": {"ü": None}})
    assert choices.text == '{"a":{"ü":null},"b":[1,2.5]}'
    assert choices.digest == hashlib.sha256(choices.text.encode()).hexdigest()
    assert choices == FrozenChoices.of(json.loads(choices.text))


@pytest.mark.parametrize(
    "choices", [{}, {"a": math.nan}, {"a": object()}, {"a": b"x"}], ids=["empty", "nan", "object", "bytes"]
)
def test_choices_are_refused_when_empty_or_not_json(choices: Any) -> None:
    with pytest.raises(EbbtideError) as caught:
        FrozenChoices.of(choices)
    assert caught.value.code == "data.choices"


def test_choices_cannot_be_made_with_a_foreign_digest() -> None:
    with pytest.raises(EbbtideError) as caught:
        FrozenChoices(text="{}", digest=ONE.digest)
    assert caught.value.code == "data.choices"
