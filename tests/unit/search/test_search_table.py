"""Tables over trade-offs, and promises that hold on other samples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from search_samples import CLASSES, costs_of, problem_of, random_records

from ebbtide.errors import EbbtideError
from ebbtide.exits import Records
from ebbtide.search import (
    TRADE_OFFS,
    Candidate,
    Limits,
    SearchSettings,
    admissible_thresholds,
    descend,
    every_threshold,
    score,
    search_thresholds,
    within,
)


def search(records: Records, settings: SearchSettings | None = None) -> list[Candidate]:
    choices = [every_threshold(row) for row in records.confidences[:-1]]
    return search_thresholds(
        records, costs_of(records), choices=choices, metric="accuracy", classes=CLASSES, settings=settings
    )


@pytest.mark.parametrize("method", ["sweeps", "single-pass", "iterative"])
def test_every_candidate_has_its_exact_score_and_one_type_a_position(method: str) -> None:
    records = random_records(250, (0, 1, 3), seed=0, types=("small", "large"))
    found = search(records, SearchSettings(method=method, trade_offs=(0.0, 0.5, 0.8, 0.9, 0.97, 1.0)))
    assert len(found) > 3
    assert sum(not one.thresholds for one in found) == 1
    for one in found:
        row = one.row(records.keys)
        assert score(records, costs_of(records), row, metric="accuracy", classes=CLASSES) == one.score
        assert one.width == "w100"
        assert len({key.position for key in one.keys}) == len(one.keys)
    assert {key.type for one in found for key in one.keys} == {"small", "large"}
    assert [c.score.mean_cost for c in found] == sorted(c.score.mean_cost for c in found)


def test_sweeps_find_the_best_pair_when_two_exits_can_be_enumerated() -> None:
    records = random_records(60, (0, 1), seed=3, decimals=1)
    problem = problem_of(records)
    pairs = itertools.product([*problem.choices[0], np.inf], [*problem.choices[1], np.inf])
    measured = [problem.measure(np.array(pair, dtype=np.float32)) for pair in pairs]
    gaps = []
    for trade_off in TRADE_OFFS[::6]:
        best = min(problem.value(*pair, trade_off) for pair in measured)
        gaps.append(problem.objective(descend(problem, trade_off), trade_off) - best)
    # Coordinate sweeps may stop in a local optimum, but not far from the best pair.
    assert min(gaps) >= -1e-12
    assert sum(gap <= 1e-12 for gap in gaps) >= 0.8 * len(gaps)
    assert max(gaps) < 0.05


def test_sweeps_are_nowhere_worse_than_one_pass_and_somewhere_better() -> None:
    records = random_records(300, (0, 1, 3), seed=4, types=("small", "large"))
    problem = problem_of(records)
    trade_offs = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
    best = {}
    for method in ("sweeps", "single-pass"):
        rows = [c.row(records.keys) for c in search(records, SearchSettings(method=method, trade_offs=trade_offs))]
        best[method] = [min(problem.objective(row, trade_off) for row in rows) for trade_off in trade_offs]
    assert all(a <= b + 1e-12 for a, b in zip(best["sweeps"], best["single-pass"], strict=True))
    assert sum(best["sweeps"]) < sum(best["single-pass"]) - 1e-6


def test_promises_hold_on_other_samples_when_optimism_is_taken_off() -> None:
    plain, honest = [], []
    for seed in range(3):
        both = random_records(5000, (0, 1, 2, 3), seed=seed, types=("small", "large"))
        select, other = both.samples(np.arange(300)), both.samples(np.arange(300, 5000))
        costs = costs_of(both)
        dense = [(r.predictions[-1] == r.labels).mean() for r in (select, other)]
        for folds, biases in ((0, plain), (4, honest)):
            for one in search(select, SearchSettings(trade_offs=(0.7, 0.85, 0.95, 0.98), folds=folds)):
                if one.thresholds:
                    row = one.row(both.keys)
                    measured = score(other, costs, row, metric="accuracy", classes=CLASSES).value
                    biases.append((one.score.value - dense[0]) - (measured - dense[1]))
                    exact = score(select, costs, row, metric="accuracy", classes=CLASSES).value
                    assert one.score.value + one.optimism == pytest.approx(exact)
    assert np.mean(plain) > 0.03
    assert abs(np.mean(honest)) < 0.35 * np.mean(plain)


def test_optimism_of_the_model_without_exits_is_none_and_never_rises_with_lambda() -> None:
    records = random_records(300, (0, 1, 3), seed=5)
    found = search(records, SearchSettings(trade_offs=(0.6, 0.8, 0.9, 0.96), folds=3))
    assert next(one for one in found if not one.thresholds).optimism == 0.0
    taken = [one.optimism for one in sorted(found, key=lambda c: c.score.mean_cost) if one.thresholds]
    assert taken == sorted(taken, reverse=True)


def test_promises_are_less_optimistic_when_less_is_fitted() -> None:
    both = random_records(4300, (0, 1, 2, 3), seed=6, types=("small", "large"))
    select, other = both.samples(np.arange(300)), both.samples(np.arange(300, 4300))
    trade_offs = (0.7, 0.8, 0.9, 0.95)
    bias = {}
    for name, settings in {
        "plain": SearchSettings(trade_offs=trade_offs),
        "few": SearchSettings(trade_offs=trade_offs, thresholds=8),
        "cautious": SearchSettings(trade_offs=trade_offs, quantile=0.1),
    }.items():
        found = [one for one in search(select, settings) if one.thresholds]
        measured = [
            score(other, costs_of(both), one.row(both.keys), metric="accuracy", classes=CLASSES).value for one in found
        ]
        bias[name] = np.mean([one.score.value for one in found]) - np.mean(measured)
    assert bias["few"] < bias["plain"]
    assert bias["cautious"] < bias["plain"]


def test_test_split_is_never_searched_on() -> None:
    with pytest.raises(EbbtideError) as caught:
        search(random_records(200, (0, 1), seed=7, split="test"))
    assert caught.value.code == "search.split"


def test_row_is_chosen_by_its_promise_even_where_other_samples_say_otherwise() -> None:
    both = random_records(4300, (0, 1, 2, 3), seed=7, types=("small", "large"))
    select, other = both.samples(np.arange(300)), both.samples(np.arange(300, 4300), split="test")
    found = search(select)
    dense = next(one.score.value for one in found if not one.thresholds)
    chosen = within(found, Limits(max_drop_points=1.0), reference=dense).rows[-1]
    assert chosen.score == score(select, costs_of(both), chosen.row(both.keys), metric="accuracy", classes=CLASSES)
    assert 100 * (dense - chosen.score.value) <= 1.0
    measured = score(other, costs_of(both), chosen.row(both.keys), metric="accuracy", classes=CLASSES).value
    assert 100 * ((other.predictions[-1] == other.labels).mean() - measured) > 1.0


def test_exits_may_be_missing_altogether() -> None:
    records = random_records(50, (), seed=8)
    found = search(records, SearchSettings(trade_offs=(0.5,), folds=2))
    assert [(one.thresholds, one.score.mean_cost) for one in found] == [((), costs_of(records).total)]


def test_macro_f1_is_scored_as_itself() -> None:
    records = random_records(200, (0, 1), seed=9)
    choices = [admissible_thresholds(row, classes=CLASSES) for row in records.confidences[:-1]]
    found = search_thresholds(records, costs_of(records), choices=choices, metric="macro_f1", classes=CLASSES)
    for one in found:
        row = one.row(records.keys)
        assert one.score == score(records, costs_of(records), row, metric="macro_f1", classes=CLASSES)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"trade_offs": (0.5, 1.05)}, "search.trade_off"),
        ({"trade_offs": (-0.1,)}, "search.trade_off"),
        ({"method": "brent"}, "search.settings"),
        ({"thresholds": 1}, "search.settings"),
        ({"head_share": 1.5}, "search.settings"),
        ({"quantile": 0.0}, "search.settings"),
        ({"quantile": 0.7}, "search.settings"),
        ({"least_leaving": 0}, "search.settings"),
        ({"folds": 1}, "search.settings"),
    ],
)
def test_settings_are_refused_when_out_of_range(wrong: dict[str, object], code: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        SearchSettings(**wrong)
    assert caught.value.code == code


def test_the_fixed_part_of_an_exit_is_searched_with_but_not_counted() -> None:
    records = random_records(400, (0, 1, 2, 3), seed=5)
    costs = costs_of(records)
    choices = [every_threshold(row) for row in records.confidences[:-1]]
    overhead = 0.2 * costs.total

    def mean_exits(candidates: list[Candidate]) -> float:
        return float(np.mean([len(one.thresholds) for one in candidates]))

    plain, lean = search(records), search(records, SearchSettings(overhead=overhead))
    assert mean_exits(lean) < mean_exits(plain)
    asked = search_thresholds(
        records, costs.with_boundaries(overhead), choices=choices, metric="accuracy", classes=CLASSES
    )
    assert {one.thresholds for one in lean} == {one.thresholds for one in asked}
    for one in lean:
        assert score(records, costs, one.row(records.keys), metric="accuracy", classes=CLASSES) == one.score
    with pytest.raises(EbbtideError) as raised:
        SearchSettings(overhead=-1.0)
    assert raised.value.code == "search.settings"
