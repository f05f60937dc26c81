"""A manifest as a candidate for a device: the part that a choice of a bundle reads."""

from __future__ import annotations

from ebbtide.bundle.manifest import ConfigurationEntry, Manifest
from ebbtide.device import Candidate, CandidateTier


def candidate_of(manifest: Manifest) -> Candidate:
    """The candidate that a bundle is, with what each of its tiers needs."""
    configurations = {entry.id: entry for entry in manifest.configurations}
    runtime = manifest.runtime
    return Candidate(
        name=manifest.name,
        sequence=manifest.sequence,
        profile=manifest.device.profile,
        platform=manifest.device.platform,
        engine=runtime.engine,
        runtime_min=runtime.min,
        runtime_max_exclusive=runtime.max_exclusive,
        backends=list(runtime.backends),
        tiers=[_tier(manifest, configurations[name]) for name in manifest.tiers],
    )


def _tier(manifest: Manifest, configuration: ConfigurationEntry) -> CandidateTier:
    """All files of a program count once a path calls it, because it is loaded as a whole."""
    called = {step.method.rpartition("/")[0] for step in configuration.path}
    programs = [program for program in manifest.programs if program.id in called]
    # A path has one width. A program's own file, or the folders of its methods.
    paths = {program.file for program in programs} | {method.file for program in programs for method in program.methods}
    size = sum(entry.size for entry in manifest.files if any(_is_in(entry.path, path) for path in paths))
    return CandidateTier(width=programs[0].width, file_bytes=size, peak_bytes=configuration.expected.peak_bytes)


def _is_in(path: str, place: str | None) -> bool:
    return place is not None and (path == place or path.startswith(f"{place}/"))
