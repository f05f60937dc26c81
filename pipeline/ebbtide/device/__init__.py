"""Device profiles: what is known of a phone, and what of it determines the programs it needs."""

from ebbtide.device.load import load_profile, profile_names
from ebbtide.device.profile import Fact, Lowering, Match, Platform, Profile, program_key

__all__ = ["Fact", "Lowering", "Match", "Platform", "Profile", "load_profile", "profile_names", "program_key"]
