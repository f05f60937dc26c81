"""Thermal headroom as Android computes it, for many phones at once.

The service (AOSP `ThermalManagerService.TemperatureWatcher`) samples the skin once a second while some application
asks, keeps the last 30 samples, forgets them when nobody asked for 10 s, and answers ``(T - (T_severe - 30)) / 30``, at
least 0, with T forecast along the least squares line of the samples. Older builds start the forecast at the oldest
sample, newer ones at the newest. The client answers NaN when it is asked twice within 500 ms.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ebbtide.simulation.heat import Floats

SAMPLES: Final = 30
FEWEST_FOR_A_FORECAST: Final = 3
INACTIVE_MS: Final = 10_000
CLIENT_GAP_MS: Final = 500
SPAN_C: Final = 30.0
"""Degrees between a headroom of 0 and of 1."""


def headroom_of(skin_c: Floats | float, severe_c: float) -> Floats:
    """The headroom of a skin temperature: 1 at the SEVERE threshold, 0.1 less for every 3 degrees below it."""
    return np.maximum((np.asarray(skin_c, np.float64) - (severe_c - SPAN_C)) / SPAN_C, 0.0)


def _slope_weights() -> Floats:
    """Row n: what the newest n of 30 samples, a second apart, weigh in the slope of their least squares line."""
    weights = np.zeros((SAMPLES + 1, SAMPLES))
    for count in range(2, SAMPLES + 1):
        at = np.arange(count) - (count - 1) / 2
        weights[count, SAMPLES - count :] = at / (at * at).sum()
    return weights


_WEIGHTS: Final = _slope_weights()


class TemperatureWatcher:
    """The service's and its client's state for several phones, each with one application that asks.

    Args:
        phones: how many.
        severe_c: the SEVERE threshold of the skin sensor; NaN if the phone states none, which makes every answer NaN.
        base: which sample a forecast starts from.
    """

    def __init__(self, phones: int, severe_c: float, *, base: Literal["oldest", "newest"] = "oldest") -> None:
        self._severe_c = severe_c
        self._base = base
        self._samples = np.zeros((phones, SAMPLES))
        self._count = np.zeros(phones, np.int64)
        self._asked_ms = np.full(phones, -INACTIVE_MS, np.int64)
        self._answered_ms = np.full(phones, -CLIENT_GAP_MS, np.int64)

    def tick(self, t_ms: int, skin_c: Floats) -> None:
        """Take the sample of this second where somebody asks; called once a second, before any `ask` of that second."""
        sampling = self._count > 0
        if not sampling.any():
            return
        awake = t_ms - self._asked_ms < INACTIVE_MS
        self._count[sampling & ~awake] = 0
        self._push(sampling & awake, skin_c)

    def _push(self, where: npt.NDArray[np.bool_], skin_c: Floats) -> None:
        if where.all():
            self._samples[:, :-1] = self._samples[:, 1:]
            self._samples[:, -1] = skin_c
        elif where.any():
            self._samples[where, :-1] = self._samples[where, 1:]
            self._samples[where, -1] = skin_c[where]
        self._count[where] = np.minimum(self._count[where] + 1, SAMPLES)

    def ask(self, t_ms: int, forecast_s: int, skin_c: Floats, phones: npt.NDArray[np.int64]) -> Floats:
        """`getThermalHeadroom(forecast_s)` on the phones with these indices; NaN where Android answers NaN.

        Args:
            t_ms: now.
            forecast_s: 0..60; anything else is answered with NaN.
            skin_c: what the skin sensors of all phones show now.
            phones: indices of the phones whose application asks.
        """
        early = t_ms - self._answered_ms[phones] < CLIENT_GAP_MS
        asked = phones[~early]
        self._answered_ms[asked] = t_ms
        if not 0 <= forecast_s <= 60:
            return np.full(len(phones), np.nan)
        self._asked_ms[asked] = t_ms
        empty = np.zeros(len(self._count), np.bool_)
        empty[asked] = self._count[asked] == 0
        self._push(empty, skin_c)
        answers = headroom_of(self._forecast(phones, forecast_s), self._severe_c)
        answers[early] = np.nan
        return answers

    def _forecast(self, phones: npt.NDArray[np.int64], forecast_s: int) -> Floats:
        count, samples = self._count[phones], self._samples[phones]
        rows = np.arange(len(phones))
        oldest = samples[rows, SAMPLES - np.maximum(count, 1)]
        base = oldest if self._base == "oldest" else samples[:, -1]
        slope = np.einsum("ij,ij->i", _WEIGHTS[count], samples)
        return base + np.where(count >= FEWEST_FOR_A_FORECAST, slope * forecast_s, 0.0)
