"""Device profiles and groups: what is known of a phone, which programs it needs, and which bundle it gets."""

from ebbtide.device.candidate import Candidate, CandidateTier
from ebbtide.device.catalog import Catalog, load_catalog
from ebbtide.device.choice import Choice, choose
from ebbtide.device.choice_words import choice_words, why_left_out
from ebbtide.device.facts import Facts, facts_from, host_facts, read_facts
from ebbtide.device.groups import group_of, load_groups
from ebbtide.device.load import load_profile, profile_names
from ebbtide.device.processing import Link, Processing, Processor, StageTimes, Stated
from ebbtide.device.profile import Fact, Lowering, Match, Platform, Profile, program_key

__all__ = [
    "Candidate",
    "CandidateTier",
    "Catalog",
    "Choice",
    "Fact",
    "Facts",
    "Link",
    "Lowering",
    "Match",
    "Platform",
    "Processing",
    "Processor",
    "Profile",
    "StageTimes",
    "Stated",
    "choice_words",
    "choose",
    "facts_from",
    "group_of",
    "host_facts",
    "load_catalog",
    "load_groups",
    "load_profile",
    "profile_names",
    "program_key",
    "read_facts",
    "why_left_out",
]
