"""The store of finished steps."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ebbtide.steps.digest import canonical_json, code_digest, digest_json, file_digest, library_versions
from ebbtide.steps.folder import discard, replace_folder, storage_errors, write_bytes
from ebbtide.steps.progress import Progress, silent

_RECORD = "step.json"

Produce = Callable[[Path, Path], None]
"""``produce(folder, scratch)`` fills `folder`; what it leaves in `scratch` is there again after a kill."""


@dataclass(frozen=True)
class StepRecord:
    """What happened to one step of this build.

    Attributes:
        name: the step.
        key: SHA-256 of its inputs, code and library versions.
        folder: its output.
        reused: whether it was found in the store.
        seconds: how long it took when it was made.
    """

    name: str
    key: str
    folder: Path
    reused: bool
    seconds: float


class StepStore:
    """Runs steps, or finds that they have been run.

    Layout: ``<root>/<step>/<key>/`` holds the output and ``step.json`` with the size and SHA-256 of every file;
    ``<root>/scratch/<key>/`` what an unfinished step wants to find again. A stored entry is checked against its
    hashes each time it is used; a damaged one is recomputed, and that is said.

    Args:
        root: the cache folder; made when needed.
        progress: where reuse and repair are told.
    """

    def __init__(self, root: Path, *, progress: Progress = silent) -> None:
        self.root = root
        self.records: list[StepRecord] = []
        self._progress = progress

    def run(
        self,
        name: str,
        inputs: Mapping[str, Any],
        produce: Produce,
        *,
        code: Iterable[str] = (),
        libraries: Iterable[str] = (),
    ) -> Path:
        """The folder with the step's output, made now if it is not stored.

        Args:
            name: a plain word; the step's folder in the store.
            inputs: everything the output depends on, as JSON; files by their digest.
            produce: fills the folder it is given. It must not leave anything elsewhere.
            code: packages of ours whose sources decide the output, like ``ebbtide.data``.
            libraries: distributions whose version decides the output.

        Raises:
            EbbtideError: ``steps.disk_full``, ``steps.read_only``, or what `produce` raises; nothing is stored then.
        """
        what = _what(name, inputs, code, libraries)
        key = digest_json(what)
        target = self.root / name / key
        with storage_errors(self.root):
            target.parent.mkdir(parents=True, exist_ok=True)
            # Another build may make the same step: the second waits and then finds it.
            with FileLock(self.root / name / f".{key}.lock"):
                seconds = self._stored_seconds(target)
                if seconds is None:
                    seconds = self._make(name, key, produce, target=target, what=what)
                    reused = False
                else:
                    reused = True
        self.records.append(StepRecord(name=name, key=key, folder=target, reused=reused, seconds=seconds))
        return target

    def has(
        self, name: str, inputs: Mapping[str, Any], *, code: Iterable[str] = (), libraries: Iterable[str] = ()
    ) -> bool:
        """Whether an output is stored; it may still turn out to be damaged."""
        return (self.root / name / digest_json(_what(name, inputs, code, libraries)) / _RECORD).is_file()

    def _make(self, name: str, key: str, produce: Produce, *, target: Path, what: Mapping[str, Any]) -> float:
        scratch = self.root / "scratch" / key
        # One fixed name: the lock makes us alone here, and what a killed build left must go.
        new = target.with_name(f".{key}.new")
        discard(new)
        start = time.monotonic()
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            new.mkdir()
            produce(new, scratch)
            seconds = time.monotonic() - start
            record = {"what": what, "seconds": seconds, "files": _listing(new)}
            write_bytes(new / _RECORD, canonical_json(record))
            replace_folder(new, target)
        except BaseException:
            discard(new)
            # What a step left there is for the next attempt; an empty folder is not.
            with contextlib.suppress(OSError):
                scratch.rmdir()
            raise
        discard(scratch)
        return seconds

    def _stored_seconds(self, target: Path) -> float | None:
        """How long the stored step took, or None if it is absent or damaged (then it is removed, and said)."""
        if not target.is_dir():
            return None
        try:
            record = json.loads((target / _RECORD).read_bytes())
            if _listing(target) == record["files"]:
                return float(record["seconds"])
            reason = "its files do not match their hashes"
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"its record cannot be read ({type(error).__name__})"
        self._progress.say(f"The stored step {target.parent.name} is damaged ({reason}); it is computed again.")
        discard(target)
        return None

    def digest(self, path: Path) -> str:
        """SHA-256 of a file, or of a folder's names and contents; unchanged files are not read again.

        A file counts as unchanged when path, size, inode and both times (nanoseconds) are.
        """
        if path.is_dir():
            digest = hashlib.sha256()
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                digest.update(f"{file.relative_to(path).as_posix()}\0{self.digest(file)}\0".encode())
            return digest.hexdigest()
        status = path.stat()
        facts = [str(path.resolve()), status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
        memo = self.root / "digests" / digest_json(facts)
        try:
            return memo.read_text()
        except OSError:
            found = file_digest(path)
        with storage_errors(self.root):
            memo.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(memo, found.encode())
        return found


def _what(name: str, inputs: Mapping[str, Any], code: Iterable[str], libraries: Iterable[str]) -> dict[str, Any]:
    """Everything that a step's output depends on; its digest is the key."""
    return {
        "format": 1,
        "step": name,
        "inputs": dict(inputs),
        "code": code_digest(tuple(code)),
        "libraries": library_versions(libraries),
    }


def _listing(folder: Path) -> dict[str, list[Any]]:
    """Size and SHA-256 of every file of a step but its record."""
    return {
        path.relative_to(folder).as_posix(): [path.stat().st_size, file_digest(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _RECORD
    }
