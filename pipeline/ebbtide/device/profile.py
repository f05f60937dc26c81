"""Device profiles: what is known of a phone, each fact with its source and date.

A profile is a YAML file in ``devices/profiles``. A fact that nobody has stated is null, never a guess; one that is
stated carries where it was found and when it was looked up. The library runs without any profile; a profile lets a
build choose programs and lets a report say what a figure was measured on.
"""

from __future__ import annotations

import datetime
import json
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import Field, model_validator

from ebbtide.device.processing import Processing
from ebbtide.device.section import ProfileName, Section, Text

Value = TypeVar("Value")

Platform = Literal["android", "ios", "linux", "macos", "windows"]
Version = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]


class Fact(Section, Generic[Value]):
    """A value with where it was found and when; null if it is not known."""

    value: Value | None
    source: Text | None = Field(default=None, description="Document, repository and revision, or command")
    date: datetime.date | None = Field(default=None, description="When the source was looked up")

    @model_validator(mode="after")
    def _is_stated(self) -> Self:
        if self.value is not None and (self.source is None or self.date is None):
            raise ValueError("a known value needs a source and a date")
        return self


class Match(Section):
    """How a running application recognises the device; any one rule suffices. All empty: never chosen by itself."""

    soc: list[Text] = Field(default=[], description="Build.SOC_MODEL, exact, every suffix listed (Android 12+)")
    device: list[Text] = Field(default=[], description="Build.BRAND/Build.DEVICE, exact")
    identifier: list[Text] = Field(default=[], description="utsname.machine on Apple systems, exact")
    default: bool = Field(default=False, description="Chosen where nothing else of the platform matches")


class Soc(Section):
    """The chip."""

    vendor: Text
    model: Text
    aliases: list[Text] = Field(default=[])


class Npu(Section):
    """The neural processor: its kind and generation, such as hexagon v75."""

    kind: Literal["hexagon", "ane", "tensor-tpu", "none"]
    generation: Text | None


class Cpu(Section):
    """The processor that runs XNNPACK."""

    name: Text
    cores: Annotated[int, Field(ge=1, le=4096)]


class Delegate(Section):
    """A backend and the runtime version with which it was tested on this device; null if it never was."""

    backend: ProfileName
    processor: Literal["cpu", "gpu", "npu"]
    runtime_tested: Version | None


class Lowering(Section):
    """What determines the lowered program, and nothing else; devices that agree here share their programs."""

    engine: Literal["executorch", "coreml"]
    delegates: Annotated[list[Delegate], Field(min_length=1, max_length=8)] = Field(
        description="In order of preference"
    )
    channel_multiple: Annotated[int, Field(ge=1, le=256)] = Field(
        default=8, description="Kept channels are a multiple of this: the width that the kernels work in"
    )


class Thermal(Section):
    """What the device tells of its heat; thresholds in thousandths of the headroom scale."""

    headroom: Fact[Literal["yes", "nan"]]
    status: Fact[Literal["full", "severe_only", "stuck"]]
    light_mh: Fact[Annotated[int, Field(ge=0, le=10_000)]]
    moderate_mh: Fact[Annotated[int, Field(ge=0, le=10_000)]]


class Profile(Section):
    """One device, or one class of devices."""

    id: ProfileName
    title: Text
    platform: Platform
    match: Match
    soc: Fact[Soc]
    cpu: Fact[Cpu]
    gpu: Fact[Text]
    npu: Fact[Npu]
    ram_bytes_min: Fact[Annotated[int, Field(ge=1, le=2**53 - 1)]] = Field(
        description="As the system reports it, which is less than is sold; marketed sizes do not belong here"
    )
    abis: Fact[list[Literal["arm64-v8a", "armeabi-v7a", "x86_64", "x86", "arm64"]]]
    os_min: Fact[Text] = Field(description="API level on Android, version elsewhere")
    thermal: Thermal
    lowering: Lowering
    processing: Processing | None = Field(
        default=None, description="Processors that stages can be mapped to; null runs everything on the CPU"
    )


def program_key(profile: Profile) -> str:
    """What determines the lowered program of a profile: two devices with the same key share one.

    JSON with sorted keys over the engine, the backends in order of preference with their processors, and the channel
    multiple. The versions that were tested do not change a program.
    """
    lowering = profile.lowering
    delegates = [[delegate.backend, delegate.processor] for delegate in lowering.delegates]
    key = {"engine": lowering.engine, "delegates": delegates, "channel_multiple": lowering.channel_multiple}
    return json.dumps(key, sort_keys=True, separators=(",", ":"))
