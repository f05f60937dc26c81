"""A bundle as far as a choice reads its manifest, and why a choice may leave it out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.device.facts import MAX_INTEGER, Engine
from ebbtide.device.profile import Platform, Version
from ebbtide.device.section import ProfileName, Section, Text

Exclusion = Literal[
    "platform", "engine", "runtime_version", "backend", "profile", "device", "os", "abi", "ram", "memory"
]
"""In the order in which they are looked at."""


class CandidateTier(Section):
    """A tier: the width its configuration runs, and what that needs."""

    width: Annotated[str, Field(pattern=r"^w[0-9]{1,3}$")]
    file_bytes: Annotated[int, Field(ge=0, le=MAX_INTEGER)] = Field(description="All files of the programs on its path")
    peak_bytes: Annotated[int, Field(ge=0, le=MAX_INTEGER)] = Field(description="The largest activations on its path")

    @property
    def memory_bytes(self) -> int:
        """What it may take: a program's file and the copy that the runtime packs of it, and the activations."""
        return 2 * self.file_bytes + self.peak_bytes

    @property
    def percent(self) -> int:
        """The width as a number."""
        return int(self.width[1:])


class Candidate(Section):
    """A bundle that is there, as far as a choice reads its manifest."""

    name: Text
    sequence: Annotated[int, Field(ge=0, le=MAX_INTEGER)]
    profile: ProfileName
    platform: Platform
    engine: Engine
    runtime_min: Version
    runtime_max_exclusive: Version
    backends: Annotated[list[ProfileName], Field(max_length=16)]
    tiers: Annotated[list[CandidateTier], Field(min_length=1, max_length=4)]
