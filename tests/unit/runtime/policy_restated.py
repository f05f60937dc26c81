"""The tier policy written a second time, from its text and in another way: over the whole history, without state.

Slow and plain. It is what the random vectors and the property tests hold the policy to, besides themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ebbtide.bundle.manifest import PolicyEntry
from ebbtide.runtime.policy import Signals

Level = Callable[[Signals, int, bool], bool]


def decide(
    entry: PolicyEntry, tiers: int, history: Sequence[Signals], limits: Sequence[tuple[int, int]]
) -> list[tuple[int, str]]:
    """Tier and reason of every reading; `limits` holds the application's minimum and maximum at each."""
    heat = latches(history, lambda x: fresh(entry, x), headroom_level(entry))
    battery = latches(history, lambda x: x.battery_percent is not None and not x.charging, battery_level(entry))
    warmth = latches(history, lambda x: blind(entry, x), temperature_level(entry))
    tier, rises_from = min(limits[0][0], tiers - 1), None
    made: list[tuple[int, str]] = []
    for at, now in enumerate(history):
        low, high = (min(limit, tiers - 1) for limit in limits[at])
        wishes = [
            ("headroom", heat[at]),
            ("status", 0 if now.android_status is None else entry.status_floor[now.android_status]),
            ("apple_state", 0 if now.apple_state is None else entry.apple_floor[now.apple_state]),
            ("battery", battery[at]),
            ("saver", entry.saver_floor if now.saver else 0),
            ("battery_temperature", warmth[at]),
            ("application", low),
        ]
        most = max(wish for _, wish in wishes)
        name = next(name for name, wish in wishes if wish == most) if most else "none"
        wanted = min(most, high, tiers - 1)
        slept = at > 0 and now.t_ms - history[at - 1].t_ms > entry.gap_ms
        if tier > high:
            tier, rises_from, reason = high, now.t_ms, "up:application"
        elif wanted >= tier:
            reason = f"{'keep' if wanted == tier else 'down'}:{name}"
            tier, rises_from = wanted, None
        else:
            rises_from = now.t_ms if slept or rises_from is None else rises_from
            reason = "up" if now.t_ms - rises_from >= entry.up_hold_ms else "hold"
            if reason == "up":
                tier, rises_from = tier - 1, now.t_ms
        made.append((tier, reason))
    return made


def latches(history: Sequence[Signals], counts: Callable[[Signals], bool], level: Level) -> list[int]:
    """A signal's demand at every reading: level by level, each in from its entry until it is left."""
    demands: list[int] = []
    for now in history:
        before = demands[-1] if demands else 0
        inside = [index for index in (1, 2, 3) if counts(now) and level(now, index, before >= index)]
        demands.append(inside[-1] if inside else 0)
    return demands


def fresh(entry: PolicyEntry, now: Signals) -> bool:
    return now.headroom_mh is not None and now.headroom_age_ms <= entry.stale_ms


def blind(entry: PolicyEntry, now: Signals) -> bool:
    better = fresh(entry, now) or now.apple_state is not None or now.android_status not in (None, 0)
    return now.battery_temperature_dc is not None and not better


def headroom_level(entry: PolicyEntry) -> Level:
    def level(now: Signals, index: int, inside: bool) -> bool:
        own = now.moderate_mh if index == 3 else now.light_mh
        own_enter = entry.enter_mh[index - 1] if own is None else own - (30 if index == 1 else 0)
        enter = min(entry.enter_mh[index - 1], own_enter)
        assert now.headroom_mh is not None
        return now.headroom_mh >= enter - (entry.hysteresis_mh if inside else 0)

    return level


def battery_level(entry: PolicyEntry) -> Level:
    def level(now: Signals, index: int, inside: bool) -> bool:
        enter = entry.battery_enter_percent[index - 1]
        assert now.battery_percent is not None
        return now.battery_percent <= enter or (inside and now.battery_percent < enter + entry.battery_hysteresis)

    return level


def temperature_level(entry: PolicyEntry) -> Level:
    def level(now: Signals, index: int, inside: bool) -> bool:
        lowered = entry.battery_temperature_hysteresis_dc if inside else 0
        assert now.battery_temperature_dc is not None
        return now.battery_temperature_dc >= entry.battery_temperature_enter_dc[index - 1] - lowered

    return level
