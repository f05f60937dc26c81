"""Writing a bundle: hashed while copied, signed, and in its place whole or not at all.

The same draft, files and key give the same bytes: keys stand in the order of the models, files in the order given,
signatures are deterministic, and `created` comes from ``SOURCE_DATE_EPOCH`` where that is set. An xz payload is the
same with the same version of liblzma.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import ebbtide
from ebbtide.bundle.files import check_contents, sync_folder, write_blocks
from ebbtide.bundle.layout import DEFAULT_LIMITS, check_limits, expected_names, is_packed, read_manifest_bytes
from ebbtide.bundle.manifest import (
    BundleDraft,
    FileEntry,
    Manifest,
    PayloadEntry,
    XzEntry,
    manifest_bytes,
)
from ebbtide.bundle.names import MANIFEST_NAME, PAYLOAD_NAME, SIGNATURE_NAME, fault_of_name, fault_of_set
from ebbtide.bundle.parsing import parse_manifest
from ebbtide.bundle.payload import compress, dictionary_for, file_blocks
from ebbtide.bundle.signature import PrivateKey
from ebbtide.errors import EbbtideError
from ebbtide.steps import replace_folder, storage_errors


def write_bundle(
    folder: Path,
    draft: BundleDraft,
    files: Mapping[str, Path],
    *,
    key: PrivateKey,
    payload: str = "raw",
    created: datetime | None = None,
) -> Manifest:
    """Write a signed bundle.

    Args:
        folder: where it will lie. A bundle of the same name that lies there is replaced; anything else is refused.
        draft: the manifest without what follows from the files and the key.
        files: path in the bundle -> file to copy; the widest program first, if the payload is packed.
        key: signs the manifest.
        payload: ``raw`` or ``xz``.
        created: what the manifest states, unless ``SOURCE_DATE_EPOCH`` is set; now, if left out.

    Returns:
        The manifest as written.

    Raises:
        EbbtideError: ``bundle.exists``; ``bundle.file_missing`` for a source that cannot be read;
            ``bundle.manifest_*`` if the parts do not fit; ``bundle.source_date``; ``steps.disk_full`` and
            ``steps.read_only``, after which nothing is left of the attempt.
    """
    folder = folder.absolute()
    stamp = _created(created)
    _check_sources(files)
    _check_target(folder, draft.name)
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        work = folder.with_name(f".{folder.name}.{os.getpid()}.new")
        os.mkdir(work)  # noqa: PTH102
        try:
            entries, packed = _write_content(work, draft, files, payload)
            manifest = Manifest(
                **{name: getattr(draft, name) for name in BundleDraft.model_fields},
                created=stamp,
                generator=f"ebbtide {ebbtide.__version__}",
                key_id=key.public.key_id,
                files=entries,
                payload=packed,
            )
            data = manifest_bytes(manifest)
            # What a reader would refuse is refused here, before anybody has it.
            check_limits(parse_manifest(data), DEFAULT_LIMITS)
            write_blocks(work / MANIFEST_NAME, [data])
            write_blocks(work / SIGNATURE_NAME, [key.sign(data)])
            sync_folder(work)
            replace_folder(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return manifest


def _created(given: datetime | None) -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None:
        if not re.fullmatch(r"[0-9]{1,11}", epoch):
            raise EbbtideError(
                "bundle.source_date",
                f"SOURCE_DATE_EPOCH is {epoch!a}.",
                expected="seconds since 1970, a whole number",
                hint="Set it to the time of the last commit, or unset it.",
                place="SOURCE_DATE_EPOCH",
            )
        given = datetime.fromtimestamp(int(epoch), UTC)
    return (given or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_sources(files: Mapping[str, Path]) -> None:
    for name, source in files.items():
        fault = fault_of_name(name)
        if fault:
            raise EbbtideError("bundle.manifest_value", f"The path {name!a} {fault}.", place=name)
        if not source.is_file():
            raise EbbtideError("bundle.file_missing", f"There is no file to copy to {name!a}.", place=str(source))
    collision = fault_of_set(files)
    if collision:
        name = list(files)[collision[0]]
        raise EbbtideError("bundle.manifest_duplicate", f"The path {name!a} {collision[1]}.", place=name)


def _check_target(folder: Path, name: str) -> None:
    """Only a whole bundle of that name, with nothing of the user's among its files, may be replaced."""
    if not (folder.exists() or folder.is_symlink()):
        return
    found = "a file or a link"
    if folder.is_dir() and not folder.is_symlink():
        if not any(folder.iterdir()):
            return
        try:
            manifest = parse_manifest(read_manifest_bytes(folder))
            names = expected_names(manifest, packed=is_packed(folder, manifest))
            check_contents(folder, names, place=str(folder))
            if manifest.name == name:
                return
            found = f"the bundle {manifest.name}"
        except EbbtideError as error:
            found = f"a folder that is not a whole bundle ({error.code})"
    raise EbbtideError(
        "bundle.exists",
        "There is something else already, and it would be lost.",
        expected=f"nothing, or the bundle {name}",
        found=found,
        hint="Choose another folder, or move what is there away.",
        place=str(folder),
    )


def sweep(folder: Path) -> None:
    """Remove what attempts at the same place left behind whose processes are gone."""
    for path in folder.parent.glob(f".{_literal(folder.name)}.*.new"):
        pid = path.name.split(".")[-2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    import psutil  # not needed by readers, who share this package

    return pid != os.getpid() and bool(psutil.pid_exists(pid))


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _write_content(
    work: Path, draft: BundleDraft, files: Mapping[str, Path], form: str
) -> tuple[tuple[FileEntry, ...], PayloadEntry]:
    entries: list[FileEntry] = []

    def hashed(name: str, source: Path) -> Iterator[memoryview]:
        digest, size = hashlib.sha256(), 0
        for block in file_blocks(source):
            digest.update(block)
            size += len(block)
            yield block
        entries.append(FileEntry(path=name, size=size, sha256=digest.hexdigest()))

    if form == "raw":
        for name, source in files.items():
            target = work / name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_blocks(target, hashed(name, source))
        return tuple(entries), PayloadEntry(format="raw")
    dictionary = dictionary_for(_widest_program(draft, {name: path.stat().st_size for name, path in files.items()}))
    stream = (block for name, source in files.items() for block in hashed(name, source))
    digest, size = hashlib.sha256(), 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for piece in compress(stream, dictionary):
            digest.update(piece)
            size += len(piece)
            yield piece

    write_blocks(work / PAYLOAD_NAME, counted())
    xz = XzEntry(size=size, sha256=digest.hexdigest(), dictionary_bytes=dictionary)
    return tuple(entries), PayloadEntry(format="xz", xz=xz)


def _widest_program(draft: BundleDraft, sizes: Mapping[str, int]) -> int:
    """The bytes of the largest program; that of an .mlpackage is the sum over the folders of its methods."""
    largest = 0
    for program in draft.programs:
        if program.file is not None:
            size = sizes.get(program.file, 0)
        else:
            folders = tuple(f"{method.file}/" for method in program.methods)
            size = sum(bytes_ for name, bytes_ in sizes.items() if name.startswith(folders))
        largest = max(largest, size)
    return largest
