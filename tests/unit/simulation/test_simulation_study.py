"""The arrays that search rules decide as the product's policy does, and nothing beats the bound."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from simulation_cases import WORK, drawn

from ebbtide.bundle import DEFAULT_POLICY
from ebbtide.simulation import load_phone, policy_kinds, simulate
from ebbtide.simulation.product import product

BENCHMARKS = Path(__file__).parents[3] / "pipeline" / "benchmarks"


def module(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("enter", "leave", "hold", "floor", "forecast"),
    [((750, 850, 950), 65, 60_000, 2, 30), ((780, 800, 840), 30, 0, 3, 0), ((900, 940, 940), 110, 30_000, 1, 60)],
)
def test_arrays_decide_as_the_policy(
    enter: tuple[int, int, int], leave: int, hold: int, floor: int, forecast: int
) -> None:
    grid = module("policy_grid")
    rule = grid.Rule(enter, (leave,) * 3, hold, floor, forecast)
    other = grid.Rule((700, 720, 740), (10,) * 3, 0, 3, forecast)
    runs, phone = drawn(4, hours=1.0, air_c=(26.0, 34.0)), load_phone("pixel-8")
    found = grid.try_rules(phone, runs, WORK, [other, rule])[rule]
    changes = {
        "enter_mh": enter,
        "hysteresis_mh": leave,
        "up_hold_ms": hold,
        "status_floor": rule.status_floor,
    }
    kind = replace(product(DEFAULT_POLICY.model_copy(update=changes), 4), forecast_s=forecast)
    outcome = simulate(phone, runs, WORK, [kind])
    assert found.changes_per_h == outcome.changes.mean()
    assert found.changes_per_h > 1
    assert found.throttled == pytest.approx(outcome.throttled_s.mean() / 3600, abs=1e-12)
    assert found.quality == pytest.approx(outcome.quality.mean(), abs=1e-12)


def test_rules_travel_as_json() -> None:
    grid = module("policy_grid")
    rule = grid.Rule((750, 850, 950), (65, 60, 55), 60_000, 2, 30, 1, True)
    assert grid.from_list(grid.as_list(rule)) == rule


def test_no_policy_beats_the_bound() -> None:
    found = module("policy_bound")
    runs, phone = drawn(1, hours=0.5, air_c=(33.0, 33.0)), load_phone("pixel-8")
    prices = [found.Prices(a, b) for a in (0.05, 0.3, 1.0) for b in (0.0, 0.001)]
    optima = found.optimum(phone, runs, WORK, 0, prices)
    outcome = simulate(phone, runs, WORK, policy_kinds(4, DEFAULT_POLICY))
    best = []
    for index in range(len(outcome.policies)):
        throttled, changes = outcome.throttled_s[index, 0] / 1800, outcome.changes[index, 0] / 0.5
        limit = found.bound(optima, prices, throttled=throttled, changes_per_h=changes)
        best.append(limit - outcome.quality[index, 0])
    assert min(best) > -0.002
    # It is a bound that says something: some policy comes near.
    assert min(best) < 0.05
    # Dearer throttling or dearer changes leave less.
    assert optima[0] >= optima[2] >= optima[4]
    assert optima[0] >= optima[1]
