"""One reading of a phone's signals: its fields, their ranges, its check, and its form in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from ebbtide.bundle.strict_json import MAX_INTEGER
from ebbtide.errors import EbbtideError, nearest


@dataclass(frozen=True, slots=True)
class Signals:
    """One reading of everything that decides; None where the phone does not say. Checked by `Policy.step`.

    Attributes:
        t_ms: when, on a clock that never goes back; 0 to 2^53 - 1.
        headroom_mh: thermal headroom x 1000, 0 to 10,000: 1000 is where the phone begins to throttle severely, 100 are
            3 degrees.
        headroom_age_ms: how long ago it was measured, 0 to 2^53 - 1.
        light_mh: where the phone's own status LIGHT begins, 0 to 10,000 (Android 15 and later).
        moderate_mh: where MODERATE begins, 0 to 10,000.
        android_status: ``PowerManager.THERMAL_STATUS_*``, 0 (NONE) to 6 (SHUTDOWN).
        apple_state: ``ProcessInfo.ThermalState``, 0 (nominal) to 3 (critical).
        battery_percent: 0 to 100.
        charging: whether a charger is plugged in.
        saver: whether the power saver (Low Power Mode) is on.
        battery_temperature_dc: tenths of a degree Celsius, -400 to 1500.
    """

    t_ms: int
    headroom_mh: int | None = None
    headroom_age_ms: int = 0
    light_mh: int | None = None
    moderate_mh: int | None = None
    android_status: int | None = None
    apple_state: int | None = None
    battery_percent: int | None = None
    charging: bool = False
    saver: bool = False
    battery_temperature_dc: int | None = None


MAX_MH: Final = 10_000
MAX_STATUS: Final = 6
MAX_STATE: Final = 3
MAX_PERCENT: Final = 100
MIN_DC: Final = -400
MAX_DC: Final = 1500
RANGES: Final[dict[str, tuple[int, int]]] = {
    "t_ms": (0, MAX_INTEGER),
    "headroom_mh": (0, MAX_MH),
    "headroom_age_ms": (0, MAX_INTEGER),
    "light_mh": (0, MAX_MH),
    "moderate_mh": (0, MAX_MH),
    "android_status": (0, MAX_STATUS),
    "apple_state": (0, MAX_STATE),
    "battery_percent": (0, MAX_PERCENT),
    "charging": (0, 1),
    "saver": (0, 1),
    "battery_temperature_dc": (MIN_DC, MAX_DC),
}
"""The least and greatest value of every field of `Signals`, in their order; 0 to 1 are the two that are bool."""
REQUIRED: Final = frozenset({"t_ms", "headroom_age_ms", "charging", "saver"})
"""The fields that cannot be None."""

_FLAGS = frozenset({"charging", "saver"})
_NAMES = tuple(RANGES)
_DEFAULTS: Final[dict[str, Any]] = {"headroom_age_ms": 0, "charging": False, "saver": False}
_values = attrgetter(*_NAMES)
_checks = tuple(
    (bool if name in _FLAGS else int, name not in REQUIRED, low, high) for name, (low, high) in RANGES.items()
)


def check_signals(signals: Signals) -> None:
    """Refuse a reading with a value of the wrong type or out of range; true is no whole number, 1.0 neither.

    Raises:
        EbbtideError: ``policy.signal`` about the first such field, which is the place.
    """
    time, heat, age, light, moderate, status, state, percent, charging, saver, warmth = _values(signals)
    # Written out: a loop over `RANGES`, which `_fault` has, takes three times as long, and this runs at every step.
    if not (
        type(time) is int
        and 0 <= time <= MAX_INTEGER
        and (heat is None or (type(heat) is int and 0 <= heat <= MAX_MH))
        and type(age) is int
        and 0 <= age <= MAX_INTEGER
        and (light is None or (type(light) is int and 0 <= light <= MAX_MH))
        and (moderate is None or (type(moderate) is int and 0 <= moderate <= MAX_MH))
        and (status is None or (type(status) is int and 0 <= status <= MAX_STATUS))
        and (state is None or (type(state) is int and 0 <= state <= MAX_STATE))
        and (percent is None or (type(percent) is int and 0 <= percent <= MAX_PERCENT))
        and type(charging) is bool
        and type(saver) is bool
        and (warmth is None or (type(warmth) is int and MIN_DC <= warmth <= MAX_DC))
    ):
        raise _fault(signals)


def _fault(signals: Signals) -> EbbtideError:
    """The error of the first field that is wrong."""
    for name, value, (kind, optional, low, high) in zip(_NAMES, _values(signals), _checks, strict=True):
        if optional and value is None:
            continue
        if type(value) is not kind:
            expected = "true or false" if kind is bool else f"a whole number, {low} to {high}"
            return EbbtideError(
                "policy.signal",
                f"The signal {name} is not {expected}.",
                expected=f"{expected}, or nothing" if optional else expected,
                found=f"{value!r} ({type(value).__name__})"[:120],
                place=name,
            )
        if not low <= value <= high:
            return EbbtideError(
                "policy.signal",
                f"The signal {name} is out of range: {value}.",
                expected=f"{low} to {high}",
                found=str(value),
                place=name,
            )
    raise ValueError("a reading without a fault was refused")


def signals_json(signals: Signals) -> dict[str, Any]:
    """A reading as a JSON object: what is absent, and what is as good as absent, is left out."""
    values = zip(_NAMES, _values(signals), strict=True)
    return {name: value for name, value in values if name == "t_ms" or value != _DEFAULTS.get(name)}


def signals_of_json(value: object) -> Signals:
    """The reading that a JSON object holds; a key with null is absent.

    Raises:
        EbbtideError: ``policy.signal`` for anything that is not a checked reading, unknown keys included.
    """
    if not isinstance(value, dict):
        raise EbbtideError("policy.signal", "A reading is not a JSON object.", found=type(value).__name__)
    for name in value:
        if name not in RANGES:
            close = nearest(str(name), list(_NAMES))
            raise EbbtideError(
                "policy.signal",
                f"There is no signal {str(name)[:40]!r}.",
                expected=f"one of {', '.join(_NAMES)}",
                hint=f"Did you mean {close!r}?" if close else None,
                place=str(name)[:40],
            )
    if value.get("t_ms") is None:
        raise EbbtideError("policy.signal", "A reading has no time.", expected="t_ms", place="t_ms")
    signals = Signals(**{name: item for name, item in value.items() if item is not None})
    check_signals(signals)
    return signals
