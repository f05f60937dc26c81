"""Traces made by hand: how phones behave. What is expected is written by hand, too, not taken from a policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policy_text import trace


def ordinary() -> Iterator[dict[str, Any]]:
    """How phones behave."""
    yield trace(
        "ramp_up_and_cool",
        "headroom rises through all entries and falls; hysteresis 65, hold 60 s, one tier up at a time",
        """
        0 headroom_mh=600 android_status=0 -> 0 keep:none
        5000 headroom_mh=700 android_status=0 -> 0 keep:none
        10000 headroom_mh=749 android_status=0 -> 0 keep:none
        15000 headroom_mh=750 android_status=0 -> 1 down:headroom
        20000 headroom_mh=800 android_status=0 -> 1 keep:headroom
        25000 headroom_mh=849 android_status=0 -> 1 keep:headroom
        30000 headroom_mh=850 android_status=0 -> 2 down:headroom
        35000 headroom_mh=900 android_status=0 -> 2 keep:headroom
        40000 headroom_mh=950 android_status=0 -> 3 down:headroom
        45000 headroom_mh=960 android_status=0 -> 3 keep:headroom
        50000 headroom_mh=900 android_status=0 -> 3 keep:headroom
        55000 headroom_mh=884 android_status=0 -> 3 hold
        60000 headroom_mh=880 android_status=0 -> 3 hold
        65000..110000/5000 headroom_mh=600 android_status=0 -> 3 hold
        115000 headroom_mh=600 android_status=0 -> 2 up
        120000..170000/5000 headroom_mh=600 android_status=0 -> 2 hold
        175000 headroom_mh=600 android_status=0 -> 1 up
        180000..230000/5000 headroom_mh=600 android_status=0 -> 1 hold
        235000 headroom_mh=600 android_status=0 -> 0 up
        240000..260000/5000 headroom_mh=600 android_status=0 -> 0 keep:none
        """,
    )
    chatter = "\n".join(
        f"{t} headroom_mh={870 if t % 10000 else 830} android_status=0 -> 2 keep:headroom"
        for t in range(10000, 145001, 5000)
    )
    yield trace(
        "chatter_is_latched",
        "headroom flips around 850 by 20 either way: one change, no more",
        "0 headroom_mh=830 android_status=0 -> 1 down:headroom\n"
        "5000 headroom_mh=870 android_status=0 -> 2 down:headroom\n" + chatter,
    )
    yield trace(
        "nan_is_not_cool",
        "no headroom after a hot reading: a status of NONE is no proof of cool; hold, then up",
        """
        0 headroom_mh=960 android_status=0 -> 3 down:headroom
        5000..60000/5000 android_status=0 -> 3 hold
        65000 android_status=0 -> 2 up
        70000..120000/5000 android_status=0 -> 2 hold
        125000 android_status=0 -> 1 up
        130000..180000/5000 android_status=0 -> 1 hold
        185000 android_status=0 -> 0 up
        190000..220000/5000 android_status=0 -> 0 keep:none
        """,
    )
    yield trace(
        "stale_headroom",
        "a reading older than 15 s counts no longer",
        """
        0 headroom_mh=900 headroom_age_ms=15000 android_status=0 -> 2 down:headroom
        5000 headroom_mh=960 headroom_age_ms=15001 android_status=0 -> 2 hold
        """,
    )
    yield trace(
        "status_stuck_none",
        "a vendor reports NONE for ever while headroom is high",
        """
        0 headroom_mh=700 android_status=0 -> 0 keep:none
        5000 headroom_mh=860 android_status=0 -> 2 down:headroom
        10000 headroom_mh=1010 android_status=0 -> 3 down:headroom
        """,
    )
    yield trace(
        "qcom_none_to_severe",
        "Qualcomm's reference layer knows NONE and SEVERE only",
        """
        0 android_status=0 -> 0 keep:none
        5000 android_status=3 -> 3 down:status
        10000 android_status=0 -> 3 hold
        70000 android_status=0 -> 2 up
        130000 android_status=0 -> 1 up
        190000 android_status=0 -> 0 up
        """,
    )
    yield trace(
        "api35_thresholds_lower",
        "the phone says LIGHT = 700 and MODERATE = 900",
        """
        0 headroom_mh=669 light_mh=700 moderate_mh=900 -> 0 keep:none
        5000 headroom_mh=670 light_mh=700 moderate_mh=900 -> 1 down:headroom
        10000 headroom_mh=700 light_mh=700 moderate_mh=900 -> 2 down:headroom
        15000 headroom_mh=900 light_mh=700 moderate_mh=900 -> 3 down:headroom
        """,
    )
    yield trace(
        "ios_states",
        "nominal, fair, serious, critical and back",
        """
        0 apple_state=0 battery_percent=80 -> 0 keep:none
        5000 apple_state=1 battery_percent=80 -> 1 down:apple_state
        10000 apple_state=2 battery_percent=80 -> 2 down:apple_state
        15000 apple_state=3 battery_percent=80 -> 3 down:apple_state
        20000 apple_state=0 battery_percent=80 -> 3 hold
        30000..70000/10000 apple_state=0 battery_percent=80 -> 3 hold
        80000 apple_state=0 battery_percent=80 -> 2 up
        90000..130000/10000 apple_state=0 battery_percent=80 -> 2 hold
        140000 apple_state=0 battery_percent=80 -> 1 up
        150000..190000/10000 apple_state=0 battery_percent=80 -> 1 hold
        200000 apple_state=0 battery_percent=80 -> 0 up
        210000 apple_state=0 battery_percent=80 -> 0 keep:none
        """,
    )
    yield trace(
        "battery_ladder",
        "20, 10, 5 percent with 5 points of hysteresis; plugging in releases after the hold",
        """
        0 battery_percent=25 -> 0 keep:none
        60000 battery_percent=21 -> 0 keep:none
        120000 battery_percent=20 -> 1 down:battery
        180000 battery_percent=22 -> 1 keep:battery
        240000 battery_percent=24 -> 1 keep:battery
        300000 battery_percent=25 -> 1 hold
        360000 battery_percent=10 -> 2 down:battery
        420000 battery_percent=14 -> 2 keep:battery
        480000 battery_percent=15 -> 2 hold
        540000 battery_percent=5 -> 3 down:battery
        600000 battery_percent=9 -> 3 keep:battery
        660000 battery_percent=10 -> 3 hold
        720000 battery_percent=10 charging=true -> 2 up
        750000 battery_percent=10 charging=true -> 2 hold
        780000 battery_percent=10 charging=true -> 1 up
        810000 battery_percent=10 charging=true -> 1 hold
        840000 battery_percent=10 charging=true -> 0 up
        870000..930000/30000 battery_percent=10 charging=true -> 0 keep:none
        """,
    )
    yield trace(
        "saver_and_suspend",
        "the power saver demands tier 1; ten minutes asleep begin the hold again",
        """
        0 saver=true -> 1 down:saver
        5000 saver=false -> 1 hold
        50000 saver=false -> 1 hold
        650000 saver=false -> 1 hold
        700000 saver=false -> 1 hold
        710000 saver=false -> 0 up
        """,
    )
    yield trace("two_tiers_only", "a demand of 3 means the last tier", "0 apple_state=3 -> 1 down:apple_state", tiers=2)
