"""What happens to a phone: the air around it, how much the application asks of it, and what else runs.

Everything random comes from a seed of the run's own, so a run is the same to the last bit whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ebbtide.errors import EbbtideError
from ebbtide.simulation.heat import Floats

AIR_LIMITS_C: Final = (-20.0, 60.0)
MOST_HOURS: Final = 48.0
MOST_RUNS: Final = 1000
MOST_RUN_HOURS: Final = 1000.0
"""More would not fit into the memory of a small machine."""


@dataclass(frozen=True, slots=True)
class Load:
    """From what a run's use is drawn. Segments of a length between the two limits follow each other.

    Attributes:
        duty: share of its predictions that the application asks for, least and most in a segment.
        duty_s: length of such a segment.
        foreign_w: power of everything else on the chip while there is something, least and most.
        foreign_share: share of the segments in which there is something.
        foreign_s: length of such a segment.
        sensor_noise_c: standard deviation of what the skin sensor adds.
    """

    duty: tuple[float, float] = (0.4, 1.0)
    duty_s: tuple[int, int] = (120, 900)
    foreign_w: tuple[float, float] = (0.2, 2.4)
    foreign_share: float = 0.5
    foreign_s: tuple[int, int] = (60, 600)
    sensor_noise_c: float = 0.05


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens to each run: arrays of seconds by runs, and the air of each run."""

    seeds: tuple[int, ...]
    air_c: Floats
    duty: Floats
    foreign_w: Floats
    noise_c: Floats

    @property
    def seconds(self) -> int:
        """How long it lasts."""
        return len(self.duty)


def draw_scenario(*, seeds: Sequence[int], air_c: tuple[float, float], hours: float, load: Load) -> Scenario:
    """Draw what happens in one run for each seed; the air goes evenly from the first to the second temperature.

    A run depends on its seed and its air alone.

    Raises:
        EbbtideError: ``simulation.ambient``, ``simulation.hours``, ``simulation.runs``.
    """
    low, high = air_c
    if not (AIR_LIMITS_C[0] <= low <= high <= AIR_LIMITS_C[1]):
        reversed_too = AIR_LIMITS_C[0] <= high < low <= AIR_LIMITS_C[1]
        raise EbbtideError(
            "simulation.ambient",
            f"The air cannot go from {low:g} to {high:g} degrees.",
            expected=f"two temperatures in order, from {AIR_LIMITS_C[0]:g} to {AIR_LIMITS_C[1]:g} degrees Celsius",
            hint=f"Did you mean {high:g}..{low:g}?" if reversed_too else "Write it as 20..32.",
            place="--ambient",
        )
    if not 0 < hours <= MOST_HOURS:  # NaN too
        raise EbbtideError(
            "simulation.hours",
            f"A simulation cannot last {hours:g} hours.",
            expected=f"more than 0, at most {MOST_HOURS:g}",
            hint="Two hours are enough for a phone to reach its steady heat.",
            place="--hours",
        )
    if not seeds or len(seeds) * hours > MOST_RUN_HOURS:
        raise EbbtideError(
            "simulation.runs",
            f"There cannot be {len(seeds)} runs of {hours:g} hours.",
            expected=f"at least one, and at most {MOST_RUN_HOURS:g} hours together",
            hint="Twelve runs of two hours show the spread.",
            place="--runs",
        )
    seconds = max(1, round(hours * 3600))
    duty, foreign, noise = (np.empty((seconds, len(seeds))) for _ in range(3))
    for run, seed in enumerate(seeds):
        duty[:, run], foreign[:, run], noise[:, run] = _one_run(seed, seconds, load)
    air = np.linspace(low, high, len(seeds)) if len(seeds) > 1 else np.array([(low + high) / 2])
    return Scenario(tuple(seeds), air, duty, foreign, noise)


def run_seeds(seed: int, runs: int) -> range:
    """The seeds of so many runs, from the first on.

    Raises:
        EbbtideError: ``simulation.runs``.
    """
    if not 1 <= runs <= MOST_RUNS or seed < 0:
        raise EbbtideError(
            "simulation.runs",
            f"There cannot be {runs} runs from seed {seed} on.",
            expected=f"1 to {MOST_RUNS} runs, a seed of at least 0",
            hint="Twelve runs show the spread.",
            place="--runs" if seed >= 0 else "--seed",
        )
    return range(seed, seed + runs)


def _one_run(seed: int, seconds: int, load: Load) -> tuple[Floats, Floats, Floats]:
    of_duty, of_foreign, of_noise = np.random.SeedSequence(seed).spawn(3)
    duty = _segments(np.random.default_rng(of_duty), seconds, load.duty_s, load.duty, 1.0)
    foreign = _segments(np.random.default_rng(of_foreign), seconds, load.foreign_s, load.foreign_w, load.foreign_share)
    return duty, foreign, np.random.default_rng(of_noise).normal(0.0, load.sensor_noise_c, seconds)


def _segments(
    generator: np.random.Generator, seconds: int, lengths: tuple[int, int], values: tuple[float, float], share: float
) -> Floats:
    """Segments of constant value until the time is filled; 0 in those that hold nothing."""
    found = np.empty(seconds)
    at = 0
    while at < seconds:
        end = at + int(generator.integers(lengths[0], lengths[1], endpoint=True))
        value, held = generator.uniform(*values), generator.uniform()
        found[at:end] = value if held < share else 0.0
        at = end
    return found
