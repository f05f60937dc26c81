"""The signals of the machine this runs on, as far as it has them; each with where it comes from and why.

* ``battery_percent``: ``psutil.sensors_battery().percent``, rounded down as Android's is.
* ``charging``: its ``power_plugged``, never the sign of a current; unknown counts as not plugged in.
* ``battery_temperature_dc``: ``power_supply/*/temp`` (tenths of a degree) of a battery of the system, else the thermal
  zone that the kernel registers under that battery's name. No other sensor is a battery's on the kernel's own word.
* ``headroom_mh``: absent, unless asked for by the name of a thermal zone with a passive trip.
* ``saver``, ``android_status``, ``apple_state``, ``light_mh``, ``moderate_mh``: absent; nothing here tells them.

Headroom is Android's word for the skin of a phone. A computer has sensors in its chips, which are far hotter, so none
is taken for it unasked. With `headroom_zone` it is derived: Android's formula with the zone's lowest ``passive`` trip
as SEVERE, since that is where the kernel begins to throttle (the device tree's thermal-zones binding: "passive: enable
passive cooling e.g. throttling cpu"). The other trips will not do: ``active`` switches fans, ``hot`` only notifies, and
``critical`` shuts down. There is no forecast in it. `HostSource.origins` calls it derived.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from ebbtide.errors import EbbtideError, nearest
from ebbtide.runtime.policy_signals import Signals
from ebbtide.runtime.signals.conversions import headroom_mh_of_temperature, milli_to_deci_celsius
from ebbtide.runtime.signals.protocol import Origin

SYSFS: Final = Path("/sys/class")
_ABSENT: Final = {
    "android_status": "only Android has it",
    "apple_state": "only Apple's systems have it",
    "light_mh": "only Android tells it",
    "moderate_mh": "only Android tells it",
    "saver": "systems have no common way to tell it; off is assumed",
}


class HostSource:
    """Reads this machine. Tells of no events: nothing here notifies.

    Which sensors there are is settled at the start, and `origins` says it of every signal; one that fails later is
    absent from that reading.

    Args:
        headroom_zone: the ``type`` of the thermal zone to derive headroom from; None for no headroom.
        sysfs: where the kernel's classes lie.

    Raises:
        EbbtideError: ``signals.zone`` if there is no such zone, or none of that name with a temperature and a passive
            trip.
    """

    def __init__(self, *, headroom_zone: str | None = None, sysfs: Path = SYSFS) -> None:
        battery = _battery(sysfs)
        self._sysfs = sysfs
        self._temperature = _battery_temperature(sysfs)
        self._zone = None if headroom_zone is None else _throttling_zone(sysfs, headroom_zone)
        self.origins: tuple[Origin, ...] = (
            *_battery_origins(battery),
            _temperature_origin(self._temperature),
            self._headroom_origin(),
            *(Origin(name, None, why) for name, why in _ABSENT.items()),
        )

    def read(self, t_ms: int) -> Signals:
        """The signals now; see `SignalSource`. Raises nothing: what fails is absent."""
        percent, charging = _battery(self._sysfs) or (None, False)
        warmth = None
        if self._temperature is not None:
            path, unit_mc = self._temperature
            number = _number(path)
            warmth = _possible(milli_to_deci_celsius, number * unit_mc) if number is not None else None
        headroom = None
        if self._zone is not None:
            path, trip_mc = self._zone
            number = _number(path)
            headroom = _possible(headroom_mh_of_temperature, number, trip_mc) if number is not None else None
        return Signals(t_ms, headroom, battery_percent=percent, charging=charging, battery_temperature_dc=warmth)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Never calls back; see `SignalSource`."""
        return lambda: None

    def close(self) -> None:
        """Nothing is held."""

    def _headroom_origin(self) -> Origin:
        if self._zone is None:
            return Origin("headroom_mh", None, "no zone was asked for, and a chip's temperature is not a phone's skin")
        path, trip_mc = self._zone
        why = f"derived, not Android's: its formula with the zone's passive trip of {trip_mc} mC as SEVERE, no forecast"
        return Origin("headroom_mh", str(path), why)


def _battery(sysfs: Path) -> tuple[int, bool] | None:
    """Percent and whether it is plugged in, None without a battery of the system."""
    supplies = _folders(sysfs / "power_supply")
    if supplies and not any(_is_system_battery(folder) for folder in supplies):
        return None  # psutil would take the battery of a mouse
    try:
        battery = psutil.sensors_battery()
    except (AttributeError, OSError, ValueError):  # no such call on this system, no such folder, odd contents
        return None
    if battery is None or not 0 <= battery.percent < 1000:
        return None
    # A worn battery can hold more than its own idea of full: 101 percent are 100.
    return min(int(battery.percent), 100), battery.power_plugged is True


def _battery_origins(battery: tuple[int, bool] | None) -> tuple[Origin, Origin]:
    if battery is None:
        why = "there is no battery of the system"
        return Origin("battery_percent", None, why), Origin("charging", None, why)
    return (
        Origin("battery_percent", "psutil.sensors_battery", "the system's own figure, rounded down"),
        Origin("charging", "psutil.sensors_battery", "plugged in; unknown counts as not plugged in"),
    )


def _battery_temperature(sysfs: Path) -> tuple[Path, int] | None:
    """A file with a battery's temperature and how many thousandths of a degree its unit is."""
    batteries = [folder for folder in _folders(sysfs / "power_supply") if _is_system_battery(folder)]
    for folder in batteries:
        if _number(folder / "temp") is not None:
            return folder / "temp", 100
    # The kernel registers a zone under the supply's own name; some only show the temperature there.
    names = {folder.name for folder in batteries}
    for zone in _folders(sysfs / "thermal"):
        if _text(zone / "type") in names and _number(zone / "temp") is not None:
            return zone / "temp", 1
    return None


def _is_system_battery(folder: Path) -> bool:
    # Scope "Device" is the battery of a mouse or a headset.
    return _text(folder / "type") == "Battery" and _text(folder / "scope") != "Device"


def _temperature_origin(found: tuple[Path, int] | None) -> Origin:
    if found is None:
        return Origin("battery_temperature_dc", None, "no sensor of which the kernel says that it is a battery's")
    return Origin("battery_temperature_dc", str(found[0]), "the kernel says that it is a battery of the system")


def _throttling_zone(sysfs: Path, name: str) -> tuple[Path, int]:
    """The temperature file of a zone and its lowest passive trip, thousandths of a degree."""
    zones = _folders(sysfs / "thermal")
    types = sorted({text for zone in zones if (text := _text(zone / "type")) is not None})
    for zone in zones:
        if _text(zone / "type") != name:
            continue
        trips = [trip for path in zone.glob("trip_point_*_type") if (trip := _passive_trip(path)) is not None]
        if trips and _number(zone / "temp") is not None:
            return zone / "temp", min(trips)
    close = nearest(name, types)
    raise EbbtideError(
        "signals.zone",
        f"There is no thermal zone {name!r} with a temperature and a passive trip.",
        expected="a zone of which the kernel says where it throttles",
        found=f"zones: {', '.join(types)}" if types else "no thermal zones",
        hint=f"Did you mean {close!r}?"
        if close and close != name
        else "Leave headroom out: the battery's signals stay.",
        place=name,
    )


def _passive_trip(path: Path) -> int | None:
    if _text(path) != "passive":
        return None
    trip = _number(path.with_name(path.name.removesuffix("type") + "temp"))
    return trip if trip is not None and trip > 0 else None  # unset trips read 0 or below


def _folders(folder: Path) -> list[Path]:
    """In the order of their numbers: thermal_zone2 before thermal_zone10."""
    try:
        return sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name))
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,9}", text) else None


def _possible(convert: Callable[..., int], *values: int) -> int | None:
    """A converted value, None where the sensor gives one that no working sensor gives."""
    try:
        return convert(*values)
    except EbbtideError:
        return None
