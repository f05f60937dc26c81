"""A battery as a voltage source behind a resistance.

For a power P the current is the smaller root of ``R0 I^2 - OCV I + P = 0``, the charge falls by I, and ``I^2 R0``
heats the body. The curve is a generic lithium cobalt oxide cell and R0 a typical value; neither was measured.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ebbtide.simulation.heat import Floats

CHARGE: Final = np.array([0.0, 0.05, 0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90, 1.0])
OPEN_CIRCUIT_V: Final = np.array([3.00, 3.45, 3.60, 3.70, 3.75, 3.79, 3.84, 3.92, 4.00, 4.10, 4.20, 4.35])
RESISTANCE_OHM: Final = 0.1
COLD_C: Final = 25.0
"""Below this the resistance grows, to twice its value at 0 degrees."""


def open_circuit_v(charge: Floats) -> Floats:
    """The voltage without load, of a charge between 0 and 1."""
    return np.asarray(np.interp(charge, CHARGE, OPEN_CIRCUIT_V), np.float64)


def resistance_ohm(body_c: Floats) -> Floats:
    """R0 at the battery's temperature; it doubles from 25 to 0 degrees and is held to four times below."""
    return RESISTANCE_OHM * np.clip(1 + (COLD_C - body_c) / COLD_C, 1.0, 4.0)


def current_a(power_w: Floats, charge: Floats, body_c: Floats) -> Floats:
    """The current that gives this power; where the cell cannot give so much, the current of its greatest power."""
    voltage, resistance = open_circuit_v(charge), resistance_ohm(body_c)
    root = np.sqrt(np.maximum(voltage * voltage - 4 * resistance * power_w, 0.0))
    return (voltage - root) / (2 * resistance)


def discharge(charge: Floats, current: Floats, capacity_mah: float, *, step_s: float = 1.0) -> Floats:
    """The charge one step later, between 0 and 1."""
    return np.clip(charge - current * step_s / (capacity_mah * 3.6), 0.0, 1.0)
