"""One exit type for each position of a shipped table."""

from __future__ import annotations

import numpy as np
import pytest
from search_samples import CLASSES, costs_of, random_records

from ebbtide.exits import Records
from ebbtide.search import SearchSettings, Settled, every_threshold, settle_types

SETTINGS = SearchSettings(trade_offs=(0.6, 0.8, 0.9, 0.95, 0.98))


def settle(records: Records, **options: object) -> Settled:
    choices = [every_threshold(row) for row in records.confidences[:-1]]
    return settle_types(
        records,
        costs_of(records),
        choices=choices,
        metric="accuracy",
        classes=CLASSES,
        settings=SETTINGS,
        **options,
    )


def test_every_position_has_one_type_and_candidates_use_only_those() -> None:
    found = settle(random_records(300, (0, 1, 3), seed=0, types=("small", "large")))
    assert [key.position for key in found.keys] == [0, 1, 3]
    assert {key for one in found.candidates for key in one.keys} <= set(found.keys)
    assert found.mean_loss_points <= found.worst_loss_points


def test_the_type_that_is_better_is_chosen_at_each_position() -> None:
    records = random_records(600, (0, 1, 3), seed=1, types=("small", "large"))
    for row, key in enumerate(records.keys):
        if (key.type == "large") == (key.position == 1):
            # Always as sure as before, but wrong more often.
            spoilt = np.random.default_rng(row).random(600) < 0.3
            records.predictions[row, spoilt] = (records.labels[spoilt] + 1) % CLASSES
    assert [key.type for key in settle(records).keys] == ["large", "small", "large"]


def test_nothing_is_lost_when_there_is_one_type() -> None:
    found = settle(random_records(300, (0, 1, 3), seed=2))
    assert found.mean_loss_points == found.worst_loss_points == pytest.approx(0.0)


def test_only_the_positions_that_gain_most_are_kept() -> None:
    records = random_records(400, (0, 1, 2, 3), seed=3, types=("small", "large"))
    useless = [row for row, key in enumerate(records.keys) if key.position in (0, 2)]
    records.predictions[useless] = (records.labels + 1) % CLASSES
    found = settle(records, most=2)
    assert [key.position for key in found.keys] == [1, 3]


def test_configurations_that_lose_too_much_have_no_say() -> None:
    # At position 0 the large exit is the better one for sure samples, the small one for leaving at once.
    records = random_records(600, (0, 3), seed=4, types=("small", "large"))
    all_rows = settle(records)
    good_rows = settle(records, max_drop_points=2.0)
    assert [key.position for key in good_rows.keys] == [0, 3]
    assert good_rows.worst_loss_points <= 2.0 + all_rows.worst_loss_points
