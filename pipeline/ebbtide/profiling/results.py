"""What a program on a device measures: raw times, and the conditions that they were taken under.

The same file comes from this host's runner, a phone and a farm; whoever transports it does not interpret it. Times stay
whole nanoseconds as they were read; p50, p90, p99 and the trimmed mean are taken from them here, in one place. The JSON
Schema, ``devices/results.schema.json``, is generated from these models (``python -m ebbtide.profiling.schema``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ebbtide.errors import EbbtideError
from ebbtide.profiling.timing import Timing, summarise
from ebbtide.steps import canonical_json

FORMAT: Final = 1
MAX_INTEGER: Final = 2**53 - 1
DRIFT_PARTS: Final = 5
"""The first and the last fifth of the rounds are compared."""
DRIFT_PERCENT: Final = 10
"""More than this between their medians, and the machine was not the same throughout."""

Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Positive = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Nanoseconds = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1, max_length=400)]
Id = Annotated[str, Field(min_length=1, max_length=64)]
Method = Annotated[str, Field(min_length=3, max_length=129, description="program/method")]
Times = Annotated[tuple[Nanoseconds, ...], Field(min_length=1)]
Rounds = Annotated[
    tuple[tuple[Nanoseconds, ...], ...],
    Field(min_length=1, description="Nanoseconds of each call, in the order of the calls, by round"),
]


class Part(BaseModel):
    """What all parts share: no unknown key, no coercion, no change after creation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class MeasuredBundle(Part):
    """Which bundle: known by the SHA-256 of its manifest's exact bytes, which state those of its files."""

    name: Id
    sequence: Count
    manifest_sha256: Sha256
    signature_checked: bool


class MeasuredRuntime(Part):
    """What ran the programs, and the backends that were built in."""

    engine: Literal["executorch", "coreml"]
    version: Text
    backends: tuple[Id, ...]


class MeasuredDevice(Part):
    """The machine; what it does not tell is null. No host names, users or serial numbers."""

    platform: Literal["android", "ios", "linux", "macos", "windows"]
    model: Text | None
    cpu_model: Text
    architecture: Text
    cores_logical: Positive
    cores_usable: Positive
    memory_bytes: Positive
    os: Text
    kernel: Text
    governor: Text | None


class Protocol(Part):
    """How it was measured: see `devices/runner/README.md`.

    `threads` held for the whole process and was fixed before anything was loaded. `inputs` says whether predictions
    were of real samples or of one input of zeros, which tells nothing about exits.
    """

    started: Annotated[str, Field(pattern=r"^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z$")]
    threads: Positive
    samples: Positive
    inputs: Literal["given", "zeros"]
    warm_up: Count
    rounds: Positive
    loads: Positive
    switches: Count
    cool_down_ms: Count


class LoadedMethod(Part):
    """A method's loads, each packing its weights, and its first runs, on zeros."""

    name: Id
    load_ns: Times
    first_run_ns: Times


class LoadedProgram(Part):
    """A program's loads from nothing; `open_ns` is mapping the file and verifying its structure."""

    id: Id
    sha256: Sha256
    size_bytes: Count
    open_ns: Times
    methods: tuple[LoadedMethod, ...]


class MethodTimes(Part):
    """The calls of one method inside the predictions of a configuration; a round without any is empty."""

    method: Method
    rounds_ns: Rounds

    @property
    def timing(self) -> Timing | None:
        """The times in microseconds; None if no prediction came that far."""
        reached = [times for times in self.rounds_ns if times]
        return _timing(reached) if reached else None

    @property
    def p99_us(self) -> float | None:
        """The 99th percentile in microseconds; None if no prediction came that far."""
        return percentile_us(self.rounds_ns, 99) if any(self.rounds_ns) else None


class LeftAt(Part):
    """How many of the timed predictions left their path at a method."""

    method: Method
    count: Positive


class ConfigurationTimes(Part):
    """What one configuration took.

    `rounds_ns` are whole predictions, from the tensor to the copied result, one for each sample in every round.
    `load_ns` is from nothing loaded to ready, the first run of every method included; `first_prediction_ns` the
    prediction after it. `peak_bytes` is the most memory of the process with only this configuration loaded, null where
    the system does not tell. `invalid` holds ``drift`` where `drifted` says so of `rounds_ns`.
    """

    id: Id
    tier: Annotated[int, Field(ge=0, le=3)] | None
    rounds_ns: Rounds
    methods: tuple[MethodTimes, ...]
    left_at: Annotated[tuple[LeftAt, ...], Field(min_length=1)]
    load_ns: Times
    first_prediction_ns: Times
    peak_bytes: Count | None
    invalid: tuple[Literal["drift"], ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not all(self.rounds_ns):
            raise ValueError("a round has no predictions")
        calls = sum(map(len, self.rounds_ns))
        if sum(entry.count for entry in self.left_at) != calls:
            raise ValueError("the counts of left_at do not sum up to the predictions")
        if (self.invalid != ()) != drifted(self.rounds_ns):
            raise ValueError("the marker drift is not what the times say")
        return self

    @property
    def timing(self) -> Timing:
        """Whole predictions in microseconds; spread is across rounds."""
        return _timing(self.rounds_ns)

    @property
    def p99_us(self) -> float:
        """The 99th percentile of whole predictions in microseconds."""
        return percentile_us(self.rounds_ns, 99)

    @property
    def trimmed_mean_us(self) -> float:
        """The mean of what lies between the 10th and the 90th percentile, in microseconds."""
        every = np.sort(np.fromiter(itertools.chain.from_iterable(self.rounds_ns), dtype=np.int64))
        cut = len(every) // 10
        return round(float(every[cut : len(every) - cut].mean()) / 1000, 3)

    @property
    def exit_shares(self) -> dict[str, float]:
        """Shares of the predictions, 0 to 1, by where they left."""
        calls = sum(map(len, self.rounds_ns))
        return {entry.method: entry.count / calls for entry in self.left_at}


class SwitchTimes(Part):
    """Switches from one configuration to another, each with the first prediction after it.

    With residency ``all`` both were loaded; with ``active`` the new one was loaded during the switch and the programs
    that were no longer needed were freed.
    """

    before: Id
    after: Id
    residency: Literal["all", "active"]
    switch_ns: Times
    first_prediction_ns: Times


class MemoryFacts(Part):
    """Memory of the process: at the start, with every configuration loaded, and at most while predicting."""

    start_bytes: Count | None
    resident_bytes: Count | None
    peak_bytes: Count | None


class Row(Part):
    """What the device said of its heat and battery at a moment, `t_ms` after the start; null where it says nothing."""

    t_ms: Count
    phase: Literal["before", "during", "after"]
    configuration: Id | None
    android_status: Annotated[int, Field(ge=0, le=6)] | None
    apple_state: Annotated[int, Field(ge=0, le=3)] | None
    headroom_mh: Annotated[int, Field(ge=0, le=10_000)] | None
    battery_percent: Annotated[int, Field(ge=0, le=100)] | None
    battery_temperature_dc: Annotated[int, Field(ge=-400, le=1500)] | None
    charging: bool | None
    hottest_zone_dc: Annotated[int, Field(ge=-400, le=1500)] | None


class Results(Part):
    """What one run of a measuring program on one device found.

    `invalid` holds ``hot_start`` where the device was throttling before the measurement began.
    """

    format: Literal[1]
    bundle: MeasuredBundle
    runtime: MeasuredRuntime
    device: MeasuredDevice
    protocol: Protocol
    programs: tuple[LoadedProgram, ...]
    configurations: Annotated[tuple[ConfigurationTimes, ...], Field(min_length=1)]
    switches: tuple[SwitchTimes, ...]
    memory: MemoryFacts
    rows: Annotated[tuple[Row, ...], Field(min_length=2)]
    invalid: tuple[Literal["hot_start"], ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        ids = [entry.id for entry in self.configurations]
        if len(set(ids)) != len(ids):
            raise ValueError("a configuration stands twice")
        samples, rounds = self.protocol.samples, self.protocol.rounds
        for entry in self.configurations:
            if [len(times) for times in entry.rounds_ns] != [samples] * rounds:
                raise ValueError(f"{entry.id} does not have {rounds} rounds of {samples} predictions")
        if [row.phase for row in self.rows] != sorted((row.phase for row in self.rows), key=_PHASES.index):
            raise ValueError("the rows are not in order")
        if {self.rows[0].phase, self.rows[-1].phase} != {"before", "after"}:
            raise ValueError("the rows do not begin before the measurement and end after it")
        hot = any((row.android_status or row.apple_state or 0) > 0 for row in self.rows if row.phase == "before")
        if (self.invalid != ()) != hot:
            raise ValueError("the marker hot_start is not what the rows say")
        return self

    def find(self, configuration: str) -> ConfigurationTimes | None:
        """The times of a configuration, None if it was not measured."""
        return next((entry for entry in self.configurations if entry.id == configuration), None)

    def to_bytes(self) -> bytes:
        """The results' one JSON spelling, raw times included."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"

    def summary(self) -> dict[str, Any]:
        """The figures of every configuration as JSON values, without the raw times."""
        return {
            **self.model_dump(mode="json", include={"bundle", "runtime", "device", "protocol", "memory", "invalid"}),
            "configurations": [_figures(entry) for entry in self.configurations],
            "switches": [
                {
                    "before": entry.before,
                    "after": entry.after,
                    "residency": entry.residency,
                    "switch_p50_us": percentile_us([entry.switch_ns], 50),
                    "first_prediction_p50_us": percentile_us([entry.first_prediction_ns], 50),
                }
                for entry in self.switches
            ],
        }


_PHASES: Final = ("before", "during", "after")


def _figures(entry: ConfigurationTimes) -> dict[str, Any]:
    return {
        "id": entry.id,
        "tier": entry.tier,
        "p50_us": entry.timing.p50_us,
        "p90_us": entry.timing.p90_us,
        "p99_us": entry.p99_us,
        "trimmed_mean_us": entry.trimmed_mean_us,
        "iqr_us": entry.timing.iqr_us,
        "methods": {
            one.method: {"p50_us": timing.p50_us, "p90_us": timing.p90_us, "p99_us": one.p99_us}
            for one in entry.methods
            if (timing := one.timing) is not None
        },
        "exit_shares": entry.exit_shares,
        "load_p50_us": percentile_us([entry.load_ns], 50),
        "first_prediction_p50_us": percentile_us([entry.first_prediction_ns], 50),
        "peak_bytes": entry.peak_bytes,
        "invalid": list(entry.invalid),
    }


def drifted(rounds_ns: Sequence[Sequence[int]]) -> bool:
    """Whether the medians of the first and the last fifth of the rounds (one at least) differ by more than 10 %.

    In integers, so that a program on a phone says the same: twice a median is whole.
    """
    part = max(len(rounds_ns) // DRIFT_PARTS, 1)
    first, last = (_double_median(itertools.chain(*some)) for some in (rounds_ns[:part], rounds_ns[-part:]))
    return 100 * abs(last - first) > DRIFT_PERCENT * first


def percentile_us(rounds_ns: Iterable[Sequence[int]], percent: float) -> float:
    """A percentile of all times together, in microseconds, interpolated as in `summarise`."""
    every = np.concatenate([np.asarray(times, dtype=np.int64) for times in rounds_ns])
    return round(float(np.percentile(every, percent)) / 1000, 3)


def parse_results(data: bytes, *, place: str | None = None) -> Results:
    """Read a results file.

    Args:
        data: UTF-8 JSON.
        place: the file, for the message.

    Raises:
        EbbtideError: ``profiling.results`` if it is not one of this format, contradicts itself or is cut short.
    """
    try:
        return Results.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise EbbtideError(
            "profiling.results",
            f"These are not results of a measurement: {first['msg'].removeprefix('Value error, ')}.",
            found=ascii(first["input"])[:120],
            place=f"{place or 'results'}: $.{where}" if where else place,
            hint="measure again; the file may come from another version or be damaged",
        ) from None


def _double_median(times: Iterable[int]) -> int:
    ordered = sorted(times)
    return ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]


def _timing(rounds_ns: Sequence[Sequence[int]]) -> Timing:
    return summarise([[time_ns / 1000 for time_ns in times] for times in rounds_ns])
