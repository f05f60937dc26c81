"""Heat and battery against published steady states, computed constants, and the conservation of energy."""

from __future__ import annotations

import numpy as np
import pytest
from simulation_cases import WORK, drawn, steady

from ebbtide.errors import EbbtideError
from ebbtide.simulation import Fixed, Heat, HeatModel, PolicyKind, Work, load_phone, phone_names, simulate
from ebbtide.simulation.battery import current_a, discharge, open_circuit_v, resistance_ohm
from ebbtide.simulation.run import Lanes

# R in K/W, C in J/K, fast and slow time constant in s, sustained power in W for a skin of 39 and 43 degrees in air of
# 25 beside 1.0 W of everything else.
TABLE = {
    "galaxy-s4": (3.89, 126, 68, 490, 2.1, 2.8),
    "nexus-5": (3.84, 126, 68, 483, 2.1, 2.9),
    "pixel-6": (3.12, 200, 105, 625, 2.6, 3.6),
    "pixel-8": (3.44, 181, 96, 623, 2.4, 3.2),
    "pixel-9": (3.37, 192, 102, 645, 2.4, 3.3),
    "galaxy-s24-ultra": (2.92, 225, 116, 655, 2.8, 3.8),
    "iphone-15-pro": (3.58, 181, 97, 648, 2.3, 3.1),
    "iphone-16-pro": (3.47, 193, 103, 669, 2.3, 3.2),
    "budget-6.6": (3.09, 173, 91, 535, 2.7, 3.6),
}


def sustained_w(model: HeatModel, skin_c: float) -> float:
    """The chip's power at which the skin ends there: temperatures are linear in power."""
    low, high = model.steady(0, 1.0, 25)[0], model.steady(1, 1.0, 25)[0]
    return (skin_c - low) / (high - low)


def test_every_phone_is_in_the_table() -> None:
    assert set(phone_names()) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_constants_follow_from_surface_and_mass(name: str) -> None:
    resistance, capacity, fast, slow, at_39, at_43 = TABLE[name]
    model = load_phone(name).heat
    assert model.resistance_k_w == pytest.approx(resistance, rel=0.004)
    assert model.capacity_j_k == pytest.approx(capacity, rel=0.005)
    assert model.time_constants_s == pytest.approx((fast, slow), rel=0.008)
    assert sustained_w(model, 39.0) == pytest.approx(at_39, abs=0.06)
    assert sustained_w(model, 43.0) == pytest.approx(at_43, abs=0.06)


def test_steady_state_of_therminator() -> None:
    # Galaxy S4 at 4.0 W: the chip's 2.25 W and the board's 1.0 W heat the patch, the display's 0.75 W the body.
    model = load_phone("galaxy-s4").heat
    skin, body, _ = model.steady(3.25, 0.75, 25.0)
    assert skin == pytest.approx(44.3, abs=0.1)
    assert body == pytest.approx(39.0, abs=0.1)
    chip, _, die = model.steady(2.25, 1.75, 25.0)
    assert die - chip == pytest.approx(13.1, abs=0.1)


def test_steps_end_in_the_steady_state() -> None:
    model = load_phone("pixel-8").heat
    air, soc, rest = np.array([25.0]), np.array([2.4]), np.array([1.0])
    heat = model.at_rest(air)
    for _ in range(12_000):
        heat = model.step(heat, soc, rest, air)
    ended = (heat.skin_c[0], heat.body_c[0], heat.die_c[0])
    assert ended == pytest.approx(model.steady(2.4, 1.0, 25.0), abs=1e-3)


@pytest.mark.parametrize(
    ("soc_w", "air_c", "minutes", "near"),
    [
        (3.4, 22.0, 18.0, 0.5),
        (3.4, 28.0, 5.0, 0.3),
        (3.4, 34.0, 44 / 60, 0.1),
        (1.8, 22.0, None, 0.0),
        (1.8, 28.0, 22.0, 0.8),
        (1.8, 34.0, 2.0, 0.2),
    ],
)
def test_time_from_rest_to_light(soc_w: float, air_c: float, minutes: float | None, near: float) -> None:
    model = load_phone("pixel-8").heat
    air = np.array([air_c])
    heat = model.at_rest(air)
    found = None
    for second in range(1, 4 * 3600):
        heat = model.step(heat, np.array([soc_w]), np.array([1.2]), air)
        if heat.skin_c[0] >= 39.0:
            found = second / 60
            break
    assert found is None if minutes is None else found == pytest.approx(minutes, abs=near)


def test_smaller_steps_change_little() -> None:
    model = load_phone("pixel-8").heat
    air, rest = np.array([28.0]), np.array([1.1])

    def after(step_s: float) -> Heat:
        heat = model.at_rest(air)
        steps = round(1800 / step_s)
        for index in range(steps):
            soc = np.array([3.4 if (index * step_s // 300) % 2 == 0 else 0.5])
            heat = model.step(heat, soc, rest, air, step_s=step_s)
        return heat

    exact = after(0.125)
    error = [abs(after(step).skin_c[0] - exact.skin_c[0]) for step in (1.0, 0.5, 0.25)]
    assert error[0] < 0.02
    # Explicit Euler is of first order: half the step, about half the error.
    assert error[1] < 0.62 * error[0]
    assert error[2] < 0.62 * error[1]


def test_energy_is_kept() -> None:
    model = load_phone("pixel-6").heat
    draw = np.random.default_rng(5)
    air = np.array([20.0, 31.0])
    heat = model.at_rest(air)
    stored = model.patch_j_k * heat.skin_c + model.body_j_k * heat.body_c
    put_in, given_off = np.zeros(2), np.zeros(2)
    for _ in range(2000):
        soc, rest = draw.uniform(0, 5, 2), draw.uniform(0, 2, 2)
        put_in += soc + rest
        patch = model.surface_g_w_k * model.patch_surface
        given_off += patch * (heat.skin_c - air) + (model.surface_g_w_k - patch) * (heat.body_c - air)
        heat = model.step(heat, soc, rest, air)
    now = model.patch_j_k * heat.skin_c + model.body_j_k * heat.body_c
    assert now - stored == pytest.approx(put_in - given_off, rel=1e-9)


def test_battery_gives_the_power_that_is_drawn_and_its_own_loss() -> None:
    charge, body = np.array([1.0, 0.5, 0.07]), np.array([30.0, 25.0, 5.0])
    power = np.array([3.0, 6.0, 2.0])
    current = current_a(power, charge, body)
    assert open_circuit_v(charge) * current == pytest.approx(power + current**2 * resistance_ohm(body))
    assert resistance_ohm(np.array([40.0, 25.0, 0.0])) == pytest.approx([0.1, 0.1, 0.2])
    assert discharge(np.array([0.5]), np.array([4.575]), 4575.0, step_s=1800.0)[0] == pytest.approx(0.0)
    assert discharge(np.array([0.01]), np.array([9.0]), 4575.0, step_s=1800.0)[0] == 0.0


def test_battery_never_gives_more_than_it_can() -> None:
    current = current_a(np.array([1000.0]), np.array([0.0]), np.array([-20.0]))
    assert np.isfinite(current).all()
    assert current[0] == pytest.approx(3.0 / (2 * resistance_ohm(np.array([-20.0]))[0]))


def test_energy_of_a_run_is_what_left_the_battery() -> None:
    always = PolicyKind("always", "", 3600, None, False, lambda: Fixed(1))
    outcome = simulate(load_phone("pixel-8"), steady(1800, air_c=15.0, duty=0.5), WORK, [always])
    lanes = Lanes(load_phone("pixel-8"), 1, np.array([15.0]), WORK)
    lanes.tier[:] = 1
    for second in range(1800):
        lanes.sense(second, lanes.heat.skin_c)
        lanes.step(np.array([0.5]), np.array([0.0]))
    drawn_w = 2.5 * 0.5 + 1.1
    assert outcome.energy_j[0, 0] == pytest.approx(1800 * drawn_w, rel=0.03)
    assert outcome.energy_j[0, 0] > 1800 * drawn_w
    # Charge times voltage is that energy.
    assert (1 - lanes.charge[0]) * 4.575 * 3600 * 4.33 == pytest.approx(outcome.energy_j[0, 0], rel=0.02)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_an_error(bad: float) -> None:
    work = Work((bad,), (0.9,), idle_w=0.0, rest_w=1.0, start_charge=1.0)
    always = PolicyKind("always", "", 3600, None, False, lambda: Fixed(0))
    with pytest.raises(EbbtideError) as caught, np.errstate(all="ignore"):
        simulate(load_phone("pixel-8"), drawn(1, hours=0.1), work, [always])
    assert caught.value.code == "simulation.not_finite"
