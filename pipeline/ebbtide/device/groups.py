"""Groups of devices by rules on facts, each with what is safe for every device in it.

``devices/groups.yaml`` holds them in order: a device is in the first group of which one selector holds, and in a
selector every condition must hold. That is how Google Play's device targeting reads its groups (ranges include their
lower end and exclude their upper one), so that groups can be written as its configuration.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from ebbtide.device.facts import Bytes, Facts, OsVersion, numbers
from ebbtide.device.load import read_document, shipped
from ebbtide.device.profile import Platform
from ebbtide.device.section import ProfileName, Section, Text

Names = Annotated[list[Text], Field(max_length=10_000)]


class Selector(Section):
    """Conditions on facts, all of which must hold; an absent fact fulfils none. One condition at least."""

    platform: Platform | None = None
    device: Names = Field(default=[], description="BRAND/DEVICE, exact, one of these")
    soc: Names = Field(default=[], description="SoC model, exact, one of these")
    identifier: Names = Field(default=[], description="utsname.machine, exact, one of these")
    ram_bytes_min: Bytes | None = Field(default=None, description="At least")
    ram_bytes_below: Bytes | None = Field(default=None, description="Less than")
    os_min: OsVersion | None = Field(default=None, description="At least")
    os_below: OsVersion | None = Field(default=None, description="Less than")
    abis_any: Names = Field(default=[], description="One of these is among the device's")
    abis_none: Names = Field(default=[], description="None of these is among the device's")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError("a selector needs at least one condition")
        return self

    def holds(self, facts: Facts) -> bool:
        """Whether every condition holds."""
        ram, version, abis = facts.ram_bytes, facts.os_version, facts.abis
        return (
            (self.platform is None or facts.platform == self.platform)
            and (not self.device or facts.model in self.device)
            and (not self.soc or facts.soc_model in self.soc)
            and (not self.identifier or facts.identifier in self.identifier)
            and (self.ram_bytes_min is None or (ram is not None and ram >= self.ram_bytes_min))
            and (self.ram_bytes_below is None or (ram is not None and ram < self.ram_bytes_below))
            and (self.os_min is None or (version is not None and numbers(version) >= numbers(self.os_min)))
            and (self.os_below is None or (version is not None and numbers(version) < numbers(self.os_below)))
            and (not self.abis_any or (abis is not None and any(abi in self.abis_any for abi in abis)))
            and (not self.abis_none or (abis is not None and all(abi not in self.abis_none for abi in abis)))
        )


class GroupRule(Section):
    """A group as a phone carries it."""

    id: ProfileName
    any: Annotated[list[Selector], Field(min_length=1, max_length=16)] = Field(description="One of these holds")
    memory_bytes_max: Bytes = Field(description="The most memory that a configuration may need on its devices")


class Ground(Section):
    """Why something is stated: a source with its date, or a choice of this product's with its reason."""

    source: Text | None = None
    date: datetime.date | None = None
    choice: Text | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.source is None) != (self.date is None):
            raise ValueError("a source needs a date, and a date a source")
        if self.source is None and self.choice is None:
            raise ValueError("either a source with its date, or a choice with its reason")
        return self


class Group(GroupRule):
    """A group as ``devices/groups.yaml`` states it."""

    title: Text
    rule: Ground = Field(description="Where the selectors come from")
    limit: Ground = Field(description="Where the memory limit comes from")


class Groups(Section):
    """``devices/groups.yaml``."""

    groups: Annotated[list[Group], Field(max_length=256)] = Field(description="In order: the first that holds counts")

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        names = [group.id for group in self.groups]
        if len(set(names)) != len(names):
            raise ValueError("two groups have the same id")
        return self


GROUPS_FILE: Final = "groups.yaml"


def load_groups(path: Path | None = None) -> list[Group]:
    """Read the groups, in order.

    Args:
        path: another file than the one that comes with Ebbtide.

    Raises:
        EbbtideError: ``device.groups`` if the file is not valid.
    """
    return read_document(path or shipped(GROUPS_FILE), Groups, code="device.groups").groups


def group_of(facts: Facts, groups: Sequence[GroupRule]) -> GroupRule | None:
    """The first group that a device is in; None if it is in none."""
    return next((group for group in groups if any(selector.holds(facts) for selector in group.any)), None)
