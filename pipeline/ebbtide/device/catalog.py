"""What a phone must know to choose a bundle: how profiles recognise devices, what they ask for, and the groups.

``devices/catalog.json`` is generated from ``devices/profiles`` and ``devices/groups.yaml``, without sources and dates,
for an application to carry.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ebbtide.device.facts import Bytes, OsVersion, leading_version
from ebbtide.device.groups import GroupRule, load_groups
from ebbtide.device.load import HOST, host_platform, profile_names, read_profile
from ebbtide.device.profile import Match, Platform, Profile
from ebbtide.device.section import ProfileName, Section, Text
from ebbtide.errors import EbbtideError


class ProfileRule(Section):
    """How a profile recognises a device, and what it asks of it; what is null is not asked."""

    id: ProfileName
    platform: Platform
    match: Match
    os_min: OsVersion | None = None
    abis: list[Text] | None = Field(default=None, description="The device has one of these")
    ram_bytes_min: Bytes | None = None


class Catalog(Section):
    """All profiles, in the order of their ids, and all groups, in their own."""

    format: Literal[1] = 1
    profiles: Annotated[list[ProfileRule], Field(max_length=10_000)]
    groups: Annotated[list[GroupRule], Field(max_length=256)]


def rule_of(profile: Profile) -> ProfileRule:
    """The part of a profile that a choice reads.

    Raises:
        EbbtideError: ``device.profile`` where its system's version does not begin with a number.
    """
    asked = profile.os_min.value
    try:
        return ProfileRule(
            id=profile.id,
            platform=profile.platform,
            match=profile.match,
            os_min=None if asked is None else leading_version(asked) or asked,
            abis=None if profile.abis.value is None else [str(abi) for abi in profile.abis.value],
            ram_bytes_min=profile.ram_bytes_min.value,
        )
    except ValidationError:
        raise EbbtideError(
            "device.profile",
            "The profile's system has no number as version.",
            expected="one to three numbers, such as 34 or 17.2",
            found=asked,
            place=f"{profile.id}.yaml: os_min",
        ) from None


def catalog_of(profiles: Sequence[Profile], groups: Sequence[GroupRule]) -> Catalog:
    """The catalogue of these profiles and groups; raises as `rule_of`."""
    return Catalog(
        profiles=[rule_of(profile) for profile in sorted(profiles, key=lambda profile: profile.id)],
        groups=[GroupRule(id=one.id, any=one.any, memory_bytes_max=one.memory_bytes_max) for one in groups],
    )


def load_catalog() -> Catalog:
    """The catalogue of the profiles and groups that come with Ebbtide, this machine's own profile among them.

    That one is matched by name only.

    Raises:
        EbbtideError: ``device.profile``, ``device.groups``.
    """
    host = read_profile(HOST).model_copy(update={"platform": host_platform()})
    return catalog_of([*_profiles_of_phones(), host], load_groups())


def catalog_bytes() -> bytes:
    """``devices/catalog.json`` as it must be: keys that have their default are left out, and so is this machine."""
    catalog = catalog_of(_profiles_of_phones(), load_groups())
    document = {"format": catalog.format, **catalog.model_dump(mode="json", exclude_defaults=True)}
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _profiles_of_phones() -> list[Profile]:
    return [read_profile(name) for name in profile_names() if name != HOST]
