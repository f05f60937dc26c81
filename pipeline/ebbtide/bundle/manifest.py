"""The manifest of a bundle, version 1: what a reader in any language takes, field by field.

A field with a default is optional and is left out when it has that default; a field without one is always written, null
A field with a default is optional and is left out when it has that default; a field without one is always written, as
null where its type allows that and the fact is unknown. Counts and times are integers, so no reader compares floats.
Numbers that meet a program's output (thresholds, scales, biases) are float32: they are written as the
float32 at once, gives the same bits in every language; a number that is not exactly a float32 is refused.

An object may hold ``x_*`` keys with objects as values; readers ignore what is inside. There are no other free keys, and
no maps, so that a schema and a strict decoder can say everything there is to say about the shape. What the shape cannot
say (references, order, tensor shapes along a path) is in `ebbtide.bundle.consistency`.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from ebbtide.bundle.strict_json import MAX_INTEGER, canonical_bytes, drop_extensions, parse_strict
from ebbtide.errors import EbbtideError, nearest

FORMAT: Final = 1
FLOAT32_MAX: Final = 3.4028234663852886e38

_Item = TypeVar("_Item")


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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


Many = Annotated[tuple[_Item, ...], BeforeValidator(_frozen)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Positive = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Dimension = Annotated[int, Field(ge=1, le=2**31 - 1)]
Float32 = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX, allow_inf_nan=False), AfterValidator(_is_float32)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
# Lower case only, because the store and the profiles use it as a file name on systems that ignore case.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")]
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


class DeviceEntry(Entry):
    """The device profile that the bundle was built for, by name."""

    profile: Name
    platform: Literal["android", "ios", "linux", "macos", "windows"]


class RuntimeEntry(Entry):
    """The runtimes that can load the programs: ``min <= version < max_exclusive``, with these backends built in."""

    engine: Literal["executorch", "coreml"]
    min: Version
    max_exclusive: Version
    backends: Annotated[Many[Name], Field(max_length=16)]


class OutsideEntry(Entry):
    """How to tell an input that belongs to none of the classes: its score lies above the threshold.

    ``fallback`` names the bundle to ask instead, null if there is none.
    """

    score: Literal["energy"]
    threshold: Float32
    fallback: Name | None


class InputEntry(Entry):
    """What a program takes, and how a picture or a signal becomes that: ``pixel * scale + bias`` per channel."""

    kind: Literal["image", "signal"]
    shape: Annotated[Many[Dimension], Field(min_length=3, max_length=4)]
    dtype: Literal["float32"]
    layout: Literal["NCHW", "NCT"]
    color: Literal["RGB", "gray"] | None
    crop: Literal["center"] | None
    resize: Literal["bilinear-v1"] | None
    scale: Annotated[Many[Float32], Field(min_length=1, max_length=4096)]
    bias: Annotated[Many[Float32], Field(min_length=1, max_length=4096)]


class ModelEntry(Entry):
    """The classes in the order of the outputs, how many the universal model had, and the input."""

    classes: Annotated[Many[Label], Field(min_length=2, max_length=65_536)]
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
    """Shape (batch of one included) and element type of a method's input or output."""

    shape: Annotated[Many[Dimension], Field(max_length=8)]
    dtype: Literal["float32", "float16", "int8", "uint8", "int32", "int64"]


class MethodEntry(Entry):
    """What a runtime can call in a program.

    A stage has one output. An exit, the head, and the one method of a dense program (kind ``model``) put out
    probabilities, confidence and logits. ``position`` counts stages from 0; an exit has the position of the stage it
    follows, the head that of the stage that would come next. ``macs`` and ``peak_bytes`` are per inference.
    """

    name: MethodName
    kind: Literal["stage", "exit", "head", "model"]
    position: Annotated[int, Field(ge=0, le=4095)]
    type: Name | None = None
    file: FilePath | None = None
    inputs: Annotated[Many[TensorEntry], Field(min_length=1, max_length=8)]
    outputs: Annotated[Many[TensorEntry], Field(min_length=1, max_length=8)]
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
    methods: Annotated[Many[MethodEntry], Field(min_length=1, max_length=4096)]


class PathStep(Entry):
    """One call: ``program/method``, with the threshold (log-odds) above which an exit is taken."""

    method: MethodReference
    threshold: Float32 | None = None


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
    path: Annotated[Many[PathStep], Field(min_length=1, max_length=4096)]
    expected: Expected


class PolicyEntry(Entry):
    """The numbers of the tier policy, all integers: mh is headroom x 1000, dc is tenths of a degree Celsius."""

    enter_mh: Annotated[Many[MilliHeadroom], Field(min_length=3, max_length=3)]
    hysteresis_mh: MilliHeadroom
    status_floor: Annotated[Many[Demand], Field(min_length=7, max_length=7)]
    apple_floor: Annotated[Many[Demand], Field(min_length=4, max_length=4)]
    battery_enter_percent: Annotated[Many[Percent], Field(min_length=3, max_length=3)]
    battery_hysteresis: Percent
    battery_temperature_enter_dc: Annotated[Many[DeciCelsius], Field(min_length=3, max_length=3)]
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


class Manifest(Entry):
    """Everything a runtime needs to know of a bundle, signed as exact bytes."""

    format: Literal[1] = Field(default=FORMAT)
    name: Name
    sequence: Count
    created: Annotated[
        str, Field(pattern=r"^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z$"), AfterValidator(_is_time)
    ]
    generator: Label
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    device: DeviceEntry
    runtime: RuntimeEntry
    model: ModelEntry
    files: Annotated[Many[FileEntry], Field(min_length=1, max_length=4096)]
    payload: PayloadEntry
    programs: Annotated[Many[ProgramEntry], Field(min_length=1, max_length=256)]
    configurations: Annotated[Many[ConfigurationEntry], Field(min_length=1, max_length=1024)]
    tiers: Annotated[Many[Identifier], Field(min_length=1, max_length=4)]
    policy: PolicyEntry


def json_path(location: tuple[str | int, ...]) -> str:
    """A place in a document: ``("files", 0, "path")`` is ``$.files[0].path``."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest and check everything that can be checked without its files.

    Raises:
        EbbtideError: with the JSON path as place and one of ``bundle.manifest_syntax``, ``_version``, ``_missing_key``,
            ``_unknown_key``, ``_value``, ``_duplicate``, ``_reference``, ``_order``; if several things are wrong, shape
            comes before references, and the first in the order of the models is named.
    """
    from ebbtide.bundle.consistency import check_consistency

    document = drop_extensions(parse_strict(data))
    version = document.get("format")
    if type(version) is int and version != FORMAT:
        raise EbbtideError(
            "bundle.manifest_version",
            f"The manifest has format {version}, which this reader does not know.",
            expected=f"format {FORMAT}",
            found=str(version),
            hint="Use a newer Ebbtide, or build the bundle with this one.",
            place="$.format",
        )
    if version is None:
        raise _missing(("format",))
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        raise _translated(error.errors(include_url=False)) from None
    check_consistency(manifest)
    return manifest


def manifest_bytes(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest: what is written, hashed and signed."""
    fields = manifest.model_dump(mode="json", exclude_defaults=True)
    return canonical_bytes({"format": manifest.format, **fields})


def _missing(location: tuple[str | int, ...]) -> EbbtideError:
    return EbbtideError(
        "bundle.manifest_missing_key", f"The key {location[-1]!a} is missing.", place=json_path(location)
    )


def _translated(errors: list[ErrorDetails]) -> EbbtideError:
    first = errors[0]
    location, kind = first["loc"], first["type"]
    others = {"others": [json_path(error["loc"]) for error in errors[1:20]]} if len(errors) > 1 else {}
    if kind == "missing":
        return _missing(location)
    if kind == "extra_forbidden":
        close = nearest(str(location[-1]), _known_keys())
        return EbbtideError(
            "bundle.manifest_unknown_key",
            f"The key {location[-1]!a} is not one that version {FORMAT} knows.",
            hint=f"Did you mean {close!r}?" if close else "Own facts go into an object whose key begins with x_.",
            place=json_path(location),
            details=others,
        )
    return EbbtideError(
        "bundle.manifest_value",
        f"{first['msg'].removeprefix('Value error, ')}.",
        found=ascii(first["input"])[:120],
        place=json_path(location),
        details=others,
    )


def _known_keys() -> list[str]:
    return sorted({name for model in Entry.__subclasses__() for name in model.model_fields})
