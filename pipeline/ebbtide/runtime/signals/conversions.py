"""From what systems report to the integers of `Signals`; the same in every language, in double precision.

What a system gives as "unknown" becomes None here: NaN, -1, a missing key. What no working system reports (an infinite
headroom, a status of 9) is an error and not absent, because it shows a mistake in the code that reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ebbtide.errors import EbbtideError
from ebbtide.runtime.policy_signals import RANGES

ANDROID_STATUS: Final[dict[str, int]] = {
    "NONE": 0,
    "LIGHT": 1,
    "MODERATE": 2,
    "SEVERE": 3,
    "CRITICAL": 4,
    "EMERGENCY": 5,
    "SHUTDOWN": 6,
}
"""``PowerManager.THERMAL_STATUS_*``, by their names."""
APPLE_STATE: Final[dict[str, int]] = {"nominal": 0, "fair": 1, "serious": 2, "critical": 3}
"""``ProcessInfo.ThermalState``, by its names."""

SPAN_MC: Final = 30_000
"""Headroom 0 is 30 degrees below SEVERE (AOSP, ``ThermalManagerService.TemperatureWatcher``)."""


def headroom_mh(headroom: float | None) -> int | None:
    """``floor(headroom * 1000 + 0.5)``; None for NaN, which Android gives for "unknown", and for None.

    Args:
        headroom: of ``PowerManager.getThermalHeadroom``, >= 0; 1 is SEVERE, 0.1 are 3 degrees.

    Raises:
        EbbtideError: ``signals.value`` for a negative or infinite number, one above 10, or no number.
    """
    if headroom is None:
        return None
    _check_number(headroom, "headroom")
    if math.isnan(headroom):
        return None
    return _in_range("headroom_mh", math.floor(headroom * 1000 + 0.5) if math.isfinite(headroom) else None, headroom)


def android_thresholds(thresholds: Mapping[int, float]) -> tuple[int | None, int | None]:
    """`light_mh` and `moderate_mh` of ``PowerManager.getThermalHeadroomThresholds``, each None where it is not told.

    Args:
        thresholds: from status to headroom; other statuses are not used.

    Raises:
        EbbtideError: ``signals.value``, as `headroom_mh`.
    """
    return headroom_mh(thresholds.get(ANDROID_STATUS["LIGHT"])), headroom_mh(thresholds.get(ANDROID_STATUS["MODERATE"]))


def android_status(status: int | None) -> int | None:
    """The status as it is, checked: 0 to 6, or None where the system has none (before Android 10).

    Raises:
        EbbtideError: ``signals.value``.
    """
    return None if status is None else _in_range("android_status", status, status)


def apple_state(state: int | None) -> int | None:
    """The state's raw value as it is, checked: 0 to 3, or None.

    Raises:
        EbbtideError: ``signals.value``.
    """
    return None if state is None else _in_range("apple_state", state, state)


def android_battery_percent(level: int, scale: int) -> int | None:
    """``floor(level * 100 / scale)``; None where Android leaves them out, which reads as -1, or the scale is 0.

    Args:
        level: ``BatteryManager.EXTRA_LEVEL``.
        scale: ``BatteryManager.EXTRA_SCALE``.

    Raises:
        EbbtideError: ``signals.value`` for a level above the scale, or no whole numbers.
    """
    for value in (level, scale):
        if type(value) is not int:
            raise _refused("battery_percent", "a whole number", value)
    if level < 0 or scale <= 0:
        return None
    return _in_range("battery_percent", level * 100 // scale, level)


def apple_battery_percent(level: float) -> int | None:
    """``floor(level * 100 + 0.5)``; None for a negative one: -1 is iOS's "battery monitoring is not enabled".

    Args:
        level: ``UIDevice.batteryLevel``, 0 to 1.

    Raises:
        EbbtideError: ``signals.value`` for a level above 1, NaN, or no number.
    """
    _check_number(level, "battery_percent")
    if level < 0:
        return None
    percent = math.floor(level * 100 + 0.5) if math.isfinite(level) and level <= 1 else None
    return _in_range("battery_percent", percent, level)


def milli_to_deci_celsius(temperature_mc: int) -> int:
    """Thousandths of a degree, as Linux has them, in tenths: ``floor(t / 100 + 0.5)``. Android's are tenths already.

    Raises:
        EbbtideError: ``signals.value`` outside of -40 to 150 degrees.
    """
    return _in_range("battery_temperature_dc", (temperature_mc + 50) // 100, temperature_mc)


def headroom_mh_of_temperature(temperature_mc: int, severe_mc: int) -> int:
    """Android's own formula on integers: ``max(0, (T - (T_severe - 30)) / 30)`` degrees, x 1000, rounded half up.

    Args:
        temperature_mc: thousandths of a degree Celsius.
        severe_mc: where SEVERE begins.

    Raises:
        EbbtideError: ``signals.value`` above a headroom of 10.
    """
    above = max(temperature_mc - severe_mc + SPAN_MC, 0)
    return _in_range("headroom_mh", (2 * above + 30) // 60, temperature_mc)


def _check_number(value: object, name: str) -> None:
    if type(value) not in (int, float):
        raise _refused(name, "a number", value)


def _in_range(name: str, value: int | None, found: object) -> int:
    low, high = RANGES[name]
    if type(value) is not int or not low <= value <= high:
        raise _refused(name, f"{low} to {high} after conversion", found)
    return value


def _refused(name: str, expected: str, found: object) -> EbbtideError:
    return EbbtideError(
        "signals.value",
        f"No system reports {found!r} as {name}."[:160],
        expected=expected,
        found=f"{found!r} ({type(found).__name__})"[:120],
        place=name,
    )
