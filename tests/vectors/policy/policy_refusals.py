"""Traces made by hand: limits of the application, bundles of fewer tiers, and readings that are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policy_text import trace


def limits() -> Iterator[dict[str, Any]]:
    """The application's limits, and bundles of fewer tiers."""
    for tiers in (1, 2, 3, 4):
        last = tiers - 1
        yield trace(
            f"tiers_{tiers}",
            f"a bundle of {tiers}: a demand beyond the last tier means the last, and keeps its name",
            f"""
            0 headroom_mh=749 -> 0 keep:none
            5000 headroom_mh=950 -> {last} {"down" if last else "keep"}:headroom
            10000 apple_state=3 -> {last} keep:apple_state
            15000 android_status=6 -> {last} keep:status
            """,
            tiers=tiers,
        )
    yield trace(
        "minimum_from_the_start",
        "the policy begins with the minimum tier; a demand equal to it is the reason before the application",
        """
        0 -> 1 keep:application
        5000 apple_state=1 -> 1 keep:apple_state
        10000 apple_state=2 -> 2 down:apple_state
        15000 -> 2 hold
        75000 -> 1 up
        135000 -> 1 keep:application
        """,
        limits=(1, 3),
    )
    yield trace(
        "maximum_from_the_start",
        "however hot, no cheaper than the maximum; the reason stays the signal's",
        """
        0 headroom_mh=950 -> 1 down:headroom
        5000 headroom_mh=1100 -> 1 keep:headroom
        10000 headroom_mh=684 -> 1 hold
        70000 headroom_mh=684 -> 0 up
        75000 apple_state=3 -> 1 down:apple_state
        """,
        limits=(0, 1),
    )
    yield trace(
        "minimum_is_raised",
        "down to the minimum at once; released, the tier rises through holds",
        """
        0 -> 0 keep:none
        1000 [2 3] -> 2 down:application
        2000 -> 2 keep:application
        3000 [0 3] -> 2 hold
        63000 -> 1 up
        64000 [1 3] -> 1 keep:application
        65000 [0 3] apple_state=3 -> 3 down:apple_state
        """,
    )
    yield trace(
        "maximum_is_lowered",
        "up to the maximum at once, by two tiers here, in the heat and without a hold; the next hold begins there",
        """
        0 headroom_mh=950 -> 3 down:headroom
        5000 [0 1] headroom_mh=950 -> 1 up:application
        10000 headroom_mh=950 -> 1 keep:headroom
        15000 headroom_mh=600 -> 1 hold
        20000 [0 3] headroom_mh=950 -> 3 down:headroom
        25000 headroom_mh=600 -> 3 hold
        30000 [0 2] headroom_mh=600 -> 2 up:application
        89999 headroom_mh=600 -> 2 hold
        90000 headroom_mh=600 -> 1 up
        """,
    )
    yield trace(
        "maximum_is_lowered_during_a_hold",
        "a hold that is nearly over begins again with the step that the application made",
        """
        0 apple_state=3 -> 3 down:apple_state
        1000 -> 3 hold
        60000 [0 2] -> 2 up:application
        61000 -> 2 hold
        119999 -> 2 hold
        120000 -> 1 up
        """,
    )
    yield trace(
        "limits_meet",
        "minimum and maximum the same: the application decides",
        """
        0 -> 2 keep:application
        5000 apple_state=3 -> 2 keep:apple_state
        10000 [0 0] apple_state=3 -> 0 up:application
        15000 apple_state=3 -> 0 keep:apple_state
        20000 [3 3] -> 3 down:application
        25000 [1 1] -> 1 up:application
        30000 [1 1] -> 1 keep:application
        """,
        limits=(2, 2),
    )
    yield trace(
        "limits_beyond_the_bundle",
        "limits beyond the last tier mean the last tier",
        """
        0 -> 1 keep:application
        5000 [0 3] apple_state=3 -> 1 keep:apple_state
        10000 [2 2] -> 1 keep:application
        15000 [0 1] -> 1 hold
        75000 [1 2] -> 1 keep:application
        """,
        tiers=2,
        limits=(3, 3),
    )
    yield trace("limits_of_one_tier", "one tier is all there is", "0 -> 0 keep:none", tiers=1, limits=(1, 3))


def refusals() -> Iterator[dict[str, Any]]:
    """Readings that are refused; the next good step shows that nothing has changed."""
    ranges = {
        "headroom_mh": (0, 10_000),
        "headroom_age_ms": (0, 2**53 - 1),
        "light_mh": (0, 10_000),
        "moderate_mh": (0, 10_000),
        "android_status": (0, 6),
        "apple_state": (0, 3),
        "battery_percent": (0, 100),
        "battery_temperature_dc": (-400, 1500),
    }
    for name, (low, high) in ranges.items():
        wrong = (low - 1, high + 1, "true", f'"{high}"', "0.5", "[1]", "{}")
        lines = [f"{100000 + at} {name}={value} -> policy.signal" for at, value in enumerate(wrong)]
        yield trace(
            f"wrong_{name}",
            f"{name} is a whole number from {low} to {high}; a refused reading sets no time, no latch, no tier",
            "\n".join(("0 headroom_mh=750 -> 1 down:headroom", *lines, "5000 headroom_mh=685 -> 1 keep:headroom")),
        )
    for name in ("charging", "saver"):
        lines = [f"{100000 + at} {name}={value} -> policy.signal" for at, value in enumerate(("1", "0", '"true"'))]
        yield trace(
            f"wrong_{name}",
            f"{name} is true or false, nothing else",
            "\n".join(("0 saver=true -> 1 down:saver", *lines, "5000 saver=true -> 1 keep:saver")),
        )
    yield trace(
        "wrong_time",
        "the time is a whole number from 0 to 2^53 - 1 and must be there",
        """
        0 apple_state=1 -> 1 down:apple_state
        none apple_state=3 -> policy.signal
        -1 apple_state=3 -> policy.signal
        9007199254740992 apple_state=3 -> policy.signal
        0.5 apple_state=3 -> policy.signal
        true apple_state=3 -> policy.signal
        "5" apple_state=3 -> policy.signal
        null apple_state=3 -> policy.signal
        1 apple_state=1 -> 1 keep:apple_state
        """,
    )
    yield trace(
        "time_backwards",
        "a reading before the last one is refused and changes nothing; the hold goes on",
        """
        1000 apple_state=1 -> 1 down:apple_state
        999 apple_state=3 -> policy.time
        0 -> policy.time
        2000 -> 1 hold
        1999 apple_state=3 -> policy.time
        62000 -> 0 up
        61999 -> policy.time
        """,
    )
    yield trace(
        "two_faults",
        "a wrong signal is told before a wrong time",
        """
        1000 -> 0 keep:none
        999 apple_state=4 -> policy.signal
        999 -> policy.time
        """,
    )
    yield trace(
        "unknown_signal",
        "a mistyped signal is not taken for an absent one",
        "0 headrom_mh=950 -> policy.signal\n0 headroom_mh=950 -> 3 down:headroom",
    )
    yield trace(
        "null_is_absent",
        "null is as good as no key, in every signal but the time",
        "0 headroom_mh=null headroom_age_ms=null light_mh=null moderate_mh=null android_status=null apple_state=null "
        "battery_percent=null charging=null saver=null battery_temperature_dc=null -> 0 keep:none",
    )
    yield trace(
        "wrong_limits",
        "limits are two whole numbers from 0 to 3 in order; refused ones change nothing, and the step is not made",
        """
        0 apple_state=2 -> 2 down:apple_state
        1000 [2 1] apple_state=3 -> policy.limits
        1000 [-1 2] apple_state=3 -> policy.limits
        1000 [0 4] apple_state=3 -> policy.limits
        1000 [true 3] apple_state=3 -> policy.limits
        1000 [0.5 3] apple_state=3 -> policy.limits
        500 apple_state=2 -> 2 keep:apple_state
        """,
    )
    yield trace(
        "limits_outlive_a_refused_reading",
        "limits are set before the reading is looked at, so they hold although it is refused",
        """
        0 -> 0 keep:none
        1000 [1 3] apple_state=4 -> policy.signal
        2000 -> 1 down:application
        """,
    )
