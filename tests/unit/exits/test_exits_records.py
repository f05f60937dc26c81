from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey, Records, confidences, record

KEYS = (ExitKey(1, "pool-linear"), ExitKey(1, "pool-mlp"), ExitKey(3, "pool-linear"))


@pytest.fixture
def made() -> Records:
    generator = np.random.default_rng(0)
    logits = {key: generator.normal(size=(5, 3)).astype(np.float32) for key in reversed(KEYS)}
    return record(
        np.array([0, 1, 2, 0, 1]),
        logits,
        generator.normal(size=(5, 3)).astype(np.float32),
        temperatures={key: 1.0 + index for index, key in enumerate(KEYS)},
        head_temperature=0.5,
        level="w50",
        precision="float32",
        split="select",
    )


def test_records_come_back_as_saved_for_their_own_level_and_precision(made: Records, tmp_path: Path) -> None:
    made.save(tmp_path / "r.npz")
    loaded = Records.load(tmp_path / "r.npz", level="w50", precision="float32")
    assert loaded.keys == made.keys == KEYS
    assert loaded.positions == (1, 1, 3)
    assert (loaded.level, loaded.precision, loaded.split) == ("w50", "float32", "select")
    for name in ("labels", "predictions", "confidences"):
        assert np.array_equal(getattr(loaded, name), getattr(made, name))


@pytest.mark.parametrize(("level", "precision"), [("w100", "float32"), ("w50", "int8")])
def test_records_of_another_level_or_precision_are_refused(
    made: Records, tmp_path: Path, level: str, precision: str
) -> None:
    made.save(tmp_path / "r.npz")
    with pytest.raises(EbbtideError) as caught:
        Records.load(tmp_path / "r.npz", level=level, precision=precision)
    assert caught.value.code == "exits.identity"
    assert "w50, float32" in str(caught.value)


def test_only_keeps_the_rows_of_its_exits_and_the_head(made: Records) -> None:
    kept = made.only([KEYS[0], KEYS[2]])
    assert kept.keys == (KEYS[0], KEYS[2])
    assert np.array_equal(kept.confidences, made.confidences[[0, 2, 3]])
    assert np.array_equal(kept.predictions, made.predictions[[0, 2, 3]])
    assert kept.level == made.level


def test_samples_are_taken_from_every_row(made: Records) -> None:
    half = made.samples(np.array([4, 1]), split="test-a")
    assert half.labels.tolist() == [1, 1]
    assert np.array_equal(half.confidences, made.confidences[:, [4, 1]])
    assert half.split == "test-a"
    assert np.array_equal(made.first(2).predictions, made.predictions[:, :2])


def test_each_row_is_scaled_by_its_own_temperature() -> None:
    logits = np.array([[2.0, 0.0, -1.0]], np.float32)
    made = record(
        np.array([0]),
        {KEYS[0]: logits, KEYS[1]: logits},
        logits,
        temperatures={KEYS[0]: 1.0, KEYS[1]: 4.0},
        head_temperature=2.0,
        level="w100",
        precision="float32",
        split="select",
    )
    assert made.confidences[:, 0] == pytest.approx([confidences(logits, t)[1][0] for t in (1.0, 4.0, 2.0)])


def test_records_refuse_rows_that_do_not_fit_their_exits(made: Records) -> None:
    for wrong in (
        {"keys": KEYS[:2]},
        {"keys": (KEYS[1], KEYS[0], KEYS[2])},
        {"keys": (KEYS[0], KEYS[0], KEYS[2])},
        {"labels": made.labels[:3]},
    ):
        with pytest.raises(EbbtideError) as caught:
            replace(made, **wrong)
        assert caught.value.code == "exits.records"


def test_confidences_do_not_saturate_and_rank_like_probabilities() -> None:
    best, values = confidences(np.array([[100.0, 0.0, 1.0], [40.0, 0.0, 1.0], [1.0, 1.0, 0.0]], np.float32), 1.0)
    assert best.tolist() == [0, 0, 0]
    assert values[0] > values[1] > values[2]
    assert values[0] == pytest.approx(100 - np.log(np.e + 1), rel=1e-6)
    probability = np.e / (2 * np.e + 1)
    assert values[2] == pytest.approx(np.log(probability / (1 - probability)), rel=1e-6)
