"""What changed between two bundles, and how many bytes travel to bring a phone from one to the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ebbtide.bundle.payload import compress, dictionary_for
from ebbtide.bundle.reader import Bundle


@dataclass(frozen=True)
class Changes:
    """Names that are only in the new bundle, only in the old one, or in both with different content."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True)
class FileChange:
    """One path: ``same`` and ``moved`` content is already on the phone, ``new`` and ``changed`` content must travel."""

    path: str
    state: Literal["same", "moved", "changed", "new", "removed"]
    size_bytes: int


@dataclass(frozen=True)
class BundleDiff:
    """What changed from one bundle to the next.

    Attributes:
        name: of both, or "old -> new".
        sequence: old and new.
        settings: top-level parts of the manifest that differ and are not listed below.
        configurations, programs: by id. tiers: old and new.
        files: every path of either bundle.
        new_bytes: content that the old bundle does not hold under any path, each once.
        new_xz_bytes: that content as one xz stream: what travels to a phone that holds the old bundle.
        full_xz_bytes: the new bundle's whole content as one xz stream: what travels to any other phone.
    """

    name: str
    sequence: tuple[int, int]
    settings: tuple[str, ...]
    configurations: Changes
    programs: Changes
    tiers: tuple[tuple[str, ...], tuple[str, ...]]
    files: tuple[FileChange, ...]
    new_bytes: int
    new_xz_bytes: int
    full_xz_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def diff_bundles(old: Bundle, new: Bundle) -> BundleDiff:
    """Compare two bundles that have been opened. Content is compared by SHA-256, so a moved file costs nothing."""
    a, b = old.manifest, new.manifest
    held = {entry.sha256 for entry in a.files}
    travels = {entry.sha256: entry.path for entry in reversed(b.files) if entry.sha256 not in held}
    sizes = {entry.path: entry.size for entry in b.files}
    listed = {"name", "sequence", "created", "key_id", "generator", "configurations", "programs", "tiers", "files"}
    return BundleDiff(
        name=b.name if a.name == b.name else f"{a.name} -> {b.name}",
        sequence=(a.sequence, b.sequence),
        settings=tuple(
            name for name in type(b).model_fields if name not in listed and getattr(a, name) != getattr(b, name)
        ),
        configurations=_changes({c.id: c for c in a.configurations}, {c.id: c for c in b.configurations}),
        programs=_changes({p.id: p for p in a.programs}, {p.id: p for p in b.programs}),
        tiers=(a.tiers, b.tiers),
        files=tuple(_file_changes(old, new)),
        new_bytes=sum(sizes[path] for path in travels.values()),
        new_xz_bytes=_stream_bytes(new, set(travels.values())) if travels else 0,
        full_xz_bytes=b.payload.xz.size if b.payload.xz is not None else _stream_bytes(new, set(sizes)),
    )


def _changes(old: dict[str, Any], new: dict[str, Any]) -> Changes:
    return Changes(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name, entry in new.items() if name in old and old[name] != entry),
    )


def _file_changes(old: Bundle, new: Bundle) -> Iterator[FileChange]:
    before = {entry.path: entry for entry in old.manifest.files}
    held = {entry.sha256 for entry in old.manifest.files}
    for entry in new.manifest.files:
        state: Literal["same", "moved", "changed", "new"] = "changed" if entry.path in before else "new"
        if entry.path in before and before[entry.path].sha256 == entry.sha256:
            state = "same"
        elif entry.sha256 in held:
            state = "moved"
        yield FileChange(entry.path, state, entry.size)
    kept = {entry.path for entry in new.manifest.files}
    for path, gone in before.items():
        if path not in kept:
            yield FileChange(path, "removed", gone.size)


def _stream_bytes(bundle: Bundle, paths: set[str]) -> int:
    """How large some files of a bundle are as one stream, as the writer would make it."""
    largest = max((entry.size for entry in bundle.manifest.files), default=0)

    def blocks() -> Iterator[bytes | memoryview]:
        for name, content in bundle.contents():
            for block in content:
                if name in paths:
                    yield block

    return sum(len(piece) for piece in compress(blocks(), dictionary_for(largest)))
