from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from personal_samples import KilledError, Telling, digits, personal, settings
from scipy.optimize import minimize_scalar
from scipy.stats import multinomial

from ebbtide.errors import EbbtideError
from ebbtide.sparsity.budget import Attempt, budget_grid, cheapest_within
from ebbtide.sparsity.paired import paired_drop, upper_bound
from ebbtide.sparsity.patterns.channels import Channels
from ebbtide.sparsity.personalising import personalise
from ebbtide.sparsity.schedule import Schedule


def likeliest(lost, won, count, difference):
    """The share of samples that speak against a difference, found by maximising the likelihood."""

    def unlikely(against):
        shares = against + difference, against, 1 - 2 * against - difference
        return -sum(
            seen * math.log(max(share, 1e-300))
            for seen, share in zip((lost, won, count - lost - won), shares, strict=True)
        )

    found = minimize_scalar(unlikely, bounds=(0.0, (1 - difference) / 2), method="bounded", options={"xatol": 1e-12})
    return float(found.x)


@pytest.mark.parametrize(("lost", "won", "count"), [(12, 2, 50), (5, 9, 200), (30, 25, 500), (1, 0, 40), (3, 3, 60)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_bound_is_where_a_score_test_begins_to_reject(lost, won, count, confidence):
    bound = upper_bound(lost, won, count, confidence=confidence)
    against = likeliest(lost, won, count, bound)
    variance = count * (2 * against + bound - bound**2)
    statistic = (count * bound - (lost - won)) / math.sqrt(variance)
    assert statistic == pytest.approx(NormalDist().inv_cdf(confidence), abs=2e-3)


@pytest.mark.parametrize("count", [20, 100, 500])
def test_bound_where_nothing_differs_is_z_squared_over_n_and_z_squared(count):
    square = NormalDist().inv_cdf(0.95) ** 2
    assert upper_bound(0, 0, count, confidence=0.95) == pytest.approx(square / (count + square), rel=1e-6)


@pytest.mark.parametrize("shares", [(0.05, 0.02), (0.1, 0.1), (0.02, 0.06)])
def test_bound_holds_its_confidence(shares):
    """Over all outcomes, each with its probability: how often the true drop lies above the bound."""
    count, (lose, win) = 60, shares
    missed = 0.0
    for lost in range(31):
        for won in range(31):
            outcome = multinomial.pmf([lost, won, count - lost - won], count, [lose, win, 1 - lose - win])
            if outcome > 1e-9 and upper_bound(lost, won, count, confidence=0.95) < lose - win:
                missed += outcome
    assert missed < 0.065


def test_drop_counts_what_is_lost_and_won():
    reference = np.array([1, 1, 1, 0, 0, 1, 1, 1, 1, 1], bool)
    candidate = np.array([1, 0, 0, 1, 0, 1, 1, 1, 1, 1], bool)
    drop = paired_drop(reference, candidate)
    assert (drop.samples, drop.lost, drop.won, drop.points) == (10, 2, 1, 10.0)
    assert drop.points < drop.bound_points < 100
    assert paired_drop(candidate, reference).points == -10.0
    assert paired_drop(reference, candidate, confidence=0.5).bound_points == pytest.approx(10.0, abs=1e-6)
    assert paired_drop(np.ones(5, bool), np.zeros(5, bool)).bound_points == pytest.approx(100.0)
    assert drop.to_json()["lost"] == 2


def test_bound_falls_with_the_number_of_samples_and_with_less_confidence():
    bounds = [upper_bound(2 * factor, factor, 100 * factor, confidence=0.95) for factor in (1, 2, 5, 20)]
    assert bounds == sorted(bounds, reverse=True)
    assert upper_bound(4, 2, 200, confidence=0.8) < bounds[1]


@pytest.mark.parametrize(
    ("reference", "candidate", "confidence"),
    [(np.ones(3, bool), np.ones(4, bool), 0.95), (np.ones(0, bool), np.ones(0, bool), 0.95),
     (np.ones(3, bool), np.ones(3, bool), 1.0), (np.ones(3, bool), np.ones(3, bool), 0.4)],
)  # fmt: skip
def test_drop_refuses_what_cannot_be_compared(reference, candidate, confidence):
    with pytest.raises(EbbtideError) as caught:
        paired_drop(reference, candidate, confidence=confidence)
    assert caught.value.code == "sparsity.budget"


BUDGETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def losing(lost_by_budget, count=1000, stopped=()):
    """A run whose model of a budget loses so many samples; and what it was called with."""
    calls = []

    def run(budget, larger):
        calls.append((budget, larger))
        right = np.ones(count, bool)
        right[: lost_by_budget(budget)] = False
        return Attempt(budget, right, budget, "it diverged" if budget in stopped else None)

    return run, calls


@pytest.mark.parametrize("smallest", [*range(7), None])
def test_search_finds_the_smallest_budget_within_the_limit_by_halving(smallest):
    run, calls = losing(lambda budget: 0 if smallest is not None and budget >= BUDGETS[smallest] else 300)
    found = cheapest_within(run, np.ones(1000, bool), max_drop_points=1.0, budgets=BUDGETS)
    assert (found.found.budget if found.found else None) == (BUDGETS[smallest] if smallest is not None else None)
    assert len(calls) == len(found.trials) == 3
    for budget, larger in calls:
        assert larger == tuple(one for one in BUDGETS if one > budget)
    assert bool(found.reason) == (smallest is None)


def test_decision_is_by_the_bound_and_not_by_the_mean():
    """Nine of a thousand lost is a mean of 0.9 points, but surely less than 1 it is not."""
    run, _ = losing(lambda budget: 9)
    found = cheapest_within(run, np.ones(1000, bool), max_drop_points=1.0, budgets=[0.5])
    (trial,) = found.trials
    assert trial.drop.points == pytest.approx(0.9)
    assert trial.drop.bound_points > 1.0
    assert found.found is None
    assert "0.90 points, at most" in found.reason
    assert cheapest_within(run, np.ones(1000, bool), max_drop_points=1.6, budgets=[0.5]).found is not None


def test_reason_says_when_there_are_too_few_samples_for_the_limit():
    run, _ = losing(lambda budget: 0, count=100)
    found = cheapest_within(run, np.ones(100, bool), max_drop_points=1.0, budgets=[0.3, 0.5])
    assert found.found is None
    assert "with 100 samples even a model that decides the same could lose 2.63" in found.reason


def test_budget_that_was_not_reached_is_not_within_the_limit():
    run, _ = losing(lambda budget: 0, stopped=(0.05, 0.1))
    telling = Telling()
    found = cheapest_within(run, np.ones(1000, bool), max_drop_points=1.0, budgets=BUDGETS, progress=telling)
    assert found.found.budget == 0.2
    assert any("it diverged" in text for text in telling.said)
    assert [facts["eta_s"] >= 0 for facts in telling.facts] == [True] * 3
    assert found.to_json()["trials"][1]["stopped"] == "it diverged"


@pytest.mark.parametrize(
    ("budgets", "limit"), [([], 1.0), ([0.5, 0.2], 1.0), ([0.2, 0.2], 1.0), ([0.0], 1.0), ([1.2], 1.0), ([0.5], -1.0)]
)
def test_search_refuses_budgets_out_of_range(budgets, limit):
    run, calls = losing(lambda budget: 0)
    with pytest.raises(EbbtideError) as caught:
        cheapest_within(run, np.ones(10, bool), max_drop_points=limit, budgets=budgets)
    assert caught.value.code == "sparsity.budget"
    assert not calls


def test_grid_goes_in_equal_ratios_from_the_floor():
    grid = budget_grid(0.01, most=0.64, count=4)
    assert grid == pytest.approx((0.01, 0.04, 0.16, 0.64))
    assert budget_grid(0.9) == (0.9,)
    assert budget_grid(1.0) == (1.0,)


def test_search_on_digits_continues_where_it_was_killed(tmp_path):
    graph, select = personal(), digits("select")

    def search(folder, progress):
        def run(budget, larger):
            made = None
            for share in (*reversed(larger), budget):
                made = personalise(
                    graph, digits("train"), select, pattern=Channels(), kept=share, settings=settings(epochs=2),
                    schedule=Schedule(steps=1, batches=3, batch_size=32), start=made,
                    checkpoint=folder / f"{share:g}", progress=progress,
                )  # fmt: skip
            return Attempt(made, made.right(select), made.kept, made.stopped)

        reference = np.asarray(select.labels) == select.labels
        return cheapest_within(run, reference, max_drop_points=15.0, budgets=[0.02, 0.5], progress=progress)

    whole = search(tmp_path / "whole", Telling())
    assert whole.found is not None
    assert [trial.within for trial in whole.trials] == [True, False]
    with pytest.raises(KilledError):
        search(tmp_path / "killed", Telling(20))
    again = search(tmp_path / "killed", Telling(6))
    assert again.to_json() == whole.to_json()
    assert again.found.attempt.made.graph.digest() == whole.found.attempt.made.graph.digest()
