from __future__ import annotations

import pytest
from personal_samples import settings

from ebbtide.errors import EbbtideError
from ebbtide.sparsity.schedule import Schedule


def test_geometric_path_removes_the_same_share_of_what_is_left():
    budgets = Schedule(steps=3).budgets(0.064)
    assert budgets == pytest.approx((0.4, 0.16, 0.064))
    assert budgets[-1] == 0.064


def test_linear_path_removes_the_same_amount():
    assert Schedule(steps=4, path="linear").budgets(0.2) == pytest.approx((0.8, 0.6, 0.4, 0.2))


def test_one_step_is_one_shot():
    assert Schedule(steps=1).budgets(0.1) == (0.1,)
    assert Schedule(steps=1, first=0.5).budgets(0.1) == (0.1,)


def test_first_removal_can_go_further_than_the_path():
    assert Schedule(steps=3, first=0.16).budgets(0.01) == pytest.approx((0.16, 0.04, 0.01))
    # What the first removal would go below is reached by the path as ever.
    assert Schedule(steps=2, first=0.1).budgets(0.25) == pytest.approx((0.5, 0.25))


def test_whole_model_is_one_step_of_learning():
    assert Schedule(steps=3).budgets(1.0) == (1.0,)
    assert Schedule(steps=3, first=0.1).budgets(1.0, start=0.5) == (1.0,)
    assert Schedule(steps=3).budgets(0.3, start=0.3) == (0.3,)


@pytest.mark.parametrize(
    ("start", "kept", "steps"), [(1.0, 0.064, 3), (0.4, 0.064, 2), (0.16, 0.064, 1), (0.1, 0.064, 1), (1.0, 0.4, 1)]
)
def test_part_of_a_way_has_its_part_of_the_steps(start, kept, steps):
    part = Schedule(steps=3).part(kept, start=start, end=0.064)
    assert part == Schedule(steps=steps)
    assert part.budgets(kept, start=start)[-1] == kept
    assert len(part.budgets(kept, start=start)) == steps


def test_from_a_smaller_start_the_path_goes_on_in_equal_ratios():
    assert Schedule(steps=2).budgets(0.064, start=0.4) == pytest.approx((0.16, 0.064))
    assert Schedule(steps=2, first=0.1).budgets(0.064, start=0.4) == pytest.approx((0.16, 0.064))


def test_way_that_ends_with_the_whole_model_stays_as_it_is():
    assert Schedule(steps=3).part(1.0, start=1.0, end=1.0) == Schedule(steps=3)


def test_settings_keep_the_warm_up_shorter_than_the_epochs():
    own = settings(epochs=10, warmup_epochs=3)
    assert Schedule().settings(own, epochs=2).warmup_epochs == 1
    assert Schedule().settings(own, epochs=12).warmup_epochs == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0}, {"first": 0.0}, {"first": 1.5}, {"epochs_between": -1}, {"epochs_before": -1}, {"batches": 0},
        {"batch_size": 1}, {"views": 0}, {"statistics": "moving"},
        {"statistics": "moving", "epochs_before": 1, "epochs_between": 0},
    ],
)  # fmt: skip
def test_schedule_refuses_numbers_out_of_range(wrong):
    with pytest.raises(EbbtideError) as caught:
        Schedule(**wrong)
    assert caught.value.code == "sparsity.schedule"
