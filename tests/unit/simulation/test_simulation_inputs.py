"""Phones, scenarios, assumptions and tiers: what is read, and how what is wrong is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from ebbtide.errors import EbbtideError
from ebbtide.simulation import SHIPPED, Load, draw_scenario, load_assumptions, load_phone, load_system, phone_names
from ebbtide.simulation.scenario import run_seeds


def refused(code: str, **arguments: object) -> EbbtideError:
    fields = {"seeds": range(2), "air_c": (20.0, 32.0), "hours": 0.1, "load": Load(), **arguments}
    with pytest.raises(EbbtideError) as caught:
        draw_scenario(**fields)  # type: ignore[arg-type]
    assert caught.value.code == code
    return caught.value


@pytest.mark.parametrize("name", phone_names())
def test_every_phone_says_where_each_number_comes_from(name: str) -> None:
    phone = load_phone(name)
    system = load_system(phone.system.value)
    assert phone.id == name
    for fact in (phone.surface_cm2, phone.mass_g, phone.battery_mah, phone.system, system.thresholds_c):
        assert len(fact.source) > 10
    assert len(system.thresholds) == (6 if system.platform == "android" else 3)
    assert len(system.thresholds) == len(system.hysteresis_c.value)


def test_unknown_phone_is_answered_with_the_nearest() -> None:
    with pytest.raises(EbbtideError) as caught:
        load_phone("pixel8")
    assert caught.value.code == "simulation.phone"
    assert "'pixel-8'" in (caught.value.hint or "")
    with pytest.raises(EbbtideError, match="no phone"):
        load_phone("../systems")


def test_air_reversed_is_refused_and_turned_round() -> None:
    assert "20..32" in (refused("simulation.ambient", air_c=(32.0, 20.0)).hint or "")


@pytest.mark.parametrize("air_c", [(-20.1, 0.0), (20.0, 60.1), (math.nan, 30.0), (100.0, 90.0)])
def test_air_out_of_range_is_refused(air_c: tuple[float, float]) -> None:
    refused("simulation.ambient", air_c=air_c)


@pytest.mark.parametrize("hours", [0.0, -1.0, 48.01, math.nan, math.inf])
def test_hours_out_of_range_are_refused(hours: float) -> None:
    refused("simulation.hours", hours=hours)


def test_runs_out_of_range_are_refused() -> None:
    refused("simulation.runs", seeds=())
    refused("simulation.runs", seeds=range(100), hours=12.0)
    for seed, runs in ((0, 0), (0, 1001), (-1, 2)):
        with pytest.raises(EbbtideError) as caught:
            run_seeds(seed, runs)
        assert caught.value.code == "simulation.runs"


def test_scenario_keeps_to_its_ranges_and_spreads_the_air() -> None:
    load = Load()
    found = draw_scenario(seeds=range(8), air_c=(20.0, 34.0), hours=2, load=load)
    assert found.air_c.tolist() == [20, 22, 24, 26, 28, 30, 32, 34]
    assert found.seconds == 7200
    assert found.duty.min() >= load.duty[0]
    assert found.duty.max() <= load.duty[1]
    busy = found.foreign_w[found.foreign_w > 0]
    assert busy.min() >= load.foreign_w[0]
    assert busy.max() <= load.foreign_w[1]
    assert 0.3 < (found.foreign_w > 0).mean() < 0.7
    assert found.noise_c.std() == pytest.approx(load.sensor_noise_c, rel=0.02)
    one = draw_scenario(seeds=[3], air_c=(20.0, 34.0), hours=2, load=load)
    assert one.air_c.tolist() == [27.0]
    assert (one.duty[:, 0] == found.duty[:, 3]).all()


def test_shipped_assumptions_give_a_source_for_every_number() -> None:
    rows = load_assumptions().rows()
    assert len(rows) == 17
    assert all(source for _, _, source in rows)
    assert ("active_w.cpu", "3.4") in [row[:2] for row in rows]
    assert ("duty", "0.4 to 1") in [row[:2] for row in rows]


def test_shipped_load_is_the_default_one() -> None:
    assert load_assumptions().load == Load()


def test_own_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("rest_w: {value: 2, source: measured at the bench}\n")
    mine, shipped = load_assumptions(path), load_assumptions()
    assert mine.rest_w.value == 2
    assert mine.busy == shipped.busy


@pytest.mark.parametrize(
    ("text", "said", "place"),
    [
        ("", "holds no keys", "mine.yaml"),
        ("[1, 2]", "holds no keys", "mine.yaml"),
        ("rest_w: [", "not YAML", "mine.yaml"),
        ("rest_w: 3", "valid dictionary", "mine.yaml: rest_w"),
        ("rest_w: {value: 3}", "Field required", "mine.yaml: rest_w.source"),
        ("rest_w: {value: -3, source: x}", "greater than or equal to 0", "mine.yaml: rest_w.value"),
        ("rest_w: {value: .nan, source: x}", "finite", "mine.yaml: rest_w.value"),
        ("rest: {value: 3, source: x}", "'rest' is not known", "mine.yaml"),
        ("duty: {value: [1, 0.5], source: x}", "not in order", "mine.yaml: duty"),
        ("duty: {value: [0, 1.5], source: x}", "at most 1", "mine.yaml"),
        ("duty: {value: [0, 0], source: x}", "asks for nothing", "mine.yaml"),
        ("duty_s: {value: [0, 9], source: x}", "at least a second", "mine.yaml"),
        ("tier_w: {value: [], source: x}", "at least 1", "mine.yaml: tier_w.value"),
        ("active_w: {cpu: {value: 3, source: x}}", "Field required", "mine.yaml: active_w.gpu"),
    ],
)
def test_broken_assumptions_are_refused_with_their_place(tmp_path: Path, text: str, said: str, place: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(EbbtideError) as caught:
        load_assumptions(path)
    assert caught.value.code == "simulation.power"
    assert said in caught.value.message
    assert caught.value.place == place


def test_missing_and_oversized_files_are_refused(tmp_path: Path) -> None:
    for path, data in ((tmp_path / "none.yaml", None), (tmp_path / "big.yaml", b"#" * 70_000), (tmp_path, None)):
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(EbbtideError) as caught:
            load_assumptions(path)
        assert caught.value.code == "simulation.power"
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: \xc3\x28\x00")
    with pytest.raises(EbbtideError, match="not YAML"):
        load_assumptions(binary)


def test_shipped_file_is_what_a_user_may_copy(tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_bytes(SHIPPED.read_bytes())
    assert load_assumptions(copy) == load_assumptions()
    assert set(yaml.safe_load(copy.read_text())) == set(type(load_assumptions()).model_fields)
