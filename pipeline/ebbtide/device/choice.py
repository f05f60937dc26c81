"""Which bundle a device gets, and with which tier it begins.

`choose` is a pure function on integers and texts, so that the same choice is made in every language;
``tests/vectors/choice`` holds all of them to it. Its rule, in order:

1. A bundle is left out for the first of these that it fails: platform, engine, runtime version, backends; a profile
   that is known and recognises the device (or is its platform's default); that profile's own demands on system, ABI
   and RAM; memory for at least one tier.
2. Of the others the one wins whose profile recognises the device best: told by name (of one that is no default), by
   brand and device, by Apple's identifier, by SoC, by default. Then the larger sequence, then the profile's id and the
   bundle's name in the order of their bytes, then the earlier one.
3. The device's group limits the tiers to those whose memory it has: twice the files (as read, and as packed by the
   runtime) and the largest activations. A device that no profile recognises and that is in no group is unknown: it
   keeps to the smallest width until somebody has measured it.
4. A device that a profile recognises begins with the best tier allowed; any other one with the smallest width
   allowed, from which the policy climbs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from ebbtide.device.candidate import Candidate, CandidateTier, Exclusion
from ebbtide.device.catalog import Catalog, ProfileRule
from ebbtide.device.choice_words import no_bundle
from ebbtide.device.facts import Facts, numbers
from ebbtide.device.groups import GroupRule, group_of

Recognised = Literal["named", "device", "identifier", "soc", "default"]
Reason = Literal["profile:named", "profile:device", "profile:identifier", "profile:soc", "group", "default"]
Limit = Literal["none", "memory", "unknown"]

ORDER: Final[tuple[Recognised, ...]] = ("named", "device", "identifier", "soc", "default")
"""How a profile can recognise a device, the surest first."""
DEFAULT: Final = "default"
_REASONS: Final[dict[Recognised, Reason]] = {
    "named": "profile:named",
    "device": "profile:device",
    "identifier": "profile:identifier",
    "soc": "profile:soc",
    "default": "default",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen and why.

    Attributes:
        candidate: its index.
        reason: how the device was matched: by a profile (and by which rule), by a group, or not at all.
        group: the group that the device is in, None if none.
        limit: why not all tiers are allowed: ``memory``, or ``unknown`` for a device of which too little is known.
        tier: to begin with.
        minimum_tier: the best tier allowed; the application's limit for the policy.
        maximum_tier: the cheapest tier allowed.
        width: of `tier`.
        widest: the widest of the tiers allowed.
        unknown: facts that were absent where a check needed them, in the order of `Facts`.
        excluded: for each candidate why it could not be used, None where it could.
    """

    candidate: int
    reason: Reason
    group: str | None
    limit: Limit
    tier: int
    minimum_tier: int
    maximum_tier: int
    width: str
    widest: str
    unknown: tuple[str, ...]
    excluded: tuple[Exclusion | None, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**asdict(self), "unknown": list(self.unknown), "excluded": list(self.excluded)}


@dataclass(frozen=True, slots=True)
class _Judged:
    """A candidate that can be used: how its profile recognised the device, and the first and last tier allowed."""

    index: int
    recognised: Recognised
    tiers: tuple[int, int]


def choose(facts: Facts, candidates: Sequence[Candidate], catalog: Catalog) -> Choice:
    """Choose a bundle for a device.

    Args:
        facts: what the application read.
        candidates: the bundles that are there.
        catalog: profiles and groups.

    Raises:
        EbbtideError: ``device.no_bundle`` if none can be used, with what was expected and why each was left out.
    """
    profiles = {profile.id: profile for profile in catalog.profiles}
    group = group_of(facts, catalog.groups)
    usable: list[_Judged] = []
    excluded: list[Exclusion | None] = []
    for index, candidate in enumerate(candidates):
        found = _judge(index, candidate, facts, profiles.get(candidate.profile), group)
        excluded.append(None if isinstance(found, _Judged) else found)
        if isinstance(found, _Judged):
            usable.append(found)
    if not usable:
        raise no_bundle(facts, candidates, excluded, group)
    best = min(usable, key=lambda one: _rank(one, candidates[one.index]))
    return _choice(best, candidates[best.index], facts, profiles, group, excluded)


def recognises(profile: ProfileRule, facts: Facts) -> Recognised | None:
    """By which of its rules a profile recognises a device, the surest if several do; None if by none."""
    if profile.platform != facts.platform:
        return None
    match = profile.match
    if profile.id == facts.profile and not match.default:  # to be told that it is any device tells nothing
        return "named"
    if facts.model in match.device:
        return "device"
    if facts.identifier in match.identifier:
        return "identifier"
    if facts.soc_model in match.soc:
        return "soc"
    return DEFAULT if match.default else None


def _judge(
    index: int, candidate: Candidate, facts: Facts, profile: ProfileRule | None, group: GroupRule | None
) -> _Judged | Exclusion:
    lacking = _runtime_lacks(candidate, facts)
    if lacking is not None:
        return lacking
    if profile is None:
        return "profile"
    recognised = recognises(profile, facts)
    if recognised is None:
        return "device"
    refused = _profile_refuses(profile, facts)
    if refused is not None:
        return refused
    tiers = _allowed(candidate.tiers, _rule(candidate.tiers, recognised, group))
    return "memory" if tiers is None else _Judged(index, recognised, tiers)


def _runtime_lacks(candidate: Candidate, facts: Facts) -> Exclusion | None:
    if candidate.platform != facts.platform:
        return "platform"
    if facts.engine is not None and candidate.engine != facts.engine:
        return "engine"
    if facts.runtime_version is not None:
        version = numbers(facts.runtime_version)
        if not numbers(candidate.runtime_min) <= version < numbers(candidate.runtime_max_exclusive):
            return "runtime_version"
    if facts.backends is not None and any(backend not in facts.backends for backend in candidate.backends):
        return "backend"
    return None


def _profile_refuses(profile: ProfileRule, facts: Facts) -> Exclusion | None:
    os_min, abis, ram = profile.os_min, profile.abis, profile.ram_bytes_min
    if os_min is not None and facts.os_version is not None and numbers(facts.os_version) < numbers(os_min):
        return "os"
    if abis is not None and facts.abis is not None and all(abi not in abis for abi in facts.abis):
        return "abi"
    if ram is not None and facts.ram_bytes is not None and facts.ram_bytes < ram:
        return "ram"
    return None


def _rule(
    tiers: Sequence[CandidateTier], recognised: Recognised, group: GroupRule | None
) -> Callable[[CandidateTier], bool]:
    """Which tiers a device may use."""
    if group is not None:
        return lambda tier: tier.memory_bytes <= group.memory_bytes_max
    if recognised == DEFAULT:
        smallest = min(tier.percent for tier in tiers)
        return lambda tier: tier.percent == smallest
    return lambda tier: True


def _allowed(tiers: Sequence[CandidateTier], allows: Callable[[CandidateTier], bool]) -> tuple[int, int] | None:
    """The first and last tier of the run of allowed tiers that ends with the cheapest of them; None if there is none.

    One run, because that is what a policy can be limited to.
    """
    last = max((index for index, tier in enumerate(tiers) if allows(tier)), default=None)
    if last is None:
        return None
    first = last
    while first > 0 and allows(tiers[first - 1]):
        first -= 1
    return first, last


def _rank(judged: _Judged, candidate: Candidate) -> tuple[int, int, bytes, bytes, int]:
    return (
        ORDER.index(judged.recognised),
        -candidate.sequence,
        candidate.profile.encode(),
        candidate.name.encode(),
        judged.index,
    )


def _choice(
    best: _Judged,
    candidate: Candidate,
    facts: Facts,
    profiles: dict[str, ProfileRule],
    group: GroupRule | None,
    excluded: Sequence[Exclusion | None],
) -> Choice:
    first, last = best.tiers
    allowed = range(first, last + 1)
    tier, limit = first, _limit(best, candidate, group)
    if best.recognised == DEFAULT:
        # The first of the smallest width: cheaper tiers of that width are for the policy to go down to.
        tier = min(allowed, key=lambda index: candidate.tiers[index].percent)
    return Choice(
        candidate=best.index,
        reason=_REASONS[best.recognised] if best.recognised != DEFAULT or group is None else "group",
        group=group.id if group else None,
        limit=limit,
        tier=tier,
        minimum_tier=first,
        maximum_tier=last,
        width=candidate.tiers[tier].width,
        widest=candidate.tiers[max(allowed, key=lambda index: candidate.tiers[index].percent)].width,
        unknown=_unknown(candidate, facts, profiles[candidate.profile]),
        excluded=tuple(excluded),
    )


def _limit(best: _Judged, candidate: Candidate, group: GroupRule | None) -> Limit:
    if best.tiers == (0, len(candidate.tiers) - 1):
        return "none"
    return "memory" if group else "unknown"


def _unknown(candidate: Candidate, facts: Facts, profile: ProfileRule) -> tuple[str, ...]:
    """The absent facts that a check of this candidate would have needed."""
    needed = {
        "ram_bytes": True,  # groups ask for it
        "os_version": profile.os_min is not None,
        "abis": profile.abis is not None,
        "engine": True,
        "runtime_version": True,
        "backends": bool(candidate.backends),
    }
    return tuple(name for name, asked in needed.items() if asked and getattr(facts, name) is None)
