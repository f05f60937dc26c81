"""One small real build, shared by all end-to-end tests of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "pipeline" / "examples" / "digits.yaml"
# Enough training that exits and tiers make sense, little enough for a test. Widths have a build of their own.
QUICK = ["training.epochs=3", "exits.types=[pool-linear]", "widths=null"]
EBB = [sys.executable, "-c", "from ebbtide.cli import main; main()"]


@dataclass(frozen=True)
class Ebb:
    """The command line with a cache and a home of its own."""

    home: Path

    def environment(self) -> dict[str, str]:
        # Each command would compile every library again where the caller forbids bytecode.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, "HOME": str(self.home), "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "", "EBBTIDE_CACHE": ""}

    def start(self, *arguments: object, cwd: Path | None = None) -> subprocess.Popen[str]:
        # A session of its own, so that a test can kill lowering's worker processes with it.
        return subprocess.Popen(
            [*EBB, *map(str, arguments)],
            env=self.environment(),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: object, status: int = 0, cwd: Path | None = None) -> str:
        process = self.start(*arguments, cwd=cwd)
        out, err = process.communicate()
        assert process.returncode == status, f"{arguments}: {process.returncode}\n{out}\n{err}"
        return out if status == 0 else out + err

    def json(self, *arguments: object, status: int = 0) -> Any:
        out = self(*arguments, "--json", status=status)
        return json.loads(out[: out.rindex("}") + 1] if status == 0 else out[: out.index("\n}") + 2])


def build_arguments(output: Path, *extra: object, cache: Path | None = None) -> list[object]:
    """`ebb build` of the quick digits recipe."""
    settings = [word for one in QUICK for word in ("--set", one)]
    where = ["--cache", cache] if cache else []
    return ["build", RECIPE, *settings, "--output", output, *where, *extra]


@pytest.fixture(scope="session")
def ebb(tmp_path_factory: pytest.TempPathFactory) -> Ebb:
    return Ebb(tmp_path_factory.mktemp("home"))


@dataclass(frozen=True)
class BuiltOnce:
    """A finished build: its output, its cache and what `ebb build --json` said."""

    output: Path
    cache: Path
    said: dict[str, Any]

    @property
    def bundle(self) -> Path:
        return self.output / "bundles" / "host"

    @property
    def key(self) -> Path:
        return self.output / "public.pem"


@pytest.fixture(scope="session")
def built(ebb: Ebb, tmp_path_factory: pytest.TempPathFactory) -> BuiltOnce:
    base = tmp_path_factory.mktemp("built")
    said = ebb.json(*build_arguments(base / "out", cache=base / "cache"))
    return BuiltOnce(base / "out", base / "cache", said)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
