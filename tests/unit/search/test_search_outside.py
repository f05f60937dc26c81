"""Thresholds for what lies outside, on scores whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.errors import EbbtideError
from ebbtide.search import Scales, Strangeness, choose_outside, is_outside, rates


def at_one_place(scores: list[float]) -> Strangeness:
    return Strangeness(np.zeros(len(scores), np.int64), np.array(scores, np.float64))


def scales_of(found: Strangeness) -> Scales:
    return Scales.of(found.scores[None])


def drawn(seed: int, shift: float = 0.0, places: int = 3, count: int = 400) -> tuple[np.ndarray, Strangeness]:
    """Scores at every place, each with a scale of its own, and where each sample is answered."""
    rng = np.random.default_rng(seed)
    size = np.array([1.0, 20.0, 0.05][:places])
    scores = (rng.normal(shift, 1.0, (places, count)) - 5.0) * size[:, None]
    at = rng.integers(0, places, count)
    return scores, Strangeness(at, scores[at, np.arange(count)])


def test_threshold_is_the_lowest_that_keeps_the_share() -> None:
    inside = at_one_place([float(i) for i in range(20)])
    for share, allowed in ((0.0, 0), (0.05, 1), (0.1, 2), (0.149, 2), (0.5, 10)):
        thresholds = choose_outside(inside, None, scales_of(inside), false_outside=share)
        assert is_outside(inside, thresholds).sum() == allowed
        # In the middle between two samples, as far from either as can be; or above them all.
        if allowed:
            assert thresholds[0] == pytest.approx(19 - allowed + 0.5, abs=1e-5)
            assert is_outside(inside, thresholds - np.float32(1.0)).sum() > share * 20


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.01, 0.05, 0.2]))
def test_share_is_kept_over_all_places_together_when_scales_differ(seed: int, share: float) -> None:
    scores, inside = drawn(seed)
    _, others = drawn(seed + 1, shift=3.0)
    # With a gap that no two scores lie within, nothing is given away: one more could not be allowed.
    thresholds = choose_outside(inside, others, Scales.of(scores), false_outside=share, gap=1e-6)
    found = rates(inside, others, thresholds, Scales.of(scores))
    assert share - 0.01 < found.false_outside <= share
    assert found.false_inside is not None
    assert found.false_inside < 0.5


def test_no_recorded_score_lies_near_its_threshold() -> None:
    scores, inside = drawn(3, places=2)
    _, others = drawn(4, shift=1.0, places=2)
    thresholds = choose_outside(inside, others, Scales.of(scores), false_outside=0.05, gap=0.02)
    for found in (inside, others):
        assert np.abs(found.scores - thresholds[found.places].astype(np.float64)).min() >= 0.01


def test_common_scale_tells_apart_what_raw_scores_of_two_places_cannot() -> None:
    scores, inside = drawn(1, places=2, count=2000)
    _, others = drawn(2, shift=2.0, places=2, count=2000)
    scales = Scales.of(scores)
    found = rates(inside, others, choose_outside(inside, others, scales, false_outside=0.05), scales)
    one = Scales(np.zeros(2), np.ones(2))
    raw = rates(inside, others, choose_outside(inside, others, one, false_outside=0.05), one)
    assert found.auroc is not None
    assert raw.auroc is not None
    assert found.auroc > 0.9 > raw.auroc + 0.1


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    inside, others = at_one_place([1.0, 2.0, 3.0, 4.0]), at_one_place([2.5, 3.0, 9.0])
    scales = scales_of(inside)
    found = rates(inside, others, scales.thresholds(0.0), scales)
    pairs = [float(o > i) + 0.5 * (o == i) for o in others.scores for i in inside.scores]
    assert found.auroc == pytest.approx(np.mean(pairs))
    assert (found.inside, found.outside, found.false_outside, found.false_inside) == (4, 3, 0.5, 1 / 3)


def test_what_is_missed_is_unknown_without_samples_of_other_classes() -> None:
    inside = at_one_place([1.0, 2.0, 3.0])
    scales = scales_of(inside)
    for nothing in (None, at_one_place([])):
        found = rates(inside, nothing, scales.thresholds(5.0), scales)
        assert found.to_json() == {
            "inside": 3,
            "outside": 0,
            "false_outside": 0.0,
            "false_inside": None,
            "auroc": None,
        }


def test_scores_that_are_no_numbers_are_not_strange() -> None:
    inside = at_one_place([float("nan"), -np.inf, 0.0, 1.0, 2.0, 3.0])
    scales = scales_of(inside)
    thresholds = choose_outside(inside, at_one_place([np.inf, np.nan, 9.0]), scales, false_outside=0.2)
    assert np.isfinite(thresholds).all()
    assert is_outside(inside, thresholds).tolist() == [False, False, False, False, False, True]
    assert is_outside(at_one_place([np.inf, np.nan]), thresholds).tolist() == [True, False]
    assert np.isfinite(scales.common(inside)).all()


def test_equal_scores_are_all_inside() -> None:
    inside = at_one_place([2.0] * 10)
    thresholds = choose_outside(inside, None, scales_of(inside), false_outside=0.3)
    assert not is_outside(inside, thresholds).any()
    assert is_outside(at_one_place([4.0]), thresholds).all()


@pytest.mark.parametrize(("scores", "share"), [([], 0.1), ([1.0], 1.0), ([1.0], -0.1), ([1.0], float("nan"))])
def test_choice_is_refused_without_samples_or_with_an_impossible_share(scores: list[float], share: float) -> None:
    with pytest.raises(EbbtideError) as caught:
        choose_outside(at_one_place(scores), None, Scales(np.zeros(1), np.ones(1)), false_outside=share)
    assert caught.value.code == "search.outside"
