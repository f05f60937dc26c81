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
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from ebbtide.errors import EbbtideError
from ebbtide.report.early import EarlyExits
from ebbtide.report.facts import Amount, Count, Facts, Latency, Numbers, Scored, Share, Shares, Stage, Texts
from ebbtide.report.nested import Widths
from ebbtide.report.outside import Outside
from ebbtide.report.personal import Sparsity
from ebbtide.report.statistics import probability_of

__all__ = ["BuildRecord", "Latency", "Scored", "Share", "Stage", "Widths", "load_record"]


class Model(Facts):
    """The universal model as it came in, restricted to the class set or with its full head."""

    source: str
    classes: tuple[str, ...]
    """What it answers with."""
    universal_classes: Annotated[int, Field(ge=1)]
    head: Literal["restricted", "full"] = "restricted"
    class_set: tuple[str, ...] = ()
    """What it is judged on; empty: `classes`."""
    input_shape: tuple[int, ...]
    parameters: Count
    macs: Count
    weight_bytes: Count
    stages: tuple[Stage, ...]
    select: Scored | None = None
    test: Scored | None = None


class Exit(Facts):
    """One trained exit, alone."""

    name: str
    position: Count
    type: str
    temperature: Annotated[float, Field(gt=0.0)]
    select: Scored
    macs: Count
    """Its own MACs, without the stages before it."""


class Step(Facts):
    """One method on a configuration's path; a threshold makes it a place to leave."""

    method: str
    threshold: float | None = None
    """Log-odds; leave when the confidence is greater."""

    @property
    def probability(self) -> float | None:
        """The threshold as a probability."""
        return None if self.threshold is None else probability_of(self.threshold)


class LeavingShare(Facts):
    """Which share of the samples left at an exit or at the head."""

    name: str
    share: Share


class Configuration(Facts):
    """A point of the table that ships: path, promise, measurement, cost."""

    id: str
    width: str = "w100"
    """The nested width whose program it runs."""
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


class Dense(Facts):
    """The whole model lowered as one method: what every saving is measured against."""

    select: Scored | None = None
    test: Scored | None = None
    macs: Amount
    latency: Latency | None = None
    size_bytes: Count
    peak_bytes: Count | None = None


class BoundaryCost(Facts):
    """All stages one after the other against the one-method program, timed alternately in one run."""

    stages: Annotated[int, Field(ge=1)]
    ratio: Annotated[float, Field(gt=0.0)]
    """Time of the methods over time of the one method; 1.02 is 2 % slower."""
    spread: Amount
    """Distance between the quartiles of the ratio over rounds."""
    rounds: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]


class Point(Facts):
    """A configuration that was scored on select, whether or not it ships."""

    accuracy: Share
    mean_macs: Amount
    latency_us: Amount | None = None


class Control(Point):
    """Something simpler that the configurations must beat, such as the backbone cut off at one exit."""

    name: str
    split: Literal["select", "test"] = "select"


class ClassRow(Facts):
    """One class of the test split; `accuracy` is keyed by configuration id."""

    name: str
    n: Annotated[int, Field(ge=1)]
    accuracy: Shares
    dense: Share | None = None


class Bin(Facts):
    """Predictions whose probability lies in one interval: how sure they were, how right they were."""

    n: Count
    probability: Share
    accuracy: Share


class Reliability(Facts):
    """Whether an exit's or the head's probabilities mean what they say."""

    name: str
    bins: tuple[Bin, ...]
    before: tuple[Bin, ...] = ()
    """The same without temperature; empty where it was not kept."""
    split: Literal["select", "test"] = "test"

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean distance of probability and accuracy, weighted by samples."""
        return _calibration_error(self.bins)

    @property
    def error_before(self) -> float | None:
        """The calibration error without temperature."""
        return _calibration_error(self.before) if self.before else None


def _calibration_error(bins: tuple[Bin, ...]) -> float:
    total = sum(one.n for one in bins)
    return sum(one.n * abs(one.probability - one.accuracy) for one in bins) / total if total else 0.0


class File(Facts):
    """One file of a bundle."""

    path: str
    size_bytes: Count


class Device(Facts):
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


class Gate(Facts):
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


class Split(Facts):
    """A split: how many samples, and a digest over their sorted ids."""

    name: str
    count: Count
    digest: str


class Provenance(Facts):
    """What went in: enough to build the same bundle again."""

    versions: Texts = Field(default_factory=dict)
    hashes: Texts = Field(default_factory=dict)
    seeds: Numbers = Field(default_factory=dict)
    splits: tuple[Split, ...] = ()


class Machine(Facts):
    """Where the times were measured."""

    cpu: str
    cores: Annotated[int, Field(ge=1)]
    memory_bytes: Count
    system: str
    accelerator: str | None = None


class Notice(Facts):
    """Something chosen, given up or worth a second look, and why."""

    kind: Literal["choice", "fallback", "warning"]
    subject: str
    text: str


class Timing(Facts):
    """How long one step of the build took; `reused` means its stored result was taken."""

    step: str
    seconds: Amount
    reused: bool = False


class BuildRecord(Facts):
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
    sparsity: Sparsity | None = None
    """How the model was made smaller for its class set; None for the universal model as it is."""
    widths: Widths | None = None
    """Nested widths; None for a model of one width."""
    outside: Outside | None = None
    """When an answer is "outside"; None where every answer is a class."""
    exits: tuple[Exit, ...] = ()
    early: EarlyExits | None = None
    """How exits were made, chosen and mapped; None without any."""
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
        for level in self.widths.levels if self.widths else ():
            if level.configuration not in ids:
                raise ValueError(f"width {level.name} names an unknown configuration {level.configuration!r}")
        if self.outside and sorted(row.configuration for row in self.outside.rows) != sorted(ids):
            raise ValueError("outside detection has not one row for each configuration")
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
