"""The programs that a session holds: loaded once, warmed up before they are used, closed when nothing needs them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from ebbtide.bundle.manifest import Manifest, ProgramEntry, RuntimeEntry
from ebbtide.bundle.reader import check_runtime
from ebbtide.engine import Engine, Loaded
from ebbtide.errors import EbbtideError
from ebbtide.steps import library_versions

_FORMATS = ("executorch", "coreml")


class Source(Protocol):
    """A checked bundle: its manifest and where its files lie."""

    @property
    def manifest(self) -> Manifest:
        """The manifest, signature and references checked."""
        ...

    def path_of(self, path: str) -> Path:
        """Where a file of the manifest lies on this machine."""
        ...


class Residency:
    """Loaded programs by id. Not safe to share: the session calls it under the lock of its switches.

    Args:
        source: the bundle.
        engine: what loads the programs.
        warm_up: how often each method is run on zeros after its program was loaded, so that the first prediction
            does not pay for touching weights and growing workspaces.
    """

    def __init__(self, source: Source, engine: Engine, warm_up: int) -> None:
        self._source = source
        self._engine = engine
        self._warm_up = warm_up
        self._entries = {entry.id: entry for entry in source.manifest.programs}
        self._loaded: dict[str, Loaded] = {}

    @property
    def loaded(self) -> dict[str, Loaded]:
        """The programs that are loaded, by id (a copy)."""
        return dict(self._loaded)

    def load(self, programs: Iterable[str]) -> None:
        """Load those of `programs` that are not loaded yet; if one fails, those loaded by this call are closed again.

        Raises:
            EbbtideError: what the engine raises, ``engine.load`` for example.
        """
        made: dict[str, Loaded] = {}
        try:
            for program in programs:
                if program not in self._loaded and program not in made:
                    made[program] = self._engine.load(self._source.path_of(_file_of(self._entries[program])))
                    self._warm(made[program], self._entries[program])
        except BaseException:
            for loaded in made.values():
                loaded.close()
            raise
        self._loaded |= made

    def keep_only(self, programs: Iterable[str]) -> None:
        """Close every program that is not in `programs`; nothing may be running in them."""
        kept = set(programs)
        for program in [name for name in self._loaded if name not in kept]:
            self._loaded.pop(program).close()

    def _warm(self, loaded: Loaded, entry: ProgramEntry) -> None:
        for method in entry.methods:
            zeros = np.zeros(method.inputs[0].shape, dtype=np.float32)
            for _ in range(self._warm_up):
                loaded.run(method.name, zeros)


def check_engine(runtime: RuntimeEntry, engine: Engine) -> None:
    """Refuse a bundle that was lowered for another runtime or another version of it.

    Engines that run no lowered programs, the eager one for example, take every bundle.

    Raises:
        EbbtideError: ``runtime.engine``, ``bundle.runtime_version``.
    """
    if engine.name not in _FORMATS:
        return
    if engine.name != runtime.engine:
        raise EbbtideError(
            "runtime.engine",
            f"The bundle was lowered for {runtime.engine}.",
            expected=runtime.engine,
            found=engine.name,
            hint="build it for a device profile whose runtime this is",
            place="$.runtime.engine",
        )
    if engine.name == "executorch":
        # Which backends are built in shows when a program that needs one is loaded; the version has to be asked for.
        check_runtime(runtime, library_versions(["executorch"])["executorch"], runtime.backends)


def _file_of(entry: ProgramEntry) -> str:
    if entry.file is None:
        raise EbbtideError(
            "runtime.engine",
            f"Program {entry.id!r} has a file for each method, which this runtime cannot load.",
            expected="a program in the form pte",
            found=entry.format,
            place=entry.id,
        )
    return entry.file
