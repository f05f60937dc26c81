"""Reading and writing single files with bounds: no links followed, nothing read beyond what is allowed."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ebbtide.errors import EbbtideError

BLOCK_BYTES = 1024 * 1024

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def open_plain(path: Path, *, place: str) -> Iterator[int]:
    """A descriptor for reading a plain file; its last segment may not be a link.

    Raises:
        EbbtideError: ``bundle.file_missing``, ``bundle.file_kind``.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise wrong_kind(place, "a link") from None
        raise EbbtideError(
            "bundle.file_missing", "The file cannot be read.", found=error.strerror, place=place
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise wrong_kind(place, "something else")
        yield descriptor
    finally:
        os.close(descriptor)


def wrong_kind(place: str, found: str) -> EbbtideError:
    """The error for a link, a device, a pipe or a folder where a plain file belongs."""
    return EbbtideError(
        "bundle.file_kind",
        "A bundle holds plain files and folders only.",
        expected="a plain file",
        found=found,
        place=place,
    )


def blocks_of(descriptor: int, size_bytes: int, *, place: str) -> Iterator[memoryview]:
    """The content of a file in blocks; a view is valid until the next one is asked for.

    Raises:
        EbbtideError: ``bundle.file_size`` if the file has not exactly that size, before its end is trusted.
    """
    actual = os.fstat(descriptor).st_size
    buffer = memoryview(bytearray(min(BLOCK_BYTES, size_bytes + 1)))
    stream = io.FileIO(descriptor, "rb", closefd=False)
    done = 0
    while actual == size_bytes:
        count = stream.readinto(buffer) or 0
        done += count
        if count == 0 or done > size_bytes:
            actual = done
            break
        yield buffer[:count]
    if done != size_bytes:
        raise wrong_size(size_bytes, actual, place=place)


def wrong_size(expected: int, found: int, *, place: str) -> EbbtideError:
    """The error for a file that is longer or shorter than stated."""
    return EbbtideError(
        "bundle.file_size",
        "The file does not have the size that the manifest states.",
        expected=f"{expected} bytes",
        found=f"{found} bytes",
        hint="Fetch the bundle again from its source.",
        place=place,
    )


def check_hash(expected: str, found: str, *, place: str) -> None:
    """Compare two SHA-256 in hexadecimal.

    Raises:
        EbbtideError: ``bundle.file_hash``.
    """
    if expected != found:
        raise EbbtideError(
            "bundle.file_hash",
            "The file is not the one that the manifest states.",
            expected=expected,
            found=found,
            hint="Fetch the bundle again from its source.",
            place=place,
        )


def read_small(path: Path, limit_bytes: int, *, place: str) -> bytes:
    """The whole content of a small plain file.

    Raises:
        EbbtideError: ``bundle.limit`` if it is larger than the limit; as `open_plain`.
    """
    with open_plain(path, place=place) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > limit_bytes:
            raise EbbtideError(
                "bundle.limit",
                "The file is larger than readers accept.",
                expected=f"at most {limit_bytes} bytes",
                found=f"{size} bytes",
                place=place,
            )
        return b"".join(bytes(block) for block in blocks_of(descriptor, size, place=place))


def verify_file(path: Path, size_bytes: int, sha256: str, *, place: str) -> None:
    """Check size and hash of a plain file in constant memory; raises as the functions above."""
    with open_plain(path, place=place) as descriptor:
        digest = hashlib.sha256()
        for block in blocks_of(descriptor, size_bytes, place=place):
            digest.update(block)
    check_hash(sha256, digest.hexdigest(), place=place)


def write_blocks(path: Path, blocks: Iterable[bytes | memoryview]) -> None:
    """Write a new file and bring it to the disk; one that exists is an error of the caller's."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
    try:
        for block in blocks:
            write_all(descriptor, block)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write everything; the system may take less than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_contents(folder: Path, expected: Iterable[str], *, place: str) -> None:
    """Check that a folder holds exactly the expected plain files, and no folder beyond theirs.

    Raises:
        EbbtideError: ``bundle.file_kind``, ``bundle.extra_file``, ``bundle.file_missing``.
    """
    files = set(expected)
    folders = {name[:at] for name in files for at, letter in enumerate(name) if letter == "/"}
    found: set[str] = set()
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            entries = os.scandir(folder / inside)
        except OSError as error:
            raise EbbtideError(
                "bundle.file_missing", "The folder cannot be read.", found=error.strerror, place=place
            ) from None
        with entries:
            for entry in entries:
                name = f"{inside}/{entry.name}".lstrip("/")
                where = f"{place}/{ascii(name)[1:-1]}"
                is_folder = entry.is_dir(follow_symlinks=False)
                if not is_folder and not entry.is_file(follow_symlinks=False):
                    raise wrong_kind(where, "a link" if entry.is_symlink() else "something else")
                if name not in (folders if is_folder else files):
                    raise EbbtideError(
                        "bundle.extra_file",
                        "This is not in the manifest.",
                        hint="Remove it, or fetch the bundle again from its source.",
                        place=where,
                    )
                if is_folder:
                    waiting.append(name)
                else:
                    found.add(name)
    missing = sorted(files - found)
    if missing:
        raise EbbtideError(
            "bundle.file_missing",
            f"{len(missing)} files of the bundle are not there, {missing[0]!a} among them.",
            hint="Fetch the bundle again from its source.",
            place=f"{place}/{missing[0]}",
        )
