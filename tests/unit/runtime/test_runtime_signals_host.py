"""The signals of this machine, and of machines laid out in a folder as the kernel lays them out."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from ebbtide.errors import EbbtideError
from ebbtide.runtime.policy import RANGES, Signals
from ebbtide.runtime.policy_signals import check_signals
from ebbtide.runtime.signals import HostSource, SignalSource


@pytest.fixture
def sysfs(tmp_path, monkeypatch) -> Path:
    """An empty machine; psutil's own code reads it, too."""
    if not sys.platform.startswith("linux"):
        pytest.skip("psutil reads such folders on Linux only")
    import psutil._pslinux

    (tmp_path / "power_supply").mkdir()
    (tmp_path / "thermal").mkdir()
    monkeypatch.setattr(psutil._pslinux, "POWER_SUPPLY_PATH", str(tmp_path / "power_supply"))
    return tmp_path


def lay(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


def battery(sysfs: Path, name: str = "BAT0", **files: object) -> Path:
    return lay(sysfs / "power_supply" / name, **{"type": "Battery", "capacity": 57, "status": "Discharging", **files})


def zone(sysfs: Path, number: int, kind: str, temp: object, *trips: tuple[str, int]) -> Path:
    files = {
        f"trip_point_{at}_{key}": value
        for at, pair in enumerate(trips)
        for key, value in zip(("type", "temp"), pair, strict=True)
    }
    return lay(sysfs / "thermal" / f"thermal_zone{number}", type=kind, temp=temp, **files)


def origin(source: HostSource, signal: str):
    (found,) = [origin for origin in source.origins if origin.signal == signal]
    return found


def test_this_machine_gives_a_checked_reading_and_explains_every_signal():
    source = HostSource()
    reading = source.read(12)
    check_signals(reading)
    assert reading.t_ms == 12
    told = {origin.signal: origin for origin in source.origins}
    assert {*told, "t_ms", "headroom_age_ms"} == set(RANGES)
    assert all(origin.why for origin in source.origins)
    assert (reading.battery_percent is None) == (told["battery_percent"].taken_from is None)
    assert (reading.battery_percent is None) == (getattr(psutil, "sensors_battery", lambda: None)() is None)
    assert reading.headroom_mh is None


def test_battery_is_read_when_there_is_one(sysfs):
    folder = battery(sysfs, temp=312)
    source: SignalSource = HostSource(sysfs=sysfs)
    assert source.read(5) == Signals(5, battery_percent=57, charging=False, battery_temperature_dc=312)
    lay(folder, status="Charging", capacity=58, temp=-401)
    assert source.read(6) == Signals(6, battery_percent=58, charging=True)
    lay(folder, temp="hot")
    assert source.read(7).battery_temperature_dc is None
    source.listen(lambda: pytest.fail("a host tells of no events"))()
    source.close()


@pytest.mark.parametrize(
    ("now", "full", "expected"), [(199, 1000, 19), (1, 3, 33), (1010, 1000, 100), (0, 1000, 0), (5, 0, 0)]
)
def test_battery_rounds_down_when_its_energy_is_told(sysfs, now, full, expected):
    battery(sysfs, energy_now=now, energy_full=full)
    assert HostSource(sysfs=sysfs).read(0).battery_percent == expected


def test_charging_is_false_when_nothing_tells(sysfs):
    battery(sysfs, status="Unknown")
    assert HostSource(sysfs=sysfs).read(0).charging is False


def test_battery_of_a_mouse_is_not_taken_when_there_is_no_other(sysfs):
    battery(sysfs, "hidpp_battery_0", scope="Device", temp=300)
    source = HostSource(sysfs=sysfs)
    assert source.read(0) == Signals(0)
    assert origin(source, "battery_percent").taken_from is None
    assert origin(source, "battery_temperature_dc").taken_from is None


def test_battery_temperature_comes_from_the_zone_of_its_name_when_the_supply_has_none(sysfs):
    battery(sysfs)
    zone(sysfs, 0, "acpitz", 61_000)
    zone(sysfs, 1, "BAT0", 33_550)
    source = HostSource(sysfs=sysfs)
    assert source.read(0).battery_temperature_dc == 336
    assert (origin(source, "battery_temperature_dc").taken_from or "").endswith("thermal_zone1/temp")


def test_zone_is_no_battery_when_only_its_name_says_so(sysfs):
    zone(sysfs, 0, "battery", 33_550)
    zone(sysfs, 1, "x86_pkg_temp", 70_000, ("passive", 95_000))
    source = HostSource(sysfs=sysfs)
    assert source.read(0) == Signals(0)
    assert origin(source, "headroom_mh").taken_from is None


def test_headroom_is_derived_from_the_lowest_passive_trip_when_asked_for(sysfs):
    trips = (("critical", 105_000), ("passive", 95_000), ("hot", 80_000), ("passive", 90_000), ("active", 50_000))
    folder = zone(sysfs, 2, "x86_pkg_temp", 84_000, *trips)
    source = HostSource(headroom_zone="x86_pkg_temp", sysfs=sysfs)
    assert source.read(0).headroom_mh == 800  # 6 degrees below
    lay(folder, temp=20_000)
    assert source.read(1).headroom_mh == 0
    lay(folder, temp=999_999)
    assert source.read(2).headroom_mh is None
    (folder / "temp").unlink()
    assert source.read(3).headroom_mh is None
    told = origin(source, "headroom_mh")
    assert "derived" in told.why
    assert "90000 mC" in told.why


def test_second_zone_of_a_name_is_taken_when_the_first_cannot_tell(sysfs):
    zone(sysfs, 2, "cpu", 50_000)
    zone(sysfs, 10, "cpu", 70_000, ("passive", 85_000))
    assert HostSource(headroom_zone="cpu", sysfs=sysfs).read(0).headroom_mh == 500


@pytest.mark.parametrize(
    "trips", [(), (("hot", 80_000), ("critical", 90_000)), (("passive", 0),), (("passive", -274_000),)]
)
def test_zone_is_refused_when_it_does_not_say_where_it_throttles(sysfs, trips):
    zone(sysfs, 0, "cpu-thermal", 50_000, *trips)
    with pytest.raises(EbbtideError) as caught:
        HostSource(headroom_zone="cpu-thermal", sysfs=sysfs)
    assert (caught.value.code, caught.value.place) == ("signals.zone", "cpu-thermal")
    assert "cpu-thermal" in (caught.value.found or "")


def test_zone_names_the_nearest_when_mistyped(sysfs):
    zone(sysfs, 0, "x86_pkg_temp", 50_000, ("passive", 95_000))
    with pytest.raises(EbbtideError) as caught:
        HostSource(headroom_zone="x86_pkg_tmp", sysfs=sysfs)
    assert "x86_pkg_temp" in (caught.value.hint or "")


def test_machine_without_any_of_it_is_no_error(tmp_path, sysfs):
    (tmp_path / "power_supply").rmdir()  # psutil raises then
    assert HostSource(sysfs=tmp_path / "none").read(3) == Signals(3)
