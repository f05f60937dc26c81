"""Traces made by hand: both sides of every boundary of every signal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policy_text import trace


def headroom() -> Iterator[dict[str, Any]]:
    yield trace(
        "headroom_first_entry",
        "in at 750, out below 685; 749 does not enter, 685 does not leave",
        """
        0 headroom_mh=749 -> 0 keep:none
        5000 headroom_mh=750 -> 1 down:headroom
        10000 headroom_mh=685 -> 1 keep:headroom
        15000 headroom_mh=684 -> 1 hold
        20000 headroom_mh=685 -> 1 hold
        25000 headroom_mh=749 -> 1 hold
        30000 headroom_mh=750 -> 1 keep:headroom
        """,
    )
    yield trace(
        "headroom_second_entry",
        "in at 850, out below 785; outside the second level the first still holds",
        """
        0 headroom_mh=849 -> 1 down:headroom
        5000 headroom_mh=850 -> 2 down:headroom
        10000 headroom_mh=785 -> 2 keep:headroom
        15000 headroom_mh=784 -> 2 hold
        20000 headroom_mh=785 -> 2 hold
        25000 headroom_mh=849 -> 2 hold
        30000 headroom_mh=850 -> 2 keep:headroom
        """,
    )
    yield trace(
        "headroom_third_entry",
        "in at 950, out below 885",
        """
        0 headroom_mh=949 -> 2 down:headroom
        5000 headroom_mh=950 -> 3 down:headroom
        10000 headroom_mh=885 -> 3 keep:headroom
        15000 headroom_mh=884 -> 3 hold
        20000 headroom_mh=885 -> 3 hold
        25000 headroom_mh=949 -> 3 hold
        30000 headroom_mh=950 -> 3 keep:headroom
        """,
    )
    yield trace(
        "headroom_ends_of_its_range",
        "a cold phone can truly read 0; 10,000 is the most",
        """
        0 headroom_mh=0 -> 0 keep:none
        5000 headroom_mh=10000 -> 3 down:headroom
        10000 headroom_mh=0 -> 3 hold
        """,
    )
    yield trace(
        "latch_is_lost_when_stale",
        "a latch whose signal takes no part begins again: 700 held tier 1 before the stale reading, not after it",
        """
        0 headroom_mh=750 -> 1 down:headroom
        5000 headroom_mh=700 -> 1 keep:headroom
        10000 headroom_mh=700 headroom_age_ms=15001 -> 1 hold
        15000 headroom_mh=700 -> 1 hold
        20000 headroom_mh=750 headroom_age_ms=15000 -> 1 keep:headroom
        25000 headroom_mh=685 headroom_age_ms=15000 -> 1 keep:headroom
        """,
    )
    yield trace(
        "thresholds_never_raise",
        "a phone that puts LIGHT at 900 and MODERATE at 1000 changes nothing: 870 and 900 are above the entries",
        """
        0 headroom_mh=749 light_mh=900 moderate_mh=1000 -> 0 keep:none
        5000 headroom_mh=750 light_mh=900 moderate_mh=1000 -> 1 down:headroom
        10000 headroom_mh=850 light_mh=900 moderate_mh=1000 -> 2 down:headroom
        15000 headroom_mh=949 light_mh=900 moderate_mh=1000 -> 2 keep:headroom
        20000 headroom_mh=950 light_mh=900 moderate_mh=1000 -> 3 down:headroom
        """,
    )
    yield trace(
        "thresholds_at_the_entries",
        "LIGHT at 780 is where LIGHT - 30 meets the first entry; 779 lowers it by one",
        """
        0 headroom_mh=749 light_mh=780 -> 0 keep:none
        5000 headroom_mh=749 light_mh=779 -> 1 down:headroom
        10000 headroom_mh=778 light_mh=779 -> 1 keep:headroom
        15000 headroom_mh=779 light_mh=779 -> 2 down:headroom
        """,
    )
    yield trace(
        "thresholds_lowered_mid_run",
        "the map changes while the phone runs: the same headroom demands more, and later less",
        """
        0 headroom_mh=740 light_mh=800 moderate_mh=933 -> 0 keep:none
        5000 headroom_mh=740 light_mh=760 moderate_mh=933 -> 1 down:headroom
        10000 headroom_mh=740 light_mh=740 moderate_mh=933 -> 2 down:headroom
        15000 headroom_mh=740 light_mh=740 moderate_mh=740 -> 3 down:headroom
        20000 headroom_mh=740 light_mh=740 moderate_mh=805 -> 3 keep:headroom
        25000 headroom_mh=740 light_mh=740 moderate_mh=806 -> 3 hold
        30000 headroom_mh=740 light_mh=805 moderate_mh=806 -> 3 hold
        35000 headroom_mh=740 -> 3 hold
        40000 headroom_mh=684 -> 3 hold
        85000 headroom_mh=684 -> 2 up
        """,
    )
    yield trace(
        "thresholds_one_alone",
        "either threshold may be there without the other",
        """
        0 headroom_mh=700 moderate_mh=700 -> 3 down:headroom
        5000 headroom_mh=634 moderate_mh=700 -> 3 hold
        10000 headroom_mh=700 light_mh=700 -> 3 hold
        15000 headroom_mh=700 moderate_mh=701 -> 3 hold
        """,
    )
    yield trace(
        "thresholds_crossed",
        "MODERATE below LIGHT: the highest level that is entered counts, whatever lies below it",
        """
        0 headroom_mh=699 light_mh=800 moderate_mh=700 -> 0 keep:none
        5000 headroom_mh=700 light_mh=800 moderate_mh=700 -> 3 down:headroom
        10000 headroom_mh=635 light_mh=800 moderate_mh=700 -> 3 keep:headroom
        15000 headroom_mh=634 light_mh=800 moderate_mh=700 -> 3 hold
        """,
    )
    yield trace(
        "thresholds_at_nothing",
        "LIGHT at 0 puts the first entry below 0, which is always entered",
        """
        0 headroom_mh=0 light_mh=30 -> 1 down:headroom
        5000 headroom_mh=0 light_mh=0 -> 2 down:headroom
        10000 headroom_mh=0 light_mh=0 moderate_mh=0 -> 3 down:headroom
        """,
    )
    yield trace(
        "thresholds_without_headroom",
        "thresholds alone demand nothing",
        "0 light_mh=0 moderate_mh=0 -> 0 keep:none",
    )
    yield trace(
        "no_hysteresis",
        "with a hysteresis of 0 a level is left where it is entered",
        """
        0 headroom_mh=750 battery_percent=50 -> 1 down:headroom
        5000 headroom_mh=749 battery_percent=50 -> 1 hold
        10000 headroom_mh=749 battery_percent=20 -> 1 keep:battery
        15000 headroom_mh=749 battery_percent=21 -> 1 hold
        20000 battery_temperature_dc=410 -> 2 down:battery_temperature
        25000 battery_temperature_dc=409 -> 2 hold
        """,
        policy={"hysteresis_mh": 0, "battery_hysteresis": 0, "battery_temperature_hysteresis_dc": 0},
    )
    yield trace(
        "equal_entries",
        "entries may be equal: the highest of them counts",
        """
        0 headroom_mh=799 -> 0 keep:none
        5000 headroom_mh=800 -> 3 down:headroom
        10000 headroom_mh=735 -> 3 keep:headroom
        15000 headroom_mh=734 -> 3 hold
        """,
        policy={"enter_mh": [800, 800, 800]},
    )


def batteries() -> Iterator[dict[str, Any]]:
    for level, enter in ((1, 20), (2, 10), (3, 5)):
        yield trace(
            f"battery_entry_{level}",
            f"in at {enter} percent, out at {enter + 5}",
            f"""
            0 battery_percent={enter + 1} -> {level - 1} {"keep:none" if level == 1 else "down:battery"}
            5000 battery_percent={enter} -> {level} down:battery
            10000 battery_percent={enter + 4} -> {level} keep:battery
            15000 battery_percent={enter + 5} -> {level} hold
            20000 battery_percent={enter + 4} -> {level} hold
            25000 battery_percent={enter + 1} -> {level} hold
            30000 battery_percent={enter} -> {level} keep:battery
            """,
        )
    yield trace(
        "battery_ends_of_its_range",
        "0 and 100 percent",
        "0 battery_percent=100 -> 0 keep:none\n5000 battery_percent=0 -> 3 down:battery",
    )
    yield trace(
        "battery_latch_is_lost_on_power",
        "24 percent held tier 1 before the charger came, not after it went",
        """
        0 battery_percent=20 -> 1 down:battery
        5000 battery_percent=24 -> 1 keep:battery
        10000 battery_percent=24 charging=true -> 1 hold
        15000 battery_percent=24 -> 1 hold
        20000 battery_percent=20 charging=true -> 1 hold
        25000 battery_percent=20 -> 1 keep:battery
        30000 -> 1 hold
        35000 battery_percent=24 -> 1 hold
        """,
    )
    for level, enter in ((1, 390), (2, 410), (3, 430)):
        before = "keep:none" if level == 1 else "down:battery_temperature"
        yield trace(
            f"battery_temperature_entry_{level}",
            f"in at {enter} dc, out below {enter - 20}",
            f"""
            0 battery_temperature_dc={enter - 1} -> {level - 1} {before}
            5000 battery_temperature_dc={enter} -> {level} down:battery_temperature
            10000 battery_temperature_dc={enter - 20} -> {level} keep:battery_temperature
            15000 battery_temperature_dc={enter - 21} -> {level} hold
            20000 battery_temperature_dc={enter - 20} -> {level} hold
            25000 battery_temperature_dc={enter - 1} -> {level} hold
            30000 battery_temperature_dc={enter} -> {level} keep:battery_temperature
            """,
        )
    yield trace(
        "battery_temperature_is_the_last_resort",
        "it counts only without fresh headroom, without an Apple state, and with a status of 0 or none",
        """
        0 battery_temperature_dc=430 headroom_mh=0 -> 0 keep:none
        5000 battery_temperature_dc=430 headroom_mh=0 headroom_age_ms=15000 -> 0 keep:none
        10000 battery_temperature_dc=430 apple_state=0 -> 0 keep:none
        15000 battery_temperature_dc=430 android_status=0 apple_state=0 -> 0 keep:none
        20000 battery_temperature_dc=390 android_status=0 -> 1 down:battery_temperature
        25000 battery_temperature_dc=410 headroom_mh=0 headroom_age_ms=15001 -> 2 down:battery_temperature
        30000 battery_temperature_dc=430 android_status=1 -> 2 hold
        35000 battery_temperature_dc=430 -> 3 down:battery_temperature
        40000 battery_temperature_dc=410 android_status=1 -> 3 hold
        45000 battery_temperature_dc=410 -> 3 hold
        50000 battery_temperature_dc=430 charging=true -> 3 keep:battery_temperature
        55000 battery_temperature_dc=-400 -> 3 hold
        60000 battery_temperature_dc=1500 -> 3 keep:battery_temperature
        """,
    )


def floors() -> Iterator[dict[str, Any]]:
    for status, tier in enumerate((0, 1, 2, 3, 3, 3, 3)):
        yield trace(
            f"status_{status}",
            f"Android status {status} demands tier {tier}",
            f"0 android_status={status} -> {tier} {'down:status' if tier else 'keep:none'}",
        )
    for state in range(4):
        yield trace(
            f"apple_state_{state}",
            f"Apple state {state} demands tier {state}",
            f"0 apple_state={state} -> {state} {'down:apple_state' if state else 'keep:none'}",
        )
    yield trace(
        "status_climbs",
        "a status has no hysteresis of its own; the hold does it",
        """
        0 android_status=1 -> 1 down:status
        5000 android_status=0 -> 1 hold
        10000 android_status=1 -> 1 keep:status
        15000 android_status=2 -> 2 down:status
        20000 android_status=1 -> 2 hold
        25000 android_status=4 -> 3 down:status
        30000 android_status=6 -> 3 keep:status
        """,
    )
    yield trace(
        "floors_of_the_manifest",
        "the parameters say what a status, a state and the saver demand",
        """
        0 android_status=3 -> 0 keep:none
        5000 android_status=4 -> 1 down:status
        10000 apple_state=2 -> 2 down:apple_state
        15000 saver=true -> 3 down:saver
        """,
        policy={"status_floor": [0, 0, 0, 0, 1, 2, 3], "apple_floor": [0, 0, 2, 3], "saver_floor": 3},
    )
    yield trace(
        "saver_that_demands_nothing",
        "with a floor of 0 the saver is no reason",
        "0 saver=true -> 0 keep:none",
        policy={"saver_floor": 0},
    )
    yield trace(
        "floor_at_rest",
        "a floor above 0 where nothing is wrong names its signal",
        "0 android_status=0 -> 1 down:status\n5000 android_status=0 -> 1 keep:status",
        policy={"status_floor": [1, 1, 2, 3, 3, 3, 3]},
    )
