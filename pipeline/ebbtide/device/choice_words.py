"""A choice of a bundle in words, for people; other languages need not say it alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ebbtide.device.candidate import Candidate, Exclusion
from ebbtide.device.facts import Facts
from ebbtide.device.groups import GroupRule
from ebbtide.errors import EbbtideError

if TYPE_CHECKING:
    from ebbtide.device.choice import Choice

_RECOGNISED: Final = {
    "profile:named": "the device was told that this is its profile",
    "profile:device": "the profile names this device",
    "profile:identifier": "the profile names this identifier",
    "profile:soc": "the profile names this chip",
    "group": "no bundle made for this device can be used, and this one is for any of its platform",
    "default": "no bundle made for this device can be used, this one is for any of its platform, and no group holds",
}


def choice_words(choice: Choice, candidate: Candidate) -> str:
    """Why this bundle and these tiers, in one or two sentences."""
    told = [f"{_RECOGNISED[choice.reason]}; begin with tier {choice.tier} ({choice.width})"]
    count = len(candidate.tiers)
    span = (
        f"tier {choice.minimum_tier}"
        if choice.minimum_tier == choice.maximum_tier
        else f"tiers {choice.minimum_tier} to {choice.maximum_tier}"
    )
    if choice.limit == "memory":
        told.append(f"{span} of {count} fit the memory of its group")
    elif choice.limit == "unknown":
        told.append(f"stay with {span} of {count}, the smallest width, until the device has been measured")
    elif count > 1:
        told.append(f"all {count} tiers may be used")
    said = "; ".join(told)
    if choice.unknown:
        said += f". Not known, so not checked: {', '.join(choice.unknown)}"
    return f"{said[0].upper()}{said[1:]}."


def why_left_out(code: Exclusion, candidate: Candidate, facts: Facts, group: GroupRule | None) -> str:
    """What a candidate lacks, in a few words."""
    if code == "memory":
        needed = min(tier.memory_bytes for tier in candidate.tiers)
        limit = group.memory_bytes_max if group else 0
        return f"needs {needed} bytes of memory, group {group.id if group else '-'} has {limit}"
    lacking = [backend for backend in candidate.backends if backend not in (facts.backends or [])]
    versions = f"{candidate.runtime_min} to below {candidate.runtime_max_exclusive}"
    return {
        "platform": f"is for {candidate.platform}",
        "engine": f"is for {candidate.engine}",
        "runtime_version": f"is for {candidate.engine} {versions}",
        "backend": f"needs the backend {', '.join(lacking)}",
        "profile": f"has the profile {candidate.profile}, which the catalogue does not know",
        "device": f"is for other devices ({candidate.profile})",
        "os": f"its profile {candidate.profile} asks for a newer system",
        "abi": f"its profile {candidate.profile} asks for another ABI",
        "ram": f"its profile {candidate.profile} asks for more RAM",
    }[code]


def no_bundle(
    facts: Facts, candidates: Sequence[Candidate], excluded: Sequence[Exclusion | None], group: GroupRule | None
) -> EbbtideError:
    """The error for a device that no bundle fits."""
    told = [
        f"{candidate.name} for {candidate.profile} {why_left_out(code, candidate, facts, group)}"
        for candidate, code in zip(candidates, excluded, strict=True)
        if code is not None
    ]
    return EbbtideError(
        "device.no_bundle",
        "None of the bundles can be used on this device." if told else "There is no bundle to choose from.",
        expected=f"a bundle for {_device_words(facts)}",
        found="; ".join(told) or "none",
        hint=f"Build one for a profile that recognises the device, or for a default profile of {facts.platform}.",
        place="bundles",
        details={"excluded": list(excluded)},
    )


def _device_words(facts: Facts) -> str:
    parts: list[str] = [facts.platform]
    parts += [name for name in (facts.profile, facts.model, facts.identifier, facts.soc_model) if name]
    if facts.engine or facts.runtime_version:
        parts.append(f"{facts.engine or 'a runtime'} {facts.runtime_version or 'of unknown version'}")
    if facts.backends is not None:
        parts.append(f"with {', '.join(facts.backends) or 'no backend'}")
    return ", ".join(parts)
