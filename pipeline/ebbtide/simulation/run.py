"""All runs of all policies at once, a second a step.

A *lane* is one run of one policy. Every lane has a phone of its own; runs of the same number see the same air, use and
sensor noise whatever the policy. Heat, battery and the system advance as arrays over the lanes; policies are objects,
stepped one by one when they look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ebbtide.errors import EbbtideError
from ebbtide.simulation import battery
from ebbtide.simulation.headroom import TemperatureWatcher
from ebbtide.simulation.heat import Floats, Heat
from ebbtide.simulation.phones import Phone, System, load_system
from ebbtide.simulation.policies import PolicyKind, SimulatedPolicy, View
from ebbtide.simulation.scenario import Scenario
from ebbtide.simulation.throttling import NPU_SPEED, STATUS_PERIOD_S, PowerCap, StatusLevels, speed_under
from ebbtide.steps import Progress, silent

TRACE_S: Final = 10
"""One second in so many is kept for plots."""
TOLD_S: Final = 600
"""Progress is told of so many simulated seconds at a time."""


@dataclass(frozen=True, slots=True)
class Work:
    """What inference costs and is worth at each tier, and what else draws power.

    Attributes:
        tier_w: power of inference at full duty, W, the first tier first.
        quality: accuracy of each tier, 0 to 1.
        idle_w: power of the chip without any load, W.
        rest_w: display, radio and the like, W.
        start_charge: battery at the start, 0 to 1.
        npu: whether inference runs on a neural processor, which the system slows by status.
    """

    tier_w: tuple[float, ...]
    quality: tuple[float, ...]
    idle_w: float
    rest_w: float
    start_charge: float
    npu: bool = False


@dataclass(frozen=True)
class Traces:
    """Every tenth second of every lane; arrays of times by lanes."""

    t_s: npt.NDArray[np.int64]
    skin_c: Floats
    body_c: Floats
    die_c: Floats
    tier: npt.NDArray[np.int64]
    level: npt.NDArray[np.int64]
    charge: Floats
    speed: Floats


@dataclass(frozen=True)
class Outcome:
    """What came of each lane; arrays over policies by runs.

    Attributes:
        changes: how often the tier changed.
        light_s, moderate_s: seconds at or above the system's level 1 and 2, reported or not.
        throttled_s: seconds in which the system gave inference less power or clock than it asked for.
        quality: mean accuracy of the predictions asked for: tiers weighted by duty.
        energy_j: everything the battery gave, its own loss included.
        tier_s: seconds at each tier, one more axis at the end.
        traces: over time, lanes in the order of policies, then runs.
    """

    policies: tuple[PolicyKind, ...]
    seconds: int
    changes: npt.NDArray[np.int64]
    light_s: npt.NDArray[np.int64]
    moderate_s: npt.NDArray[np.int64]
    throttled_s: npt.NDArray[np.int64]
    quality: Floats
    energy_j: Floats
    tier_s: npt.NDArray[np.int64]
    traces: Traces


class _Group:
    """The lanes of one policy: its objects, and the service that answers them."""

    def __init__(self, kind: PolicyKind, start: int, runs: int, severe_c: float, base: Literal["oldest", "newest"]):
        self.kind, self.lanes = kind, slice(start, start + runs)
        self.policies: list[SimulatedPolicy] = [kind.make() for _ in range(runs)]
        self.watcher = TemperatureWatcher(runs, severe_c, base=base) if kind.forecast_s is not None else None
        self.all = np.arange(runs)


class Lanes:
    """The phones of all lanes, and one second of their lives.

    Args:
        phone: whose body, battery and system they have.
        lanes: how many.
        air_c: the air of each.
        work: what inference costs.
    """

    def __init__(self, phone: Phone, lanes: int, air_c: Floats, work: Work) -> None:
        self.system: System = load_system(phone.system.value)
        self._model, self._capacity_mah, self._air_c, self._work = phone.heat, phone.battery_mah.value, air_c, work
        self._tier_w = np.array(work.tier_w)
        self.heat: Heat = self._model.at_rest(air_c)
        self.charge = np.full(lanes, work.start_charge)
        self.levels = StatusLevels(lanes, self.system.thresholds, self.system.hysteresis_c.value)
        self._cap = PowerCap(lanes, self.system.cap)
        self.tier = np.zeros(lanes, np.int64)
        self.speed = np.ones(lanes)
        self.power_w = np.zeros(lanes)

    def sense(self, t_s: int, skin_c: Floats) -> bool:
        """Let the system look at the skin, if it is time; says whether it did."""
        if t_s % STATUS_PERIOD_S:
            return False
        self.levels.update(skin_c)
        self._cap.update(skin_c)
        return True

    def step(self, duty: Floats, foreign_w: Floats) -> None:
        """One second.

        Raises:
            EbbtideError: ``simulation.not_finite``.
        """
        wanted = self._work.idle_w + self._tier_w[self.tier] * duty + foreign_w
        self.speed = speed_under(self._cap.watts, wanted)
        soc_w = np.minimum(wanted, self._cap.watts)
        if self._work.npu:
            left = NPU_SPEED[self.levels.level]
            self.speed = self.speed * left
            soc_w = np.minimum(soc_w, wanted - self._tier_w[self.tier] * duty * (1 - left))
        drawn = soc_w + self._work.rest_w
        current = battery.current_a(drawn, self.charge, self.heat.body_c)
        loss = current * current * battery.resistance_ohm(self.heat.body_c)
        self.heat = self._model.step(self.heat, soc_w, self._work.rest_w + loss, self._air_c)
        self.charge = battery.discharge(self.charge, current, self._capacity_mah)
        self.power_w = drawn + loss
        if not np.isfinite(self.heat.skin_c.sum() + self.heat.die_c.sum() + self.charge.sum() + self.power_w.sum()):
            raise EbbtideError(
                "simulation.not_finite",
                "A temperature, charge or power became infinite or undefined.",
                hint="Look for powers or temperatures far from those of a phone in the assumptions.",
            )


def simulate(
    phone: Phone,
    scenario: Scenario,
    work: Work,
    policies: Sequence[PolicyKind],
    *,
    base: Literal["oldest", "newest"] = "oldest",
    progress: Progress = silent,
) -> Outcome:
    """Run every policy through every run of the scenario.

    Args:
        phone: the body, the battery and the system.
        scenario: what happens to each run.
        work: what inference costs and is worth.
        policies: what to compare.
        base: where Android's forecast begins; see `ebbtide.simulation.headroom`.
        progress: told of the simulated seconds.

    Raises:
        EbbtideError: ``simulation.not_finite``.
    """
    runs, count = len(scenario.seeds), len(policies)
    lanes = Lanes(phone, runs * count, np.tile(scenario.air_c, count), work)
    groups = [_Group(kind, i * runs, runs, lanes.system.severe_c, base) for i, kind in enumerate(policies)]
    run_of_lane = np.tile(np.arange(runs), count)
    tally = _Tally(lanes, scenario.seconds, len(work.tier_w), np.array(work.quality))
    with progress.task("simulating seconds", scenario.seconds) as task:
        for t_s in range(scenario.seconds):
            sensed = lanes.heat.skin_c + scenario.noise_c[t_s][run_of_lane]
            before = lanes.levels.level
            told = lanes.sense(t_s, sensed) and lanes.system.reports_status
            changed = lanes.levels.level != before if told else None
            for group in groups:
                _decide(group, lanes, t_s, sensed, changed)
            duty = scenario.duty[t_s][run_of_lane]
            lanes.step(duty, scenario.foreign_w[t_s][run_of_lane])
            tally.take(t_s, lanes, duty)
            if (t_s + 1) % TOLD_S == 0:
                task.advance(TOLD_S)
        task.advance(scenario.seconds % TOLD_S)
    return tally.outcome(tuple(policies), runs)


def _decide(group: _Group, lanes: Lanes, t_s: int, sensed: Floats, changed: npt.NDArray[np.bool_] | None) -> None:
    """Let the policies look whose time it is, or whose phone has just told them of a change."""
    skin = sensed[group.lanes]
    if group.watcher is not None:
        group.watcher.tick(1000 * t_s, skin)
    if t_s % group.kind.period_s == 0:
        looking = group.all
    elif changed is not None and group.kind.listens:
        looking = np.flatnonzero(changed[group.lanes])
        if not len(looking):
            return
    else:
        return
    android, system = lanes.system.platform == "android", lanes.system
    headroom: list[float] | None = None
    if group.watcher is not None and group.kind.forecast_s is not None and android:
        headroom = group.watcher.ask(1000 * t_s, group.kind.forecast_s, skin, looking).tolist()
    start = group.lanes.start
    levels = lanes.levels.level[group.lanes].tolist()
    charge, speed = lanes.charge[group.lanes].tolist(), lanes.speed[group.lanes].tolist()
    for index, run in enumerate(looking.tolist()):
        level = levels[run] if system.reports_status else 0
        view = View(
            1000 * t_s,
            None if headroom is None else headroom[index],
            level if android else None,
            None if android else level,
            charge[run],
            speed[run],
        )
        lanes.tier[start + run] = group.policies[run].look(view)


class _Tally:
    """Sums over time, and the traces."""

    def __init__(self, lanes: Lanes, seconds: int, tiers: int, quality: Floats) -> None:
        count = len(lanes.tier)
        self._seconds, self._accuracy, self._tiers = seconds, quality, tiers
        self._lane = np.arange(count)
        self._tier = lanes.tier.copy()
        self._changes, self._light, self._moderate, self._throttled = (np.zeros(count, np.int64) for _ in range(4))
        self._quality, self._duty, self._energy = (np.zeros(count) for _ in range(3))
        self._tier_s = np.zeros((count, tiers), np.int64)
        kept = -(-seconds // TRACE_S)
        self._rows = {name: np.empty((kept, count)) for name in ("skin", "body", "die", "charge", "speed")}
        self._steps = {name: np.empty((kept, count), np.int64) for name in ("tier", "level")}

    def take(self, t_s: int, lanes: Lanes, duty: Floats) -> None:
        """Count one second; the tier that a policy begins with is no change."""
        if t_s:
            self._changes += lanes.tier != self._tier
        self._tier = lanes.tier.copy()
        level = lanes.levels.level
        self._light += level >= 1
        self._moderate += level >= 2
        self._throttled += lanes.speed < 1
        self._quality += self._accuracy[lanes.tier] * duty
        self._duty += duty
        self._energy += lanes.power_w
        self._tier_s[self._lane, lanes.tier] += 1
        row, rest = divmod(t_s, TRACE_S)
        if rest == 0:
            for name, value in (
                ("skin", lanes.heat.skin_c),
                ("body", lanes.heat.body_c),
                ("die", lanes.heat.die_c),
                ("charge", lanes.charge),
                ("speed", lanes.speed),
            ):
                self._rows[name][row] = value
            self._steps["tier"][row], self._steps["level"][row] = lanes.tier, level

    def outcome(self, policies: tuple[PolicyKind, ...], runs: int) -> Outcome:
        """Everything, by policies and runs."""
        shape = (len(policies), runs)
        rows, steps = self._rows, self._steps
        return Outcome(
            policies=policies,
            seconds=self._seconds,
            changes=self._changes.reshape(shape),
            light_s=self._light.reshape(shape),
            moderate_s=self._moderate.reshape(shape),
            throttled_s=self._throttled.reshape(shape),
            quality=(self._quality / self._duty).reshape(shape),
            energy_j=self._energy.reshape(shape),
            tier_s=self._tier_s.reshape(*shape, self._tiers),
            traces=Traces(
                t_s=np.arange(len(rows["skin"])) * TRACE_S,
                skin_c=rows["skin"],
                body_c=rows["body"],
                die_c=rows["die"],
                tier=steps["tier"],
                level=steps["level"],
                charge=rows["charge"],
                speed=rows["speed"],
            ),
        )
