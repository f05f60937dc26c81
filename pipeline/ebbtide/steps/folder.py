"""Writing folders so that they are there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ebbtide.errors import EbbtideError

_FULL = {errno.ENOSPC, errno.EDQUOT}
# A file where a folder must be is as unwritable as a folder without the right to write.
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


@contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turn the operating system's word for a full or read-only disk into an error with a way out.

    Raises:
        EbbtideError: ``steps.disk_full`` or ``steps.read_only``; any other OSError passes through.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise EbbtideError(
                "steps.disk_full",
                "The disk is full",
                place=str(error.filename or place),
                found=error.strerror,
                hint="Free some space, or choose another folder with --cache or --output; the same command continues.",
            ) from error
        if error.errno in _READ_ONLY:
            raise EbbtideError(
                "steps.read_only",
                "The folder cannot be written",
                place=str(error.filename or place),
                found=error.strerror,
                hint="Make it writable, or choose another folder with --cache or --output.",
            ) from error
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file and bring it to the disk; at every moment it is whole, as it was before, or absent."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people and programs: two spaces, sorted keys, a last newline."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Bring every file and folder below `folder` to the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        elif path.is_dir():
            _sync_folder(path)
    _sync_folder(folder)


def discard(folder: Path) -> None:
    """Remove a folder whatever state it is in; a missing one is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def replace_folder(new: Path, target: Path) -> None:
    """Put the finished folder `new` in the place of `target`; at every moment `target` is whole or absent.

    Both must lie on one file system. A previous `target` is moved aside first and removed last.
    """
    sync_tree(new)
    old = target.with_name(f".{target.name}.old")
    discard(old)  # left there by a process killed between the two renames
    if target.exists():
        target.rename(old)
    new.rename(target)
    _sync_folder(target.parent)
    discard(old)


@contextmanager
def busy_lock(path: Path, *, doing: str) -> Iterator[None]:
    """Hold `path` for this process alone, or say at once who cannot be served.

    Raises:
        EbbtideError: ``steps.busy`` when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise EbbtideError(
            "steps.busy",
            f"Another process is already {doing}",
            place=str(path),
            hint="Wait for it to end, or give this one another folder with --output.",
        ) from error
    try:
        yield
    finally:
        lock.release()
