"""Opening a bundle: nothing is used before everything has been checked.

The order is that of trust: the signature over the exact bytes of the manifest, then what the manifest says (strict
JSON, models, references), its sequence, what it asks of the reader, which files are there, and the size and hash of
each. All of it runs in constant memory apart from an xz dictionary, whose size the manifest states and the reader
limits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebbtide.bundle.consistency import version_key
from ebbtide.bundle.files import blocks_of, check_contents, check_hash, open_plain, read_small, verify_file
from ebbtide.bundle.layout import (
    DEFAULT_LIMITS,
    Limits,
    check_limits,
    expected_names,
    is_packed,
    read_manifest_bytes,
    total_bytes,
)
from ebbtide.bundle.manifest import Manifest, RuntimeEntry
from ebbtide.bundle.names import PAYLOAD_NAME, SIGNATURE_NAME
from ebbtide.bundle.parsing import parse_manifest
from ebbtide.bundle.payload import decompress, split_stream
from ebbtide.bundle.signature import MAX_SIGNATURE_BYTES, PublicKey, verify_signature
from ebbtide.errors import EbbtideError


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been checked.

    Attributes:
        folder: where it lies.
        manifest: what it says.
        manifest_bytes: the exact bytes that were signed.
        key_id: the key that signed.
        packed: whether the files lie in ``payload.xz``.
        notes: what a reader chose and why, for people.
    """

    folder: Path
    manifest: Manifest
    manifest_bytes: bytes
    key_id: str
    packed: bool
    notes: tuple[str, ...] = ()

    def path_of(self, name: str) -> Path:
        """The file of a listed path.

        Raises:
            EbbtideError: ``bundle.manifest_reference`` if it is not listed, ``bundle.payload`` if it is still packed.
        """
        if all(entry.path != name for entry in self.manifest.files):
            raise EbbtideError("bundle.manifest_reference", f"The bundle lists no file {name!a}.", place="$.files")
        if self.packed:
            raise EbbtideError(
                "bundle.payload",
                "The files of this bundle are packed.",
                hint="Install it into a store first (`ebb install`), or unpack it.",
                place=str(self.folder / PAYLOAD_NAME),
            )
        return self.folder / name

    def checked_contents(self) -> Iterator[tuple[str, Iterator[memoryview]]]:
        """As `contents`, after a check of which files are there and of a packed payload as a whole.

        Raises:
            EbbtideError: ``bundle.file_*``, ``bundle.extra_file``, ``bundle.payload``.
        """
        check_contents(self.folder, expected_names(self.manifest, packed=self.packed), place=str(self.folder))
        xz = self.manifest.payload.xz
        if self.packed and xz is not None:
            # Before the decoder sees a byte: it reads only what was signed.
            verify_file(self.folder / PAYLOAD_NAME, xz.size, xz.sha256, place=f"{self.folder}/{PAYLOAD_NAME}")
        yield from self.contents()

    def contents(self) -> Iterator[tuple[str, Iterator[memoryview]]]:
        """Path and blocks of each file, in order, checked against size and hash as they pass.

        A file's blocks must be read before the next file is asked for; a view is valid until the next block.
        """
        files = {entry.path: entry for entry in self.manifest.files}
        if self.packed:
            for name, blocks in split_stream(_stream(self), {name: entry.size for name, entry in files.items()}):
                yield name, _checked(blocks, files[name].sha256, f"{self.folder}/{PAYLOAD_NAME}:{name}")
            return
        for name, entry in files.items():
            place = f"{self.folder}/{name}"
            with open_plain(self.folder / name, place=place) as descriptor:
                yield name, _checked(blocks_of(descriptor, entry.size, place=place), entry.sha256, place)


def _stream(bundle: Bundle) -> Iterator[bytes]:
    xz = bundle.manifest.payload.xz
    if xz is None:  # `is_packed` has said otherwise
        raise EbbtideError("bundle.payload", "The bundle has no xz payload.", place="$.payload.xz")
    path = bundle.folder / PAYLOAD_NAME
    return decompress(path, xz, total_bytes(bundle.manifest), place=str(path))


def _checked(blocks: Iterator[memoryview], sha256: str, place: str) -> Iterator[memoryview]:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        yield block
    check_hash(sha256, digest.hexdigest(), place=place)


def open_bundle(
    folder: Path, trusted: Sequence[PublicKey], *, minimum_sequence: int = 0, limits: Limits = DEFAULT_LIMITS
) -> Bundle:
    """Check a bundle's folder completely and open it.

    Args:
        folder: raw, packed or unpacked (see `ebbtide.bundle.layout`).
        trusted: the keys, any one of which may have signed.
        minimum_sequence: the smallest sequence accepted.
        limits: what the reader is willing to spend.

    Raises:
        EbbtideError: ``bundle.*``; ``bundle.rollback`` for a smaller sequence.
    """
    bundle = open_signed(folder, trusted, limits)
    if bundle.manifest.sequence < minimum_sequence:
        raise rolled_back(bundle.manifest.sequence, minimum_sequence, place=str(folder))
    check_files(bundle)
    return bundle


def rolled_back(found: int, minimum: int, *, place: str) -> EbbtideError:
    """The error for a bundle that is older than what it would replace."""
    return EbbtideError(
        "bundle.rollback",
        f"The bundle has sequence {found}.",
        expected=f"at least {minimum}",
        found=str(found),
        hint="Build it again with a larger sequence in the recipe, if it is meant to replace the newer one.",
        place=place,
    )


def open_signed(folder: Path, trusted: Sequence[PublicKey], limits: Limits = DEFAULT_LIMITS) -> Bundle:
    """Check a bundle's signature and manifest, and nothing of its files yet; raises as `open_bundle`."""
    data = read_manifest_bytes(folder, limits)
    signature = read_small(folder / SIGNATURE_NAME, MAX_SIGNATURE_BYTES, place=f"{folder}/{SIGNATURE_NAME}")
    try:
        key_id = verify_signature(data, signature, trusted)
    except EbbtideError as error:
        raise _untrusted_instead(data, signature, trusted, error) from None
    manifest = parse_manifest(data)
    if manifest.key_id != key_id:
        raise EbbtideError(
            "bundle.signature",
            "The manifest states another key than the one that signed it.",
            expected=key_id,
            found=manifest.key_id,
            place="$.key_id",
        )
    check_limits(manifest, limits)
    return Bundle(folder, manifest, data, key_id, is_packed(folder, manifest))


def _untrusted_instead(
    data: bytes, signature: bytes, trusted: Sequence[PublicKey], error: EbbtideError
) -> EbbtideError:
    """The better of two answers to a signature that no trusted key made: the manifest may name an unknown key."""
    try:
        verify_signature(data, signature, trusted, key_id=parse_manifest(data).key_id)
    except EbbtideError as other:
        return other if other.code == "bundle.key_untrusted" else error
    return error


def check_files(bundle: Bundle) -> None:
    """Check that the folder holds exactly the files that the manifest lists, each with its size and hash.

    Raises:
        EbbtideError: ``bundle.file_*``, ``bundle.extra_file``, ``bundle.payload``.
    """
    for _, blocks in bundle.checked_contents():
        for _ in blocks:
            pass


def open_installed(folder: Path, limits: Limits = DEFAULT_LIMITS) -> Bundle:
    """Open a bundle whose signature was checked when it was installed, checking sizes and hashes again.

    Only for folders that nobody but the installer writes to.

    Raises:
        EbbtideError: ``bundle.*``.
    """
    data = read_manifest_bytes(folder, limits)
    manifest = parse_manifest(data)
    check_limits(manifest, limits)
    bundle = Bundle(folder, manifest, data, manifest.key_id, is_packed(folder, manifest))
    check_files(bundle)
    return bundle


def check_runtime(runtime: RuntimeEntry, version: str, backends: Sequence[str]) -> None:
    """Check that a runtime can load the programs of a bundle.

    Args:
        runtime: from the manifest.
        version: the runtime's own version; what follows its three numbers (``+cpu``, ``a0``) is not looked at.
        backends: the names of the backends built into it.

    Raises:
        EbbtideError: ``bundle.runtime_version``.
    """
    numbers = re.match(r"[0-9]+\.[0-9]+\.[0-9]+", version)
    if numbers is None or not (
        version_key(runtime.min) <= version_key(numbers.group()) < version_key(runtime.max_exclusive)
    ):
        raise EbbtideError(
            "bundle.runtime_version",
            f"This {runtime.engine} is {version}, for which the bundle was not built.",
            expected=f"at least {runtime.min}, below {runtime.max_exclusive}",
            found=version,
            hint="Use a runtime of that range, or build the bundle for this one.",
            place="$.runtime",
        )
    lacking = sorted(set(runtime.backends) - set(backends))
    if lacking:
        raise EbbtideError(
            "bundle.runtime_version",
            f"This {runtime.engine} lacks the backend {lacking[0]}.",
            expected=", ".join(runtime.backends),
            found=", ".join(backends) or "none",
            hint="Use a runtime that has it, or build the bundle for another device profile.",
            place="$.runtime.backends",
        )
