"""How long predictions take here: real samples through the session, every configuration in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ebbtide.engine import Array
from ebbtide.errors import EbbtideError
from ebbtide.profiling import Comparison, MachineFacts, Plan, Timing, compare, machine_facts, summarise
from ebbtide.profiling.timing import turn_order
from ebbtide.runtime.result import Result
from ebbtide.runtime.session import Session
from ebbtide.steps import Progress, silent

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ConfigurationBench(BaseModel):
    """The times of one configuration; p50 and p90 are over real samples, so they hold what early exits save.

    `total` is a whole prediction, `preprocess` and `session` the parts of it that are not spent in methods; `methods`
    are by ``program/method`` over the samples that reached them; `exit_shares` are shares of the samples, 0 to 1, by
    where they left.
    """

    model_config = _STRICT

    configuration: str
    tier: int | None
    total: Timing
    preprocess: Timing
    session: Timing
    methods: dict[str, Timing]
    exit_shares: dict[str, float]


class BenchReport(BaseModel):
    """The times of a bundle's configurations on one machine. `threads` is what the engine was told, None if nothing."""

    model_config = _STRICT

    format: Literal[1] = 1
    bundle: str
    sequence: int
    engine: str
    threads: int | None = Field(default=None, ge=1)
    samples: int = Field(ge=1)
    warm_up: int = Field(ge=0)
    rounds: int = Field(ge=1)
    machine: MachineFacts
    configurations: tuple[ConfigurationBench, ...]


class Overhead(BaseModel):
    """What a prediction costs beyond the bare calls of its methods, in microseconds.

    `overhead_us` is the median over the rounds of (median prediction - median of the bare calls), `iqr_us` the distance
    of the quartiles of those differences; `minimum_us` is the difference of the fastest calls, which other work on the
    machine hardly moves.
    """

    model_config = _STRICT

    overhead_us: float
    iqr_us: float = Field(ge=0)
    minimum_us: float
    comparison: Comparison


class _Times:
    """The times of one configuration, by round."""

    def __init__(self) -> None:
        self.total: list[list[float]] = []
        self.preprocess: list[list[float]] = []
        self.session: list[list[float]] = []
        self.methods: dict[str, list[list[float]]] = {}
        self.left_at: dict[str, int] = {}

    def add(self, results: Sequence[Result]) -> None:
        self.total.append([result.times.total_us for result in results])
        self.preprocess.append([result.times.preprocess_us for result in results])
        self.session.append([result.times.session_us for result in results])
        methods: dict[str, list[float]] = {}
        for result in results:
            self.left_at[result.left_at] = self.left_at.get(result.left_at, 0) + 1
            for method, time_us in result.times.methods:
                methods.setdefault(method, []).append(time_us)
        for method, times in methods.items():
            self.methods.setdefault(method, []).append(times)


def bench(
    session: Session,
    samples: Sequence[Any],
    *,
    configurations: Sequence[str] | None = None,
    warm_up: int = 10,
    rounds: int = 5,
    threads: int | None = None,
    progress: Progress = silent,
) -> BenchReport:
    """Time predictions of several configurations over the same samples, interleaved.

    Each round switches to every configuration in turn (the order turns from round to round), predicts `warm_up` of the
    samples untimed and then all of them. Spread is across rounds. The session's configuration is put back at the end.

    Args:
        session: the only user of the session meanwhile; with residency ``all``, or each turn loads its programs again.
        samples: images or signals as `Session.predict` takes them, at least one.
        configurations: ids; None for those of the tiers.
        warm_up: untimed predictions before each turn, >= 0.
        rounds: >= 1.
        threads: the engine's thread count, for the report only.
        progress: told once a turn.

    Raises:
        EbbtideError: ``runtime.bench`` for no samples or no configurations, ``profiling.plan`` for numbers out of
            range, and what switching and predicting raise.
    """
    names = tuple(session.manifest.tiers if configurations is None else dict.fromkeys(configurations))
    if not len(samples) or not names:
        missing = "samples" if names else "configurations"
        raise EbbtideError("runtime.bench", f"There are no {missing} to time.", expected="at least one", place=missing)
    plan = Plan(warm_up=warm_up, rounds=rounds, repeats=len(samples), settle=0)
    before = session.current
    machine = machine_facts()
    times = {name: _Times() for name in names}
    tiers: dict[str, int | None] = {}
    try:
        with progress.task("timing configurations", rounds * len(names)) as task:
            for turn in range(plan.rounds):
                for name in turn_order(names, turn):
                    tiers[name] = session.switch(name, reason="bench").tier
                    for index in range(plan.warm_up):
                        session.predict(samples[index % len(samples)])
                    times[name].add([session.predict(sample) for sample in samples])
                    task.advance()
    finally:
        session.switch(before.configuration, reason=before.reason)
    return BenchReport(
        bundle=session.manifest.name,
        sequence=session.manifest.sequence,
        engine=session.engine_name,
        threads=threads,
        samples=len(samples),
        warm_up=warm_up,
        rounds=rounds,
        machine=machine,
        configurations=tuple(_summed(name, tiers[name], times[name]) for name in names),
    )


def session_overhead(
    session: Session, tensor: Array, *, plan: Plan | None = None, progress: Progress = silent
) -> Overhead:
    """What a prediction costs beyond the bare calls of its methods, for one preprocessed input.

    Args:
        session: its configuration in force is measured.
        tensor: float32, batch of one.
        plan: how often; the default makes 1,000 calls of each.
        progress: shows the rounds.

    Returns:
        The difference and the comparison it comes from (a: prediction, b: bare calls). The bare calls are those that
        the prediction makes for this input, with their results dropped.
    """
    with session.pinned() as configuration:
        visited = session.predict_tensor(tensor).left_at
        end = next(index for index, step in enumerate(configuration.steps) if step.reference == visited)
        calls = [(step.run, step.method, step.is_stage) for step in configuration.steps[: end + 1]]

        def bare() -> None:
            value = tensor
            for run, method, is_stage in calls:
                outputs = run(method, value)
                if is_stage:
                    value = outputs[0]

        found = compare(
            lambda: session.predict_tensor(tensor), bare, plan=plan or Plan(20, 50, 20, 2), progress=progress
        )
    differences = np.array(found.a.round_p50_us) - np.array(found.b.round_p50_us)
    lower, middle, upper = np.percentile(differences, [25, 50, 75])
    return Overhead(
        overhead_us=round(float(middle), 3),
        iqr_us=round(float(upper - lower), 3),
        minimum_us=round(found.a.minimum_us - found.b.minimum_us, 3),
        comparison=found,
    )


def _summed(name: str, tier: int | None, times: _Times) -> ConfigurationBench:
    count = sum(times.left_at.values())
    return ConfigurationBench(
        configuration=name,
        tier=tier,
        total=summarise(times.total),
        preprocess=summarise(times.preprocess),
        session=summarise([[max(time_us, 0.0) for time_us in turn] for turn in times.session]),
        methods={method: summarise(rounds) for method, rounds in times.methods.items()},
        exit_shares={left_at: left / count for left_at, left in times.left_at.items()},
    )
