"""The store of installed bundles: the last good one is always there.

    <root>/<name>/installed.json                     which folder is current, which was before, the largest sequence
    <root>/<name>/<sequence>-<first of its SHA-256>/ a bundle, unpacked, never changed after its rename
    <root>/<name>/.new/                              an installation under way, or what is left of one
    <root>/.<name>.lock                              held while installing

An installation writes to ``.new``, brings it to the disk, renames it, and only then replaces ``installed.json``
atomically. A kill before that leaves the old bundle current and some garbage, which the next installation removes; a
kill after it leaves the new one. Readers take no lock.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from ebbtide.bundle.files import read_small, sync_folder, write_blocks
from ebbtide.bundle.layout import DEFAULT_LIMITS, Limits
from ebbtide.bundle.manifest import IDENTIFIER_PATTERN
from ebbtide.bundle.names import MANIFEST_NAME, SIGNATURE_NAME, fold
from ebbtide.bundle.reader import Bundle, open_bundle, open_installed, open_signed, rolled_back
from ebbtide.bundle.signature import MAX_SIGNATURE_BYTES, PublicKey
from ebbtide.bundle.strict_json import canonical_bytes, parse_strict
from ebbtide.errors import EbbtideError
from ebbtide.steps import storage_errors

_POINTER: Final = "installed.json"
_NEW: Final = ".new"
_WAIT_SECONDS: Final = 60.0


class Pointer(BaseModel):
    """What ``installed.json`` says: folder names, and the largest sequence ever installed, which only grows."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    current: str
    previous: str | None
    sequence: int


class Store:
    """Installed bundles below a folder that only this store writes to.

    Args:
        root: the folder; made when needed.
        limits: what it is willing to spend on a bundle.
        wait_seconds: how long an installation waits for another one of the same bundle.
    """

    def __init__(self, root: Path, *, limits: Limits = DEFAULT_LIMITS, wait_seconds: float = _WAIT_SECONDS) -> None:
        self.root = root
        self._limits = limits
        self._wait_seconds = wait_seconds

    def names(self) -> tuple[str, ...]:
        """The names of the bundles that have been installed."""
        return tuple(sorted(path.parent.name for path in self.root.glob(f"*/{_POINTER}")))

    def install(self, folder: Path, trusted: Sequence[PublicKey]) -> Bundle:
        """Check a bundle and make it the current one of its name.

        The bundle must have a larger sequence than any installed before; the current bundle itself may be installed
        again, which repairs it.

        Returns:
            The installed bundle.

        Raises:
            EbbtideError: as `open_bundle`; ``bundle.rollback``; ``bundle.busy``; ``steps.disk_full`` and
                ``steps.read_only``, after which the bundle before is still current.
        """
        source = open_signed(folder, trusted, self._limits)
        name = source.manifest.name
        with storage_errors(self.root), self._locked(name):
            home = self._home(name)
            pointer = self._pointer(name)
            target = home / _folder_name(source)
            _check_sequence(source, pointer, target.name)
            self._sweep(home, pointer)
            if pointer is not None and pointer.current == target.name and _is_whole(target):
                return open_bundle(target, trusted, limits=self._limits)
            self._unpack(source, home / _NEW)
            installed = open_bundle(home / _NEW, trusted, limits=self._limits)
            if target.exists():  # damaged, or its installation never came to the pointer
                shutil.rmtree(target)
            os.rename(home / _NEW, target)  # noqa: PTH104
            sync_folder(home)
            previous = _next_previous(pointer, target.name)
            pointer = Pointer(current=target.name, previous=previous, sequence=source.manifest.sequence)
            self._write_pointer(home, pointer)
            self._sweep(home, pointer)
        return Bundle(target, installed.manifest, installed.manifest_bytes, installed.key_id, packed=False)

    def current(self, name: str, trusted: Sequence[PublicKey] | None = None) -> Bundle:
        """The bundle to use now: the current one, or the one before if the current one has been damaged.

        Args:
            name: of the bundle.
            trusted: keys to check the signature with once more; without them only sizes and hashes are checked
                against the manifest, whose signature was checked when it was installed.

        Returns:
            The bundle; its notes say so if it is not the current one.

        Raises:
            EbbtideError: ``bundle.none_installed``, or what is wrong with the current one if there is none before.
        """
        pointer = self._pointer(name)
        while True:
            if pointer is None:
                raise EbbtideError(
                    "bundle.none_installed",
                    f"No bundle {name!a} is installed.",
                    found=", ".join(self.names()) or "an empty store",
                    hint="Install one with `ebb install`.",
                    place=str(self.root),
                )
            try:
                return self._open(self.root / name / pointer.current, trusted)
            except EbbtideError as error:
                # An installation may have removed what the pointer named a moment ago.
                newer = self._pointer(name)
                if newer == pointer:
                    return self._fall_back(name, pointer, trusted, error)
                pointer = newer

    def _fall_back(
        self, name: str, pointer: Pointer, trusted: Sequence[PublicKey] | None, error: EbbtideError
    ) -> Bundle:
        if pointer.previous is None:
            raise error
        try:
            before = self._open(self.root / name / pointer.previous, trusted)
        except EbbtideError:
            raise error from None
        note = f"{pointer.current} is damaged ({error.code}); using {pointer.previous}, the one before"
        return Bundle(
            before.folder, before.manifest, before.manifest_bytes, before.key_id, before.packed, notes=(note,)
        )

    def _open(self, folder: Path, trusted: Sequence[PublicKey] | None) -> Bundle:
        if trusted is None:
            return open_installed(folder, self._limits)
        return open_bundle(folder, trusted, limits=self._limits)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        # Beside the bundle's folder, so that removing that folder does not remove a lock that somebody holds.
        lock = FileLock(self.root / f".{fold(name)}.lock")
        try:
            lock.acquire(timeout=self._wait_seconds)
        except Timeout:
            raise EbbtideError(
                "bundle.busy",
                f"Another process has been installing {name} for {self._wait_seconds:g} seconds.",
                hint="Wait for it to end, then install again.",
                place=str(self.root),
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _home(self, name: str) -> Path:
        """The folder of a bundle, made if need be; names that differ only in case would share it on some systems."""
        twin = next(
            (path.name for path in self.root.iterdir() if path.is_dir() and fold(path.name) == fold(name)), name
        )
        if twin != name:
            raise EbbtideError(
                "bundle.exists",
                f"The store holds a bundle {twin!a}, whose name differs only in case.",
                hint="Rename one of the two in its recipe.",
                place=str(self.root / twin),
            )
        (self.root / name).mkdir(exist_ok=True)
        return self.root / name

    def _pointer(self, name: str) -> Pointer | None:
        path = self.root / name / _POINTER
        if not re.fullmatch(IDENTIFIER_PATTERN, name) or not path.exists():
            return None
        try:
            return Pointer.model_validate(parse_strict(read_small(path, 4096, place=str(path))))
        except (EbbtideError, ValidationError):
            raise EbbtideError(
                "bundle.store",
                "The store's own record is damaged.",
                hint="Remove the folder of this bundle from the store and install it again.",
                place=str(path),
            ) from None

    def _write_pointer(self, home: Path, pointer: Pointer) -> None:
        fresh = home / f"{_NEW}.json"
        write_blocks(fresh, [canonical_bytes(pointer.model_dump())])
        os.replace(fresh, home / _POINTER)  # noqa: PTH105
        sync_folder(home)

    def _sweep(self, home: Path, pointer: Pointer | None) -> None:
        """Remove everything that the pointer does not name. Called with the lock held."""
        kept = {_POINTER}
        if pointer is not None:
            kept |= {pointer.current, pointer.previous or pointer.current}
        for path in home.iterdir():
            if path.name in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _unpack(self, source: Bundle, target: Path) -> None:
        """Write manifest, signature and files; sizes and hashes are checked as they pass."""
        target.mkdir()
        try:
            signature_path = source.folder / SIGNATURE_NAME
            signature = read_small(signature_path, MAX_SIGNATURE_BYTES, place=str(signature_path))
            write_blocks(target / MANIFEST_NAME, [source.manifest_bytes])
            write_blocks(target / SIGNATURE_NAME, [signature])
            folders = {target}
            for name, blocks in source.checked_contents():
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                folders |= {parent for parent in path.parents if target in parent.parents}
                write_blocks(path, blocks)
            for inside in sorted(folders):
                sync_folder(inside)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise


def _folder_name(bundle: Bundle) -> str:
    return f"{bundle.manifest.sequence}-{hashlib.sha256(bundle.manifest_bytes).hexdigest()[:16]}"


def _next_previous(pointer: Pointer | None, target: str) -> str | None:
    """The bundle to keep beside a new current one; a repair keeps the one that was kept."""
    if pointer is None:
        return None
    return pointer.previous if pointer.current == target else pointer.current


def _check_sequence(source: Bundle, pointer: Pointer | None, target: str) -> None:
    if pointer is None or pointer.current == target:
        return
    if source.manifest.sequence <= pointer.sequence:
        raise rolled_back(source.manifest.sequence, pointer.sequence + 1, place=str(source.folder))


def _is_whole(folder: Path) -> bool:
    try:
        open_installed(folder)
    except EbbtideError:
        return False
    return True


@contextmanager
def open_unpacked(folder: Path, trusted: Sequence[PublicKey]) -> Iterator[Bundle]:
    """Check a bundle and give its files to be used where they lie; a packed one is installed in a passing store first.

    Raises:
        EbbtideError: as `open_bundle` and `Store.install`.
    """
    bundle = open_bundle(folder, trusted)
    if not bundle.packed:
        yield bundle
        return
    with tempfile.TemporaryDirectory() as place:
        yield Store(Path(place)).install(folder, trusted)
