"""What a phone's system does about heat: it reports a status, and it takes power away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ebbtide.simulation.heat import Floats

Integers = npt.NDArray[np.int64]

STATUS_PERIOD_S: Final = 7
"""How often the Pixel thermal HAL looks while it throttles; cooler, a sensor interrupt wakes it at once."""


class StatusLevels:
    """A level that is entered at its threshold and left only below it by its hysteresis.

    Args:
        phones: how many.
        thresholds_c: for levels 1, 2, ..., ascending; NaN for a level that the vendor does not define.
        hysteresis_c: for each.
    """

    def __init__(self, phones: int, thresholds_c: tuple[float, ...], hysteresis_c: tuple[float, ...]) -> None:
        levels = [
            (level, enter, enter - back)
            for level, (enter, back) in enumerate(zip(thresholds_c, hysteresis_c, strict=True), start=1)
            if not np.isnan(enter)
        ]
        self._levels: Integers = np.array([0, *(level for level, _, _ in levels)], np.int64)
        self._enter = np.array([enter for _, enter, _ in levels])
        self._leave = np.array([leave for _, _, leave in levels])
        self._index = np.zeros(phones, np.int64)

    @property
    def level(self) -> Integers:
        """The level in force, 0 for none."""
        return self._levels[self._index]

    def update(self, skin_c: Floats) -> None:
        """Look at the skin once."""
        entered = np.searchsorted(self._enter, skin_c, side="right")
        held = np.searchsorted(self._leave, skin_c, side="right")
        # Kept where it was entered before and is not yet left; thresholds ascend, so counts say everything.
        self._index = np.maximum(entered, np.minimum(self._index, held))


@dataclass(frozen=True, slots=True)
class CapModel:
    """The power cap, ``S + K_P (T_set - T_skin) + I`` in watts, shaped on the Pixel thermal HAL's power control.

    It begins `begin_below_c` below `set_c` and ends there; I grows by `integral_w_c` for each degree and look, within
    +-`integral_limit_w`. Looked at every 7 s.
    """

    set_c: float
    sustained_w: float
    proportional_w_c: float = 0.4
    integral_w_c: float = 0.005
    integral_limit_w: float = 0.5
    begin_below_c: float = 2.0
    lowest_w: float = 0.5


class PowerCap:
    """The cap of several phones."""

    def __init__(self, phones: int, model: CapModel) -> None:
        self._model = model
        self._integral = np.zeros(phones)
        self.watts = np.full(phones, np.inf)

    def update(self, skin_c: Floats) -> None:
        """Look at the skin once."""
        model = self._model
        below = model.set_c - skin_c
        acting = below < model.begin_below_c
        grown = np.clip(self._integral + model.integral_w_c * below, -model.integral_limit_w, model.integral_limit_w)
        self._integral = np.where(acting, grown, 0.0)
        cap = model.sustained_w + model.proportional_w_c * below + self._integral
        self.watts = np.where(acting, np.maximum(cap, model.lowest_w), np.inf)


NPU_SPEED: Final = np.array([1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])
"""Speed that the system leaves a neural processor at each status: shaped on Pixel 8's tpu_cooling states
0, 2, 3, 4, 5, 5, 5 of 5. An assumption: which clock belongs to a state is not published."""


def speed_under(cap_w: Floats, wanted_w: Floats) -> Floats:
    """Speed left when a chip that wants one power is held to another: the square root of their ratio, at most 1.

    Power grows between the first and the third power of the clock; the second is assumed.
    """
    return np.sqrt(np.minimum(cap_w / wanted_w, 1.0))
