"""What a simulated system says and does: headroom as Android computes it, status, power cap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulation_cases import WORK, steady

from ebbtide.simulation import TemperatureWatcher, View, headroom_of, load_phone, load_system, simulate
from ebbtide.simulation.policies import PolicyKind
from ebbtide.simulation.throttling import CapModel, PowerCap, StatusLevels, speed_under

ONE = np.zeros(1, np.int64)
SEVERE = 45.0


def ramp(t_s: float) -> np.ndarray:
    """1.2 degrees a minute."""
    return np.array([38.0 + t_s / 50])


def answer_on_ramp(base: str, forecast_s: int, *, at_s: int = 120, every_s: int = 5) -> float:
    """The error of the answer against the true skin, in degrees, while somebody asks every few seconds."""
    watcher = TemperatureWatcher(1, SEVERE, base=base)  # type: ignore[arg-type]
    error = math.nan
    for second in range(at_s + 1):
        watcher.tick(1000 * second, ramp(second))
        if second % every_s == 0:
            found = watcher.ask(1000 * second, forecast_s, ramp(second), ONE)[0]
            error = found * 30 + (SEVERE - 30) - ramp(second)[0]
    return error


@pytest.mark.parametrize(
    ("base", "errors"),
    [("oldest", (-0.58, -0.38, 0.02, 0.62)), ("newest", (0.0, 0.20, 0.60, 1.20))],
)
def test_errors_on_a_ramp(base: str, errors: tuple[float, ...]) -> None:
    found = [answer_on_ramp(base, forecast_s) for forecast_s in (0, 10, 30, 60)]
    assert found == pytest.approx(errors, abs=1e-6)


def test_headroom_is_three_degrees_a_tenth_and_never_below_zero() -> None:
    assert headroom_of(np.array([45.0, 39.0, 43.0, 15.0, -10.0]), SEVERE) == pytest.approx([1, 0.8, 28 / 30, 0, 0])
    assert headroom_of(55.0, SEVERE) == pytest.approx(4 / 3)


def test_cold_phone_falling_fast_answers_zero_not_less() -> None:
    watcher = TemperatureWatcher(1, SEVERE)
    for second in range(20):
        watcher.tick(1000 * second, np.array([16.0 - second]))
        found = watcher.ask(1000 * second, 60, np.array([16.0 - second]), ONE)
    assert found[0] == 0.0


def test_fewer_than_three_samples_forecast_nothing() -> None:
    watcher = TemperatureWatcher(1, SEVERE, base="newest")
    answers = []
    for second in range(4):
        skin = np.array([30.0 + second])
        watcher.tick(1000 * second, skin)
        answers.append(watcher.ask(1000 * second, 10, skin, ONE)[0] * 30 + 15)
    assert answers[:2] == pytest.approx([30.0, 31.0])
    assert answers[2:] == pytest.approx([42.0, 43.0])


def test_oldest_sample_is_the_base_until_the_ring_turns() -> None:
    watcher = TemperatureWatcher(1, SEVERE, base="oldest")
    found = []
    for second in range(41):
        skin = np.array([30.0 + second / 10])
        watcher.tick(1000 * second, skin)
        found.append(watcher.ask(1000 * second, 0, skin, ONE)[0] * 30 + 15)
    # 30 samples: at 29 s the oldest is still the first, at 40 s it is the one of second 11.
    assert found[29] == pytest.approx(30.0)
    assert found[40] == pytest.approx(31.1)


@pytest.mark.parametrize(("gap_s", "kept"), [(9, True), (10, False), (15, False)])
def test_samples_are_forgotten_after_ten_seconds_without_a_call(gap_s: int, kept: bool) -> None:
    watcher = TemperatureWatcher(1, SEVERE, base="newest")
    for second in range(6):
        watcher.tick(1000 * second, ramp(10 * second))
        watcher.ask(1000 * second, 30, ramp(10 * second), ONE)
    for second in range(6, 6 + gap_s):
        watcher.tick(1000 * second, ramp(10 * second))
    last = 5 + gap_s
    found = watcher.ask(1000 * last, 30, ramp(10 * last), ONE)[0] * 30 + 15 - ramp(10 * last)[0]
    assert found == pytest.approx(6.0 if kept else 0.0, abs=1e-6)


def test_second_call_within_half_a_second_is_nan_and_does_not_count() -> None:
    watcher = TemperatureWatcher(2, SEVERE)
    skin, both = np.array([40.0, 41.0]), np.arange(2)
    assert np.isfinite(watcher.ask(1000, 0, skin, both)).all()
    again = watcher.ask(1499, 0, skin, both)
    assert np.isnan(again).all()
    assert np.isfinite(watcher.ask(1500, 0, skin, both)).all()
    mixed = TemperatureWatcher(2, SEVERE)
    mixed.ask(1000, 0, skin, np.array([1]))
    assert np.isnan(mixed.ask(1200, 0, skin, both)).tolist() == [False, True]


@pytest.mark.parametrize("forecast_s", [-1, 61])
def test_forecast_out_of_range_is_nan(forecast_s: int) -> None:
    assert np.isnan(TemperatureWatcher(1, SEVERE).ask(0, forecast_s, np.array([40.0]), ONE))[0]


def test_phone_without_a_severe_threshold_always_answers_nan() -> None:
    watcher = TemperatureWatcher(1, math.nan)
    assert [np.isnan(watcher.ask(1000 * s, 0, np.array([40.0]), ONE)[0]) for s in range(0, 30, 5)] == [True] * 6


def test_phones_are_apart() -> None:
    watcher = TemperatureWatcher(2, SEVERE, base="newest")
    for second in range(40):
        skin = np.array([30.0 + second / 10, 44.0 - second / 20])
        watcher.tick(1000 * second, skin)
        found = watcher.ask(1000 * second, 30, skin, np.arange(2))
    alone = TemperatureWatcher(1, SEVERE, base="newest")
    for second in range(40):
        skin = np.array([44.0 - second / 20])
        alone.tick(1000 * second, skin)
        one = alone.ask(1000 * second, 30, skin, ONE)
    assert found[1] == one[0]


def test_status_has_hysteresis_at_every_threshold() -> None:
    system = load_system("pixel")
    levels = StatusLevels(1, system.thresholds, system.hysteresis_c.value)
    way = ((38.99, 0), (39.0, 1), (37.11, 1), (37.09, 0), (43.0, 2), (41.11, 2), (41.09, 1), (37.09, 0))
    way += ((46.5, 4), (45.2, 4), (45.0, 3), (43.0, 2), (55.0, 6), (53.2, 6), (53.0, 5), (20.0, 0))
    for skin, level in way:
        levels.update(np.array([skin]))
        assert levels.level[0] == level, skin


def test_reference_hal_of_qualcomm_jumps_from_none_to_severe() -> None:
    system = load_system("qcom40")
    levels = StatusLevels(1, system.thresholds, system.hysteresis_c.value)
    found = []
    for skin in (39.9, 40.0, 35.1, 34.9, 94.0, 95.0):
        levels.update(np.array([skin]))
        found.append(int(levels.level[0]))
    assert found == [0, 3, 3, 0, 3, 6]
    assert system.light_mh is None
    assert load_system("qcom55").severe_c == 55.0


def test_thresholds_as_headroom() -> None:
    system = load_system("pixel")
    assert (system.light_mh, system.moderate_mh) == (800, 933)
    assert (load_system("nan").light_mh, load_system("apple").light_mh) == (None, None)


def test_cap_begins_two_degrees_below_its_set_point_and_lifts_again() -> None:
    cap = PowerCap(1, CapModel(set_c=45.0, sustained_w=2.2))
    found = []
    for skin in (42.9, 43.5, 45.0, 46.0, 43.0, 42.9):
        cap.update(np.array([skin]))
        found.append(float(cap.watts[0]))
    assert found[0] == found[4] == found[5] == math.inf
    assert found[1] == pytest.approx(2.2 + 0.6 + 0.0075)
    assert found[2] == pytest.approx(2.2 + 0.0075)
    assert found[3] == pytest.approx(2.2 - 0.4 + 0.0025)


def test_integral_of_the_cap_is_limited() -> None:
    cap = PowerCap(1, CapModel(set_c=45.0, sustained_w=2.2))
    for _ in range(1000):
        cap.update(np.array([46.0]))
    assert cap.watts[0] == pytest.approx(2.2 - 0.4 - 0.5)
    for _ in range(1000):
        cap.update(np.array([80.0]))
    assert cap.watts[0] == 0.5


def test_speed_is_the_root_of_the_power_that_is_left() -> None:
    assert speed_under(np.array([1.0, 4.0, np.inf]), np.array([4.0, 1.0, 3.0])) == pytest.approx([0.5, 1.0, 1.0])


class Seen:
    def __init__(self, views: list[View]) -> None:
        self.views = views

    def look(self, view: View) -> int:
        self.views.append(view)
        return 0


def seen_on(phone: str, system: str, *, seconds: int = 1200, air_c: float = 34.0) -> list[View]:
    found: list[View] = []
    body = load_phone(phone)
    body = body.model_copy(update={"system": body.system.model_copy(update={"value": system})})
    kind = PolicyKind("seen", "", 5, 30, False, lambda: Seen(found))
    simulate(body, steady(seconds, air_c=air_c), WORK, [kind])
    return found


def test_profiles_tell_what_their_phones_tell() -> None:
    pixel = seen_on("pixel-8", "pixel")
    assert max(view.status or 0 for view in pixel) >= 2
    assert all(view.headroom is not None and math.isfinite(view.headroom) for view in pixel)
    assert all(view.state is None for view in pixel)
    stuck = seen_on("pixel-8", "stuck")
    assert {view.status for view in stuck} == {0}
    assert max(view.headroom or 0 for view in stuck) > 0.933
    nan = seen_on("pixel-8", "nan")
    assert all(view.headroom is not None and math.isnan(view.headroom) for view in nan)
    assert max(view.status or 0 for view in nan) >= 2
    apple = seen_on("iphone-15-pro", "apple")
    assert {view.headroom for view in apple} == {None}
    assert {view.status for view in apple} == {None}
    assert {1, 2} <= {view.state for view in apple}
    assert {view.status for view in seen_on("pixel-8", "qcom40")} == {0, 3}


def test_hot_phone_is_slow() -> None:
    views = seen_on("pixel-8", "pixel", seconds=1800)
    hot = [view for view in views if (view.status or 0) >= 2]
    assert min(view.speed for view in hot) < 0.95
    assert {view.speed for view in views[:3]} == {1.0}
