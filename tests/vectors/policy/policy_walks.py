"""Eight random walks of 1,000 steps: phones that warm and cool, drain and charge, sleep, and fall silent.

What they decide is what the Python policy decides. The numbers come from the generator that README.md describes, never
from a library's, so that the files are the same for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ebbtide.bundle import DEFAULT_POLICY
from ebbtide.bundle.manifest import PolicyEntry
from ebbtide.errors import EbbtideError
from ebbtide.runtime.policy import Policy
from ebbtide.runtime.policy_signals import RANGES, REQUIRED, signals_of_json

STEPS = 1000
OTHER_NUMBERS = {
    "enter_mh": [700, 800, 1000],
    "hysteresis_mh": 30,
    "status_floor": [0, 0, 1, 2, 3, 3, 3],
    "apple_floor": [0, 0, 1, 2],
    "battery_enter_percent": [30, 15, 15],
    "battery_hysteresis": 3,
    "battery_temperature_enter_dc": [380, 400, 420],
    "battery_temperature_hysteresis_dc": 10,
    "saver_floor": 2,
    "up_hold_ms": 30_000,
    "stale_ms": 10_000,
    "gap_ms": 20_000,
}


class Numbers:
    """A linear congruential generator of 64 bits with Knuth's constants (MMIX); its upper 32 bits are used."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, bound: int) -> int:
        """0 to bound - 1."""
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 32) * bound >> 32

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent


@dataclass
class Walk:
    """What a phone is like. The fields after `percent_of` are where it is at the moment."""

    name: str
    why: str
    says: tuple[str, ...]
    tiers: int = 4
    policy: dict[str, Any] = field(default_factory=dict)
    limits: tuple[int, int] = (0, 3)
    percent_of: dict[str, int] = field(default_factory=dict)  # gap, absent, limits, error

    t_ms: int = 0
    heat: int = 600
    heating: bool = True
    battery: int = 60
    charging: bool = False
    saver: bool = False
    measured: tuple[int, int] | None = None
    light: int = 800

    def step(self, numbers: Numbers) -> dict[str, Any]:
        self._move(numbers)
        signals = {"t_ms": self.t_ms}
        for name in self.says:
            if not numbers.chance(self.percent_of.get("absent", 5)):
                signals.update(self._signal(name, numbers))
        return signals

    def _move(self, numbers: Numbers) -> None:
        gap = numbers.chance(self.percent_of.get("gap", 1))
        self.t_ms += (
            numbers.between(50_000, 70_000) if gap else (5000, 5000, 5000, numbers.between(0, 9999))[numbers.below(4)]
        )
        if numbers.chance(2) or not 450 < self.heat < 1150:
            self.heating = self.heat < 450 or (self.heat < 1150 and numbers.chance(50))
        self.heat += numbers.between(-20, 60) if self.heating else numbers.between(-60, 20)
        if numbers.chance(2):
            self.charging = not self.charging
        if numbers.chance(20):
            self.battery = min(max(self.battery + numbers.between(0, 2) * (1 if self.charging else -1), 0), 100)
        if numbers.chance(2):
            self.saver = not self.saver
        if numbers.chance(1):
            self.light = numbers.between(650, 900)

    def _signal(self, name: str, numbers: Numbers) -> dict[str, Any]:
        if name == "headroom":
            if not numbers.chance(15):
                self.measured = (self.heat, self.t_ms)
            if self.measured is None:
                return {}
            value, at = self.measured
            age = self.t_ms - at
            return {"headroom_mh": value, **({"headroom_age_ms": age} if age else {})}
        if name == "thresholds":
            return {"light_mh": self.light, "moderate_mh": self.light + 133}
        if name == "status":
            steps = (800, 933, 1000, 1050, 1233, 1333)
            return {"android_status": sum(self.heat + numbers.between(-30, 30) >= step for step in steps)}
        if name == "severe_only":
            return {"android_status": 3 if self.heat >= 1000 else 0}
        if name == "apple":
            return {"apple_state": sum(self.heat + numbers.between(-15, 15) >= step for step in (750, 900, 1050))}
        if name == "battery":
            return {"battery_percent": self.battery, **({"charging": True} if self.charging else {})}
        if name == "coarse_battery":
            return {"battery_percent": self.battery // 5 * 5, **({"charging": True} if self.charging else {})}
        if name == "saver":
            return {"saver": True} if self.saver else {}
        return {"battery_temperature_dc": self.heat * 3 // 10 + 140}


class Noise(Walk):
    """Not a phone: any value in its range, or none."""

    def step(self, numbers: Numbers) -> dict[str, Any]:
        self._move(numbers)
        signals: dict[str, Any] = {"t_ms": self.t_ms}
        for name, (low, high) in list(RANGES.items())[1:]:
            if numbers.chance(85):
                continue
            if name in ("charging", "saver"):
                signals[name] = numbers.chance(50)
            elif name == "headroom_age_ms":
                signals[name] = numbers.between(0, 20_000)
            elif name.endswith("_mh"):
                signals[name] = numbers.between(500, 1100)
            else:
                signals[name] = numbers.between(low, high)
        return signals


def _phones() -> Iterator[Walk]:
    android = ("headroom", "thresholds", "status", "battery", "saver", "battery_temperature")
    yield Walk("android_15", "everything that Android 15 says, thresholds that move", android)
    yield Walk(
        "android_11",
        "headroom that fails often, no thresholds",
        ("headroom", "status", "battery"),
        percent_of={"absent": 30},
    )
    yield Walk(
        "status_only", "NONE and SEVERE, and a battery", ("severe_only", "battery", "battery_temperature", "saver")
    )
    yield Walk("apple", "four states, a battery in steps of five", ("apple", "coarse_battery", "saver"))
    yield Walk(
        "two_tiers_and_limits", "an application that moves its limits", android, tiers=2, percent_of={"limits": 4}
    )
    yield Walk(
        "other_numbers", "other parameters, three tiers, many gaps", android, 3, OTHER_NUMBERS, percent_of={"gap": 8}
    )
    yield Noise("noise", "any value in its range or none, limits that move", (), percent_of={"limits": 3})
    yield Noise("noise_with_errors", "the same with readings that are refused", (), 4, {}, (1, 2), {"error": 10})


def _spoilt(signals: dict[str, Any], numbers: Numbers) -> dict[str, Any]:
    """The reading with one value out of range, of the wrong type, or from the past."""
    names = [name for name in RANGES if name not in REQUIRED]
    name = names[numbers.below(len(names))]
    low, high = RANGES[name]
    kind = numbers.below(4)
    if kind == 3:
        return {**signals, "t_ms": max(signals["t_ms"] - 100_000, 0)}
    return {**signals, name: (low - 1, high + 1, "1")[kind]}


def walks() -> Iterator[dict[str, Any]]:
    """The traces, each from a seed that is its number."""
    for seed, walk in enumerate(_phones(), start=1):
        numbers = Numbers(seed)
        entry = PolicyEntry.model_validate({**DEFAULT_POLICY.model_dump(), **walk.policy})
        policy = Policy(entry, walk.tiers, minimum_tier=walk.limits[0], maximum_tier=walk.limits[1])
        steps = []
        for _ in range(STEPS):
            step: dict[str, Any] = {}
            if numbers.chance(walk.percent_of.get("limits", 0)):
                first, second = numbers.below(4), numbers.below(4)
                step["limits"] = [min(first, second), max(first, second)]
                policy.limit(*step["limits"])
            step["in"] = walk.step(numbers)
            if numbers.chance(walk.percent_of.get("error", 0)):
                step["in"] = _spoilt(step["in"], numbers)
            try:
                decision = policy.step(signals_of_json(step["in"]))
                step |= {"tier": decision.tier, "reason": decision.reason}
            except EbbtideError as error:
                step["error"] = error.code
            steps.append(step)
        yield {
            "name": walk.name,
            "why": f"{walk.why}; seed {seed}",
            "tiers": walk.tiers,
            "policy": walk.policy,
            "minimum_tier": walk.limits[0],
            "maximum_tier": walk.limits[1],
            "steps": steps,
        }
