"""Where the parts of a bundle lie in its folder.

| layout   | payload.format | in the folder                                        |
|----------|----------------|------------------------------------------------------|
| raw      | raw            | manifest.json, manifest.sig, the files at their paths |
| packed   | xz             | manifest.json, manifest.sig, payload.xz               |
| unpacked | xz             | as raw: what a store makes of a packed bundle         |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ebbtide.bundle.files import read_small
from ebbtide.bundle.manifest import Manifest
from ebbtide.bundle.names import MANIFEST_NAME, PAYLOAD_NAME, SIGNATURE_NAME
from ebbtide.bundle.strict_json import MAX_BYTES
from ebbtide.errors import EbbtideError


@dataclass(frozen=True)
class Limits:
    """What a reader is willing to spend on a bundle, whatever its manifest says.

    Attributes:
        manifest_bytes: the largest manifest.
        total_bytes: the largest sum of the sizes of all files, as stated and as decoded.
        dictionary_bytes: the largest xz dictionary, which is memory.
    """

    manifest_bytes: int = MAX_BYTES
    total_bytes: int = 4 * 1024**3
    dictionary_bytes: int = 512 * 1024**2


DEFAULT_LIMITS: Final = Limits()


def is_packed(folder: Path, manifest: Manifest) -> bool:
    """Whether the files lie in ``payload.xz``."""
    payload = folder / PAYLOAD_NAME
    return manifest.payload.format == "xz" and (payload.exists() or payload.is_symlink())


def expected_names(manifest: Manifest, *, packed: bool) -> list[str]:
    """The names of all files that a bundle's folder holds."""
    content = [PAYLOAD_NAME] if packed else [entry.path for entry in manifest.files]
    return [MANIFEST_NAME, SIGNATURE_NAME, *content]


def total_bytes(manifest: Manifest) -> int:
    """The sum of the sizes of the files, unpacked."""
    return sum(entry.size for entry in manifest.files)


def check_limits(manifest: Manifest, limits: Limits) -> None:
    """Refuse a bundle that states more than a reader is willing to hold.

    Raises:
        EbbtideError: ``bundle.limit`` with the JSON path.
    """
    stated = [("$.files", "bytes in all files", total_bytes(manifest), limits.total_bytes)]
    if manifest.payload.xz is not None:
        place, xz = "$.payload.xz", manifest.payload.xz
        stated.append((f"{place}.dictionary_bytes", "dictionary bytes", xz.dictionary_bytes, limits.dictionary_bytes))
        # A stream that does not shrink is stored with less than one part in a thousand of framing.
        most = total_bytes(manifest) + total_bytes(manifest) // 1000 + 4096
        stated.append((f"{place}.size", "payload bytes", xz.size, most))
    for place, what, found, limit in stated:
        if found > limit:
            raise EbbtideError(
                "bundle.limit",
                f"The manifest states {found} {what}.",
                expected=f"at most {limit}",
                hint="If the bundle is meant to be that large, raise the limit of the reader.",
                place=place,
            )


def read_manifest_bytes(folder: Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The exact bytes of a bundle's manifest, not verified."""
    return read_small(folder / MANIFEST_NAME, limits.manifest_bytes, place=f"{folder}/{MANIFEST_NAME}")
