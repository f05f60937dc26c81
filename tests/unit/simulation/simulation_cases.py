"""Small scenarios and work for the simulator's tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ebbtide.simulation import Load, Scenario, Work, draw_scenario

WORK = Work((3.4, 2.5, 1.8, 1.1), (0.780, 0.765, 0.742, 0.705), idle_w=0.0, rest_w=1.1, start_charge=1.0)
"""Four tiers with assumed powers and accuracies."""


def drawn(runs: int = 3, *, hours: float = 0.5, first: int = 0, air_c: tuple[float, float] = (20.0, 32.0)) -> Scenario:
    return draw_scenario(seeds=range(first, first + runs), air_c=air_c, hours=hours, load=Load())


def steady(
    seconds: int, *, air_c: float = 25.0, duty: float = 1.0, foreign_w: float = 0.0, runs: Sequence[int] = (0,)
) -> Scenario:
    """Nothing changes and the sensor is exact."""
    shape = (seconds, len(runs))
    return Scenario(
        seeds=tuple(runs),
        air_c=np.full(len(runs), air_c),
        duty=np.full(shape, duty),
        foreign_w=np.full(shape, foreign_w),
        noise_c=np.zeros(shape),
    )
