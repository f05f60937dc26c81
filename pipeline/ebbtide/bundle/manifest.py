"""The manifest of a bundle, version 1: what a reader in any language takes, field by field.

A field with a default is optional and is left out when it has that default; a field without one is always written, as
null where its type allows that and the fact is unknown. Counts and times are integers, so no reader compares floats.
Numbers that meet a program's output (thresholds, scales, biases) are float32: they are written as the shortest decimal
of the *double that equals the float32*, so that parsing as a double and narrowing, or parsing as a float32 at once,
gives the same bits in every language; a number that is not exactly a float32 is refused.

An object may hold ``x_*`` keys with objects as values; readers ignore what is inside. There are no other free keys, and
no maps, so that a schema and a strict decoder can say everything there is to say about the shape. What the shape cannot
say (references, order, tensor shapes along a path) is in `ebbtide.bundle.consistency`.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ebbtide.bundle.strict_json import MAX_INTEGER, canonical_bytes

FORMAT: Final = 1
FLOAT32_MAX: Final = 3.4028234663852886e38


def float32(value: float) -> float:
    """The float32 nearest to a number (ties to even), as the double that equals it."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


def _is_float32(value: float) -> float:
    if float32(value) != value:
        raise ValueError(f"{value!r} is not a float32; the nearest one is written {float32(value)!r}")
    return value


def _is_time(value: str) -> str:
    datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return value


Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Positive = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Dimension = Annotated[int, Field(ge=1, le=2**31 - 1)]
Float32 = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX, allow_inf_nan=False), AfterValidator(_is_float32)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
# Profiles are files: lower case only, for systems that ignore case.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
IDENTIFIER_PATTERN: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$"
Identifier = Annotated[str, Field(pattern=IDENTIFIER_PATTERN)]
MethodName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
MethodReference = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?/[a-z][a-z0-9_]{0,63}$")]
Version = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FilePath = Annotated[str, Field(min_length=1, max_length=240)]
Label = Annotated[str, Field(min_length=1, max_length=200)]
Demand = Annotated[int, Field(ge=0, le=3)]
MilliHeadroom = Annotated[int, Field(ge=0, le=10_000)]
DeciCelsius = Annotated[int, Field(ge=-400, le=1500)]
Percent = Annotated[int, Field(ge=0, le=100)]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]


class Entry(BaseModel):
    """What all objects of a manifest share: no unknown key, no type coercion, no change after creation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _freeze(cls, data: Any) -> Any:
        # Strict tuples refuse lists, which is all that JSON has.
        if not isinstance(data, dict):
            return data
        return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


class DeviceEntry(Entry):
    """The device profile that the bundle was built for, by name."""

    profile: Name
    platform: Literal["android", "ios", "linux", "macos", "windows"]


class RuntimeEntry(Entry):
    """The runtimes that can load the programs: ``min <= version < max_exclusive``, with these backends built in."""

    engine: Literal["executorch", "coreml"]
    min: Version
    max_exclusive: Version
    backends: Annotated[tuple[Name, ...], Field(max_length=16)]


class OutsideEntry(Entry):
    """How to tell an input that belongs to none of the classes: its score lies above ``outside`` of the step left at.

    ``energy`` is that of the logits, ``confidence`` the confidence negated. ``fallback`` names the bundle to ask
    instead, null if there is none.
    """

    score: Literal["energy", "confidence"]
    fallback: Identifier | None


class InputEntry(Entry):
    """What a program takes, and how a picture or a signal becomes that: ``pixel * scale + bias`` per channel."""

    kind: Literal["image", "signal"]
    shape: Annotated[tuple[Dimension, ...], Field(min_length=3, max_length=4)]
    dtype: Literal["float32"]
    layout: Literal["NCHW", "NCT"]
    color: Literal["RGB", "gray"] | None
    crop: Literal["center"] | None
    resize: Literal["bilinear-v1"] | None
    scale: Annotated[tuple[Float32, ...], Field(min_length=1, max_length=4096)]
    bias: Annotated[tuple[Float32, ...], Field(min_length=1, max_length=4096)]


class ModelEntry(Entry):
    """The classes in the order of the outputs, how many the universal model had, and the input."""

    classes: Annotated[tuple[Label, ...], Field(min_length=2, max_length=65_536)]
    universal_classes: Positive
    outside: OutsideEntry | None = None
    input: InputEntry


class FileEntry(Entry):
    """A file of the bundle: its plain relative path, size in bytes and SHA-256 in lower-case hexadecimal."""

    path: FilePath
    size: Count
    sha256: Hash


class XzEntry(Entry):
    """``payload.xz`` itself: its size and SHA-256, and the dictionary a reader must be willing to allocate."""

    size: Positive
    sha256: Hash
    dictionary_bytes: Annotated[int, Field(ge=4096, le=1536 * 1024 * 1024)]


class PayloadEntry(Entry):
    """How the files travel: ``raw`` at their own paths, ``xz`` as one stream of all of them in manifest order."""

    format: Literal["raw", "xz"]
    xz: XzEntry | None = None


class TensorEntry(Entry):
    """Shape (batch of one included), element type and order in memory of a method's input or output.

    Without ``layout`` the last dimension varies fastest. ``channels_last`` is for four dimensions: in memory the second
    of them varies fastest (NHWC), and the shape still counts it second. A runtime hands a stage's output on byte for
    byte, because an engine does not look at the order.
    """

    shape: Annotated[tuple[Dimension, ...], Field(max_length=8)]
    dtype: Literal["float32", "float16", "int8", "uint8", "int32", "int64"]
    layout: Literal["channels_last"] | None = None


class MethodEntry(Entry):
    """What a runtime can call in a program.

    A stage has one output. An exit, the head, and ``forward``, the one method of a dense program (kind ``model``), put
    out probabilities, confidence and logits. ``position`` counts stages from 0; an exit has the position of the stage
    it follows, the head that of the stage that would come next; that of a dense program says nothing. ``macs`` and
    ``peak_bytes`` are per inference.
    """

    name: MethodName
    kind: Literal["stage", "exit", "head", "model"]
    position: Annotated[int, Field(ge=0, le=4095)]
    type: Name | None = None
    file: FilePath | None = None
    inputs: Annotated[tuple[TensorEntry, ...], Field(min_length=1, max_length=8)]
    outputs: Annotated[tuple[TensorEntry, ...], Field(min_length=1, max_length=8)]
    macs: Count
    peak_bytes: Count


class ProgramEntry(Entry):
    """Lowered code of one width, precision and processor. ``file`` is absent when each method has its own."""

    id: Identifier
    width: Annotated[str, Field(pattern=r"^w[0-9]{1,3}$")]
    precision: Literal["float32", "float16", "int8"]
    processor: Literal["cpu", "gpu", "npu", "server"]
    format: Literal["pte", "mlpackage"]
    file: FilePath | None = None
    methods: Annotated[tuple[MethodEntry, ...], Field(min_length=1, max_length=4096)]


class PathStep(Entry):
    """One call: ``program/method``, with the threshold (log-odds) above which an exit is taken.

    Where the model tells what lies outside of its classes, every exit and head has in ``outside`` the score above which
    an answer given there is that.

    The steps with ``at`` are the end of a path, never all of it: a device may have them run by a server that holds this
    bundle, whose address the application gives. The device holds the same methods and runs them wherever it has no
    server or gets no answer.
    """

    method: MethodReference
    threshold: Float32 | None = None
    outside: Float32 | None = None
    at: Literal["server"] | None = None


class Scored(Entry):
    """A share of right answers over ``n`` samples."""

    accuracy: Fraction
    n: Positive


class LatencyEntry(Entry):
    """Microseconds of one inference along the path, and the device profile on which they were measured."""

    p50: Count
    p90: Count
    measured_on: Name


class Expected(Entry):
    """What a configuration is expected to get right (promised on select, measured on test) and to cost."""

    select: Scored
    test: Scored | None
    mean_macs: Count
    latency_us: LatencyEntry | None
    peak_bytes: Count
    energy_uj: Count | None


class ConfigurationEntry(Entry):
    """A path with what it is expected to cost and to get right."""

    id: Identifier
    path: Annotated[tuple[PathStep, ...], Field(min_length=1, max_length=4096)]
    expected: Expected


class PolicyEntry(Entry):
    """The numbers of the tier policy, all integers: mh is headroom x 1000, dc is tenths of a degree Celsius."""

    enter_mh: Annotated[tuple[MilliHeadroom, ...], Field(min_length=3, max_length=3)]
    hysteresis_mh: MilliHeadroom
    status_floor: Annotated[tuple[Demand, ...], Field(min_length=7, max_length=7)]
    apple_floor: Annotated[tuple[Demand, ...], Field(min_length=4, max_length=4)]
    battery_enter_percent: Annotated[tuple[Percent, ...], Field(min_length=3, max_length=3)]
    battery_hysteresis: Percent
    battery_temperature_enter_dc: Annotated[tuple[DeciCelsius, ...], Field(min_length=3, max_length=3)]
    battery_temperature_hysteresis_dc: Annotated[int, Field(ge=0, le=500)]
    saver_floor: Demand
    up_hold_ms: Milliseconds
    stale_ms: Milliseconds
    gap_ms: Milliseconds


DEFAULT_POLICY: Final = PolicyEntry(
    enter_mh=(750, 850, 950),
    hysteresis_mh=65,
    status_floor=(0, 1, 2, 3, 3, 3, 3),
    apple_floor=(0, 1, 2, 3),
    battery_enter_percent=(20, 10, 5),
    battery_hysteresis=5,
    battery_temperature_enter_dc=(390, 410, 430),
    battery_temperature_hysteresis_dc=20,
    saver_floor=1,
    up_hold_ms=60_000,
    stale_ms=15_000,
    gap_ms=60_000,
)
"""Entries as in Google's Unreal plug-in; hysteresis of 1.95 degrees as in the Pixel thermal HAL (1.9)."""


Programs = Annotated[tuple[ProgramEntry, ...], Field(min_length=1, max_length=256)]
Configurations = Annotated[tuple[ConfigurationEntry, ...], Field(min_length=1, max_length=1024)]
Tiers = Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=4)]


class BundleDraft(Entry):
    """What a build decides about a bundle; the writer adds what follows from the files, the key and the time."""

    name: Identifier
    sequence: Count
    device: DeviceEntry
    runtime: RuntimeEntry
    model: ModelEntry
    programs: Programs
    configurations: Configurations
    tiers: Tiers
    policy: PolicyEntry = DEFAULT_POLICY


class Manifest(Entry):
    """Everything a runtime needs to know of a bundle, signed as exact bytes."""

    format: Literal[1] = FORMAT
    name: Identifier
    sequence: Count
    created: Annotated[
        str, Field(pattern=r"^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z$"), AfterValidator(_is_time)
    ]
    generator: Label
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    device: DeviceEntry
    runtime: RuntimeEntry
    model: ModelEntry
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=4096)]
    payload: PayloadEntry
    programs: Programs
    configurations: Configurations
    tiers: Tiers
    policy: PolicyEntry


def manifest_bytes(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest: what is written, hashed and signed."""
    fields = manifest.model_dump(mode="json", exclude_defaults=True)
    return canonical_bytes({"format": manifest.format, **fields})
