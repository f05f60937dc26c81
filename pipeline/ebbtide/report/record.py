"""The build record: everything a report shows, as plain data.

The record is the only input of the HTML page, the Markdown page and the table on the terminal, so
the three can never disagree, and a record stored as JSON gives the same pages years later.

Shares and accuracies are 0..1, times in the unit that the name ends with, MACs per sample, sizes in
bytes. ``select`` scores are what thresholds were chosen on (a promise), ``test`` scores were read
once, afterwards (a measurement).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ebbtide.errors import EbbtideError
from ebbtide.report.statistics import probability_of, wilson_interval

Value = TypeVar("Value")


def _sorted(mapping: dict[str, Value]) -> dict[str, Value]:
    return {key: mapping[key] for key in sorted(mapping)}


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0.0)]
Texts = Annotated[dict[str, str], AfterValidator(_sorted)]
Numbers = Annotated[dict[str, int], AfterValidator(_sorted)]
Shares = Annotated[dict[str, Share], AfterValidator(_sorted)]


class _Facts(BaseModel):
    # A misspelt fact would silently vanish from the report, so unknown names are refused.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Scored(_Facts):
    """A share of right answers (or another metric in 0..1) over `n` samples."""

    accuracy: Share
    n: Annotated[int, Field(ge=1)]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval; it means something only where the metric is plain accuracy."""
        return wilson_interval(self.accuracy, self.n)


class Latency(_Facts):
    """Measured time of one prediction or one method, and under which conditions."""

    p50_us: Amount
    p90_us: Amount
    spread_us: Amount | None = None
    """How far p50 moved between rounds of the same run."""
    measured_on: str = "host"
    threads: Annotated[int, Field(ge=1)] | None = None


class Stage(_Facts):
    """One method of a program: what it costs and what it hands on."""

    name: str
    kind: Literal["stage", "exit", "head", "model"] = "stage"
    macs: Count
    parameters: Count
    weight_bytes: Count
    output_shape: tuple[int, ...] = ()
    """Shape at its end without the batch dimension."""
    latency: Latency | None = None
    delegated_share: Share | None = None
    """Share of its nodes that the back end took over; None where it was not counted."""


class Model(_Facts):
    """The universal model as it came in, restricted to the class set."""

    source: str
    classes: tuple[str, ...]
    universal_classes: Annotated[int, Field(ge=1)]
    input_shape: tuple[int, ...]
    parameters: Count
    macs: Count
    weight_bytes: Count
    stages: tuple[Stage, ...]
    select: Scored | None = None
    test: Scored | None = None


class Exit(_Facts):
    """One trained exit, alone."""

    name: str
    position: Count
    type: str
    temperature: Annotated[float, Field(gt=0.0)]
    select: Scored
    macs: Count
    """Its own MACs, without the stages before it."""


class Step(_Facts):
    """One method on a configuration's path; a threshold makes it a place to leave."""

    method: str
    threshold: float | None = None
    """Log-odds; leave when the confidence is greater."""

    @property
    def probability(self) -> float | None:
        """The threshold as a probability."""
        return None if self.threshold is None else probability_of(self.threshold)


class LeavingShare(_Facts):
    """Which share of the samples left at an exit or at the head."""

    name: str
    share: Share


class Configuration(_Facts):
    """A point of the table that ships: path, promise, measurement, cost."""

    id: str
    tier: Annotated[int, Field(ge=0, le=3)] | None = None
    path: tuple[Step, ...]
    select: Scored
    test: Scored | None = None
    mean_macs: Amount
    """Over the select split."""
    latency: Latency | None = None
    size_bytes: Count
    """Bytes of the programs that its path names."""
    peak_bytes: Count | None = None
    shares_select: tuple[LeavingShare, ...] = ()
    shares_test: tuple[LeavingShare, ...] = ()
    reason: str = ""
    """Why it is in the table."""


class Dense(_Facts):
    """The whole model lowered as one method: what every saving is measured against."""

    select: Scored | None = None
    test: Scored | None = None
    macs: Amount
    latency: Latency | None = None
    size_bytes: Count
    peak_bytes: Count | None = None


class BoundaryCost(_Facts):
    """All stages one after the other against the one-method program, timed alternately in one run."""

    stages: Annotated[int, Field(ge=1)]
    ratio: Annotated[float, Field(gt=0.0)]
    """Time of the methods over time of the one method; 1.02 is 2 % slower."""
    spread: Amount
    """Distance between the quartiles of the ratio over rounds."""
    rounds: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]


class Point(_Facts):
    """A configuration that was scored on select, whether or not it ships."""

    accuracy: Share
    mean_macs: Amount
    latency_us: Amount | None = None


class Control(Point):
    """Something simpler that the configurations must beat, such as the backbone cut off at one exit."""

    name: str
    split: Literal["select", "test"] = "select"


class ClassRow(_Facts):
    """One class of the test split; `accuracy` is keyed by configuration id."""

    name: str
    n: Annotated[int, Field(ge=1)]
    accuracy: Shares
    dense: Share | None = None


class Bin(_Facts):
    """Predictions whose probability lies in one interval: how sure they were, how right they were."""

    n: Count
    probability: Share
    accuracy: Share


class Reliability(_Facts):
    """Whether an exit's or the head's probabilities mean what they say."""

    name: str
    bins: tuple[Bin, ...]
    split: Literal["select", "test"] = "test"

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean distance of probability and accuracy, weighted by samples."""
        total = sum(one.n for one in self.bins)
        return sum(one.n * abs(one.probability - one.accuracy) for one in self.bins) / total if total else 0.0


class File(_Facts):
    """One file of a bundle."""

    path: str
    size_bytes: Count


class Device(_Facts):
    """One bundle."""

    profile: str
    platform: str
    bundle: str
    """Where it lies, relative to the report."""
    manifest_sha256: str
    files: tuple[File, ...]
    payload: Literal["raw", "xz"] = "raw"
    raw_bytes: Count
    xz_bytes: Count | None = None
    shares_programs_with: tuple[str, ...] = ()
    reason: str = ""
    """What was chosen for this device and why."""


class Gate(_Facts):
    """Lowered program against the eager model, sample by sample."""

    program: str
    samples: Annotated[int, Field(ge=1)]
    labels_differ: Count
    exits_differ: Count
    largest_score_difference: Amount
    score_limit: Amount
    smallest_threshold_gap: Amount | None = None
    moved_thresholds: Count = 0
    passed: bool = True


class Split(_Facts):
    """A split: how many samples, and a digest over their sorted ids."""

    name: str
    count: Count
    digest: str


class Provenance(_Facts):
    """What went in: enough to build the same bundle again."""

    versions: Texts = Field(default_factory=dict)
    hashes: Texts = Field(default_factory=dict)
    seeds: Numbers = Field(default_factory=dict)
    splits: tuple[Split, ...] = ()


class Machine(_Facts):
    """Where the times were measured."""

    cpu: str
    cores: Annotated[int, Field(ge=1)]
    memory_bytes: Count
    system: str
    accelerator: str | None = None


class Notice(_Facts):
    """Something chosen, given up or worth a second look, and why."""

    kind: Literal["choice", "fallback", "warning"]
    subject: str
    text: str


class Timing(_Facts):
    """How long one step of the build took; `reused` means its stored result was taken."""

    step: str
    seconds: Amount
    reused: bool = False


class BuildRecord(_Facts):
    """Everything a report shows. See the module for units."""

    format: Literal[1] = 1
    name: str
    sequence: Count
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    """UTC, ISO 8601, given by the build; pages add no date of their own."""
    generator: str
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1"] = "accuracy"
    recipe: str
    """The recipe's text as the user gave it, overrides appended as comments."""
    model: Model
    dense: Dense
    exits: tuple[Exit, ...] = ()
    configurations: Annotated[tuple[Configuration, ...], Field(min_length=1)]
    boundary: BoundaryCost | None = None
    scored: tuple[Point, ...] = ()
    scored_total: Count | None = None
    """How many configurations were scored, where `scored` keeps only some of them."""
    controls: tuple[Control, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    devices: tuple[Device, ...] = ()
    gates: tuple[Gate, ...] = ()
    provenance: Provenance = Provenance()
    machine: Machine | None = None
    notices: tuple[Notice, ...] = ()
    timings: tuple[Timing, ...] = ()

    @model_validator(mode="after")
    def _names_fit(self) -> BuildRecord:
        ids = [one.id for one in self.configurations]
        if len(set(ids)) != len(ids):
            raise ValueError(f"configuration ids are not unique: {ids}")
        tiers = [one.tier for one in self.configurations if one.tier is not None]
        if sorted(tiers) != list(range(len(tiers))):
            raise ValueError(f"tiers must be 0, 1, ... without gaps or repeats, found {sorted(tiers)}")
        for row in self.classes:
            unknown = set(row.accuracy) - set(ids)
            if unknown:
                raise ValueError(f"class {row.name!r} has accuracies for unknown configurations {sorted(unknown)}")
        return self

    @property
    def tiers(self) -> tuple[Configuration, ...]:
        """The configurations that a tier names, best quality first; all of them where no tier is named."""
        named = sorted((one for one in self.configurations if one.tier is not None), key=lambda one: one.tier or 0)
        return tuple(named) or self.configurations

    @property
    def others(self) -> Iterator[Configuration]:
        """Configurations that ship without a tier."""
        tiers = self.tiers
        return (one for one in self.configurations if one not in tiers)

    def to_json(self) -> str:
        """The record as JSON text: equal records give equal bytes."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, place: str | None = None) -> BuildRecord:
        """Read what `to_json` wrote.

        Raises:
            EbbtideError: ``report.record`` where the text is no JSON or not a build record; the
                message names the first wrong field.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as failure:
            first = failure.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "(whole record)"
            raise EbbtideError(
                "report.record",
                f"The build record is not valid at {field}: {first['msg']}.",
                found=f"{failure.error_count()} problem(s)",
                hint="Build again with this version, or open the record with the version that wrote it.",
                place=place,
            ) from failure


def load_record(path: Path) -> BuildRecord:
    """Read a record file. Raises ``report.record`` where it is missing or not a build record."""
    try:
        text = path.read_bytes()
    except OSError as failure:
        raise EbbtideError(
            "report.record",
            f"The build record cannot be read: {failure.strerror}.",
            hint="Name the report.json that `ebb build` wrote.",
            place=str(path),
        ) from failure
    return BuildRecord.from_json(text, place=str(path))
