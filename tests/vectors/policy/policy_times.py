"""Traces made by hand: holds, gaps, ages, and signals that speak at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policy_text import trace


def times() -> Iterator[dict[str, Any]]:
    yield trace(
        "hold_59999_60000",
        "up 60,000 ms after the first step below, not 1 ms earlier; the next hold begins with the step up",
        """
        0 saver=true apple_state=3 -> 3 down:apple_state
        1000 -> 3 hold
        60999 -> 3 hold
        61000 -> 2 up
        120999 -> 2 hold
        121000 -> 1 up
        180999 -> 1 hold
        181000 -> 0 up
        181001 -> 0 keep:none
        """,
    )
    yield trace(
        "gap_60000",
        "60,000 ms between two steps are no gap",
        "0 apple_state=1 -> 1 down:apple_state\n1000 -> 1 hold\n61000 -> 0 up",
    )
    yield trace(
        "gap_60001",
        "60,001 ms are: the hold begins again",
        """
        0 apple_state=1 -> 1 down:apple_state
        1000 -> 1 hold
        61001 -> 1 hold
        121000 -> 1 hold
        121001 -> 0 up
        """,
    )
    yield trace(
        "gap_goes_down_at_once",
        "waking up in the heat does not wait",
        "0 headroom_mh=600 -> 0 keep:none\n3600000 headroom_mh=950 -> 3 down:headroom",
    )
    yield trace(
        "gap_keeps_latches",
        "a latch survives a gap: 700 has been below 750 but never below 685",
        "0 headroom_mh=750 -> 1 down:headroom\n3600000 headroom_mh=700 -> 1 keep:headroom",
    )
    yield trace(
        "hold_is_broken",
        "one step at the demand of the tier begins the hold again, and so does a step down",
        """
        0 apple_state=1 -> 1 down:apple_state
        10000 apple_state=0 -> 1 hold
        40000 apple_state=1 -> 1 keep:apple_state
        50000 apple_state=0 -> 1 hold
        100000 apple_state=2 -> 2 down:apple_state
        110000 apple_state=0 -> 2 hold
        169999 apple_state=0 -> 2 hold
        170000 apple_state=0 -> 1 up
        """,
    )
    yield trace(
        "hold_goes_on_after_up",
        "the hold after a step up counts from that step, even where the demand was met for a moment",
        """
        0 apple_state=2 -> 2 down:apple_state
        1000 apple_state=1 -> 2 hold
        61000 apple_state=1 -> 1 up
        62000 apple_state=0 -> 1 hold
        120999 apple_state=0 -> 1 hold
        121000 apple_state=0 -> 0 up
        """,
    )
    yield trace(
        "same_time_twice",
        "an event in the millisecond of a poll is no error",
        "5 apple_state=0 -> 0 keep:none\n5 apple_state=2 -> 2 down:apple_state\n5 apple_state=0 -> 2 hold",
    )
    yield trace(
        "no_hold",
        "with a hold of 0 a tier rises at every step, by one",
        """
        0 apple_state=3 -> 3 down:apple_state
        0 -> 2 up
        0 -> 1 up
        1 -> 0 up
        """,
        policy={"up_hold_ms": 0},
    )
    yield trace(
        "no_gap",
        "with a gap of 0 every step at a new time is one: no hold ever ends",
        """
        0 apple_state=1 -> 1 down:apple_state
        1 -> 1 hold
        60001 -> 1 hold
        120001 -> 1 hold
        """,
        policy={"gap_ms": 0},
    )
    yield trace(
        "nothing_is_fresh",
        "with a stale time of 0 only what was measured this millisecond counts",
        "0 headroom_mh=950 headroom_age_ms=1 -> 0 keep:none\n1 headroom_mh=950 -> 3 down:headroom",
        policy={"stale_ms": 0},
    )
    yield trace(
        "end_of_time",
        "the largest time and age are 2^53 - 1",
        """
        9007199254680990 apple_state=1 -> 1 down:apple_state
        9007199254680991 -> 1 hold
        9007199254740990 headroom_mh=950 headroom_age_ms=9007199254740991 -> 1 hold
        9007199254740991 -> 0 up
        """,
    )
    yield trace("nothing_known", "a phone that says nothing stays at tier 0", "0..100000/5000 -> 0 keep:none")


def together() -> Iterator[dict[str, Any]]:
    order = (
        ("headroom", "headroom_mh=750"),
        ("status", "android_status=1"),
        ("apple_state", "apple_state=1"),
        ("battery", "battery_percent=20"),
        ("saver", "saver=true"),
    )
    lines = [
        f"{at * 5000} {' '.join(signal for _, signal in order[at:])} -> 1 {'keep' if at else 'down'}:{name}"
        for at, (name, _) in enumerate(order)
    ]
    yield trace("equal_demands", "of equal demands the first in the order is the reason", "\n".join(lines))
    yield trace(
        "largest_demand",
        "the largest demand is the reason wherever it stands in the order",
        """
        0 headroom_mh=750 android_status=2 apple_state=1 battery_percent=20 saver=true -> 2 down:status
        5000 headroom_mh=750 android_status=2 apple_state=3 battery_percent=20 saver=true -> 3 down:apple_state
        10000 headroom_mh=750 android_status=2 apple_state=1 battery_percent=5 saver=true -> 3 keep:battery
        15000 headroom_mh=950 android_status=2 apple_state=1 battery_percent=5 saver=true -> 3 keep:headroom
        20000 headroom_mh=950 android_status=6 apple_state=3 battery_percent=0 saver=true -> 3 keep:headroom
        """,
    )
    yield trace(
        "saver_before_battery_temperature",
        "the battery's temperature is the last of the phone's signals",
        """
        0 battery_temperature_dc=390 saver=true -> 1 down:saver
        5000 battery_temperature_dc=390 battery_percent=20 -> 1 keep:battery
        10000 battery_temperature_dc=390 -> 1 keep:battery_temperature
        15000 battery_temperature_dc=410 saver=true -> 2 down:battery_temperature
        """,
    )
    yield trace(
        "signals_take_turns",
        "while one signal or another demands the tier there is no hold",
        """
        0 apple_state=1 -> 1 down:apple_state
        30000 saver=true -> 1 keep:saver
        60000 headroom_mh=750 -> 1 keep:headroom
        90000 battery_percent=20 -> 1 keep:battery
        91000 -> 1 hold
        151000 -> 0 up
        """,
    )
