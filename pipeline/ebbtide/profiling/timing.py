"""Times that can be compared: warmed up, interleaved in rounds, summed up by statistics that a stray value cannot move.

Two things timed one after the other differ by whatever the machine did in between. Here everything that will be
compared is timed in the same run: each round times every case once, the order turns from round to round, and a ratio
is formed inside a round before ratios are summed up.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ebbtide.errors import EbbtideError
from ebbtide.steps import Progress, silent

Call = Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """How much to time.

    Args:
        warm_up: untimed calls of each case before the first round, >= 0; the first calls of a program touch its pages.
        rounds: how often every case gets its turn, >= 1; spread is taken across rounds.
        repeats: timed calls of a case in its turn, >= 1.
        settle: untimed calls at the start of a turn, >= 0; they bring the case's weights back into the caches that
            the case before it used.

    Raises:
        EbbtideError: ``profiling.plan`` if a number is out of range.
    """

    warm_up: int = 5
    rounds: int = 10
    repeats: int = 10
    settle: int = 1

    def __post_init__(self) -> None:
        for name, least in (("warm_up", 0), ("rounds", 1), ("repeats", 1), ("settle", 0)):
            value = getattr(self, name)
            if value < least:
                raise EbbtideError(
                    "profiling.plan",
                    f"A timing plan cannot have {name} = {value}.",
                    expected=f"{name} >= {least}",
                    found=str(value),
                    place=name,
                )

    @property
    def calls(self) -> int:
        """How often each case is called in all."""
        return self.warm_up + self.rounds * (self.settle + self.repeats)


class Timing(BaseModel):
    """What a case took. All times are wall clock in microseconds.

    p50, p90, mean and minimum are over all calls; the spread (`mad_us`: median absolute deviation, `iqr_us`: distance
    of the quartiles) is that of the rounds' medians, so it says how far another run of this measurement may lie.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    calls: int = Field(ge=1)
    p50_us: float = Field(ge=0)
    p90_us: float = Field(ge=0)
    mean_us: float = Field(ge=0)
    minimum_us: float = Field(ge=0)
    mad_us: float = Field(ge=0)
    iqr_us: float = Field(ge=0)
    round_p50_us: tuple[float, ...] = Field(min_length=1)


class Comparison(BaseModel):
    """The cost of `a` over that of `b`, timed in one run.

    `ratio` is the median over the rounds of (median of a / median of b); `ratio_iqr` the distance of the quartiles of
    the rounds' ratios.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ratio: float = Field(gt=0)
    ratio_iqr: float = Field(ge=0)
    round_ratios: tuple[float, ...] = Field(min_length=1)
    a: Timing
    b: Timing


def summarise(rounds: Sequence[Sequence[float]]) -> Timing:
    """Sum up the times of one case.

    Args:
        rounds: for each round, the microseconds of its calls; at least one round, none empty.

    Percentiles interpolate linearly between order statistics (numpy's default, Hyndman and Fan's type 7).
    """
    if not rounds or not all(len(times) for times in rounds):
        raise EbbtideError("profiling.plan", "There are no times to sum up.", expected="one time or more in each round")
    every = np.concatenate([np.asarray(times, dtype=np.float64) for times in rounds])
    medians = np.array([np.median(times) for times in rounds])
    p50, p90 = np.percentile(every, [50, 90])
    lower, upper = np.percentile(medians, [25, 75])
    return Timing(
        calls=int(every.size),
        p50_us=_rounded(p50),
        p90_us=_rounded(p90),
        mean_us=_rounded(every.mean()),
        minimum_us=_rounded(every.min()),
        mad_us=_rounded(np.median(np.abs(medians - np.median(medians)))),
        iqr_us=_rounded(upper - lower),
        round_p50_us=tuple(_rounded(median) for median in medians),
    )


def time_interleaved(
    cases: Mapping[str, Call], plan: Plan, *, progress: Progress = silent, label: str = "timing"
) -> dict[str, Timing]:
    """Time several calls so that their ratios are fair.

    Args:
        cases: what to call, by name. Exceptions of a call end the measurement.
        plan: how often.
        progress: told once a round.
        label: what the bar is called.

    Returns:
        A timing for each case, in the order of `cases`.
    """
    calls = dict(cases)
    with _collector_paused():
        for call in calls.values():
            for _ in range(plan.warm_up):
                call()
        rounds: dict[str, list[list[float]]] = {name: [] for name in calls}
        with progress.task(label, plan.rounds) as task:
            for turn in range(plan.rounds):
                for name in turn_order(tuple(calls), turn):
                    rounds[name].append(_one_turn(calls[name], plan))
                # Between rounds, so that no turn pays for the garbage of another.
                gc.collect(0)
                task.advance()
    return {name: summarise(times) for name, times in rounds.items()}


def compare(a: Call, b: Call, *, plan: Plan | None = None, progress: Progress = silent) -> Comparison:
    """How many times the cost of `b` is that of `a`, both timed in one interleaved run."""
    timings = time_interleaved({"a": a, "b": b}, plan or Plan(), progress=progress, label="comparing")
    return compare_timings(timings["a"], timings["b"])


def compare_timings(a: Timing, b: Timing) -> Comparison:
    """The ratio of two timings of the *same* `time_interleaved` run.

    Raises:
        EbbtideError: ``profiling.plan`` if they cannot be of one run, or took no measurable time.
    """
    if len(a.round_p50_us) != len(b.round_p50_us):
        raise EbbtideError(
            "profiling.plan",
            "Only timings of one run can be compared.",
            expected=f"{len(b.round_p50_us)} rounds in both",
            found=f"{len(a.round_p50_us)} and {len(b.round_p50_us)}",
            hint="time both in one call of time_interleaved",
        )
    if min(*a.round_p50_us, *b.round_p50_us) <= 0:
        raise EbbtideError(
            "profiling.plan", "A case took no measurable time.", hint="put more work into one call of the case"
        )
    ratios = np.array(a.round_p50_us) / np.array(b.round_p50_us)
    lower, upper = np.percentile(ratios, [25, 75])
    return Comparison(
        ratio=float(np.median(ratios)),
        ratio_iqr=float(upper - lower),
        round_ratios=tuple(float(ratio) for ratio in ratios),
        a=a,
        b=b,
    )


def turn_order(names: tuple[str, ...], turn: int) -> tuple[str, ...]:
    """The order of a round: the start moves on every second round and every odd round runs backwards.

    So each case comes before and after each other one equally often over 2 x len(names) rounds, and a machine that
    grows slower or faster during the run favours none.
    """
    if not names:
        return ()
    start = (turn // 2) % len(names)
    order = names[start:] + names[:start]
    return order if turn % 2 == 0 else order[::-1]


def _one_turn(call: Call, plan: Plan) -> list[float]:
    for _ in range(plan.settle):
        call()
    clock = time.perf_counter_ns
    times = []
    for _ in range(plan.repeats):
        start = clock()
        call()
        times.append((clock() - start) / 1000)
    return times


def _rounded(value: float | np.floating) -> float:
    # Nanoseconds are the clock's resolution; more digits in a record would be noise.
    return round(float(value), 3)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep Python's cyclic collector from running inside a timed call."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
