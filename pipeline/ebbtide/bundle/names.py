"""Names of files inside a bundle: plain, relative, the same file on every file system.

A name that one system reads as a path upwards, a drive, a device or another spelling of a second file would let a
bundle write outside its folder or replace one file by another. The rules are the intersection of what Linux, Android,
Apple's and Windows' file systems take literally.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"
PAYLOAD_NAME = "payload.xz"

MAX_NAME_BYTES = 240
MAX_SEGMENT_BYTES = 120
MAX_SEGMENTS = 8

_OWN = frozenset({MANIFEST_NAME, SIGNATURE_NAME, PAYLOAD_NAME})
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")})
_FORBIDDEN = frozenset('<>:"|?*\\')


def fold(name: str) -> str:
    """The key under which two names are the same file on a system that ignores case or composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def fault_of_name(name: str) -> str | None:
    """Why a file name may not stand in a manifest, or None if it may."""
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "holds half of a surrogate pair"
    size_bytes = len(name.encode())
    if not 0 < size_bytes <= MAX_NAME_BYTES:
        return f"has {size_bytes} bytes, not 1 to {MAX_NAME_BYTES}"
    if name.startswith("/"):
        return "is absolute"
    if any(ord(character) < 32 or ord(character) == 127 or character in _FORBIDDEN for character in name):
        return 'holds a control character or one of < > : " | ? * \\'
    if name != unicodedata.normalize("NFC", name):
        return "is not in Unicode normal form C"
    if fold(name) in _OWN:
        return "is the name of one of the bundle's own files"
    segments = name.split("/")
    if len(segments) > MAX_SEGMENTS:
        return f"has more than {MAX_SEGMENTS} segments"
    return next((fault for segment in segments if (fault := _fault_of_segment(segment))), None)


def _fault_of_segment(segment: str) -> str | None:
    if segment == "":
        return "has an empty segment"
    if segment in (".", ".."):
        return f"has a segment {segment!r}"
    if segment[-1] in ". " or segment[0] == " ":
        return "has a segment that begins with a space or ends in a space or a dot"
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        return f"has a segment of more than {MAX_SEGMENT_BYTES} bytes"
    if segment.split(".")[0].casefold() in _DEVICES:
        return "has a segment that names a device on Windows"
    return None


def fault_of_set(names: Iterable[str]) -> tuple[int, str] | None:
    """The index of the first name that collides with an earlier one and why, or None.

    Collisions are the same name, a name equal but for case or composition, and a name that is a folder of another.
    """
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for index, name in enumerate(names):
        key = fold(name)
        if files.get(key) == name:
            return index, "is listed twice"
        if key in files:
            return index, f"differs from {files[key]!r} only in case"
        if key in folders:
            return index, f"is a folder of {folders[key]!r}"
        parts, spelled = key.split("/"), name.split("/")
        for length in range(1, len(parts)):
            folder = "/".join(parts[:length])
            if folder in files:
                return index, f"lies in {files[folder]!r}, which is a file"
            first = folders.setdefault(folder, name)
            if first.split("/")[:length] != spelled[:length]:
                return index, f"lies in a folder that differs from that of {first!r} only in case"
        files[key] = name
    return None
