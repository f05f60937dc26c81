"""The rule of the product's policy for thousands of phones at once, to search its parameters.

A restatement in arrays of what `ebbtide.runtime.policy` does with headroom and status, with changes of the rule that a
search may turn on. What is reported of the product's rule is taken with its own `Policy` again, and a test holds the
two against each other. `python pipeline/benchmarks/policy_study.py` uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from ebbtide.simulation import Phone, Scenario, TemperatureWatcher, Work
from ebbtide.simulation.run import Lanes


@dataclass(frozen=True, order=True)
class Rule:
    """Parameters, and which change of the rule is on.

    Attributes:
        enter_mh: entries of headroom, ascending.
        leave_mh: how far below its entry each level is left; the product has one number for all three.
        up_hold_ms: how long a lower demand must last before each step up.
        moderate_floor: demand at a status of MODERATE; LIGHT demands half of it, rounded down; higher ones 3.
        forecast_s: what headroom is asked for.
        guard: tiers more while the chip is seen to be held back, 0 for the product's rule.
        one_down: down by at most one tier a look below SEVERE.
    """

    enter_mh: tuple[int, int, int]
    leave_mh: tuple[int, int, int]
    up_hold_ms: int
    moderate_floor: int
    forecast_s: int
    guard: int = 0
    one_down: bool = False

    @property
    def status_floor(self) -> tuple[int, ...]:
        """Demand at each status."""
        return (0, LIGHT_FLOOR[self.moderate_floor], self.moderate_floor, 3, 3, 3, 3)


LIGHT_FLOOR = (0, 0, 1, 0)
"""Demand at LIGHT beside each demand at MODERATE: only the shipped pair (1, 2) acts at LIGHT."""


@dataclass(frozen=True)
class Found:
    """What came of a rule, over the runs: means of them, changes an hour also at most."""

    changes_per_h: float
    most_changes_per_h: float
    throttled: float
    quality: float


class _Grid:
    """The state of all rules in all runs."""

    def __init__(self, rules: Sequence[Rule], runs: int) -> None:
        def lanes(values: list[object]) -> np.ndarray:
            return np.repeat(np.array(values), runs, axis=0)

        self.enter = lanes([rule.enter_mh for rule in rules])
        self.leave = self.enter - lanes([rule.leave_mh for rule in rules])
        self.hold = lanes([rule.up_hold_ms for rule in rules])
        self.floor = lanes([rule.status_floor for rule in rules])
        self.guard = lanes([rule.guard for rule in rules])
        self.one_down = lanes([rule.one_down for rule in rules])
        count = len(self.hold)
        self.tier, self.latch = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.since = np.full(count, -1, np.int64)
        self.level = np.arange(3)

    def look(self, t_ms: int, at: np.ndarray, headroom: np.ndarray, status: np.ndarray, speed: np.ndarray) -> None:
        """One step of the lanes `at`."""
        heat = np.floor(headroom * 1000 + 0.5)[:, None]
        latch = self.latch[at]
        inside = (heat >= self.enter[at]) | ((latch[:, None] > self.level) & (heat >= self.leave[at]))
        latch = np.where(inside, self.level + 1, 0).max(axis=1)
        self.latch[at] = latch
        demand = np.maximum(latch, self.floor[at, status])
        tier = self.tier[at]
        late = (self.guard[at] > 0) & (speed < 0.97)
        demand = np.where(late, np.maximum(demand, np.minimum(tier + self.guard[at], 3)), demand)
        down = np.where(self.one_down[at] & (status < 3), np.minimum(demand, tier + 1), demand)
        below = demand < tier
        since = np.where(below, np.where(self.since[at] < 0, t_ms, self.since[at]), -1)
        up = below & (t_ms - since >= self.hold[at])
        self.tier[at] = np.where(below, tier - up, down)
        self.since[at] = np.where(up, t_ms, since)


def try_rules(phone: Phone, scenario: Scenario, work: Work, rules: Sequence[Rule]) -> dict[Rule, Found]:
    """What comes of each rule in the scenario; rules that ask for the same forecast run together."""
    found: dict[Rule, Found] = {}
    for forecast_s in sorted({rule.forecast_s for rule in rules}):
        same = [rule for rule in dict.fromkeys(rules) if rule.forecast_s == forecast_s]
        found.update(_together(phone, scenario, work, same, forecast_s))
    return found


def _together(
    phone: Phone, scenario: Scenario, work: Work, rules: Sequence[Rule], forecast_s: int
) -> dict[Rule, Found]:
    runs = len(scenario.seeds)
    run_of_lane = np.tile(np.arange(runs), len(rules))
    lanes = Lanes(phone, len(run_of_lane), scenario.air_c[run_of_lane], work)
    watcher = TemperatureWatcher(len(run_of_lane), lanes.system.severe_c)
    grid = _Grid(rules, runs)
    every = np.arange(len(run_of_lane))
    accuracy = np.array(work.quality)
    changes, throttled, quality, asked = (np.zeros(len(run_of_lane)) for _ in range(4))
    for t_s in range(scenario.seconds):
        skin = lanes.heat.skin_c + scenario.noise_c[t_s][run_of_lane]
        before = lanes.levels.level
        told = lanes.sense(t_s, skin)
        watcher.tick(1000 * t_s, skin)
        looking = every if t_s % 5 == 0 else np.flatnonzero(lanes.levels.level != before) if told else every[:0]
        if len(looking):
            headroom = watcher.ask(1000 * t_s, forecast_s, skin, looking)
            tiers = lanes.tier.copy()
            grid.look(1000 * t_s, looking, headroom, lanes.levels.level[looking], lanes.speed[looking])
            lanes.tier[:] = grid.tier
            changes += (lanes.tier != tiers) if t_s else 0
        duty = scenario.duty[t_s][run_of_lane]
        lanes.step(duty, scenario.foreign_w[t_s][run_of_lane])
        throttled += lanes.speed < 1
        quality += accuracy[lanes.tier] * duty
        asked += duty
    hours, shape = scenario.seconds / 3600, (len(rules), runs)
    by_rule = zip(
        rules,
        (changes / hours).reshape(shape),
        (throttled / scenario.seconds).reshape(shape),
        (quality / asked).reshape(shape),
        strict=True,
    )
    return {rule: Found(float(c.mean()), float(c.max()), float(t.mean()), float(q.mean())) for rule, c, t, q in by_rule}


def as_list(rule: Rule) -> list[object]:
    """A rule as JSON values."""
    return [list(one) if isinstance(one, tuple) else one for one in astuple(rule)]


def from_list(values: Sequence[object]) -> Rule:
    """What `as_list` made."""
    return Rule(*(tuple(one) if isinstance(one, list) else one for one in values))  # type: ignore[arg-type]
