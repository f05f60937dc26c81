"""The built runner, and a small but real bundle for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runner_bundles import draft, lowered_programs

from ebbtide.bundle import Bundle, PrivateKey, new_key, open_bundle, write_bundle

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def runner() -> Path:
    """The runner, built if it is not up to date; a machine that cannot build it says why."""
    command = [ROOT / "tools" / "runner", Path(sys.executable).parent, "--optional"]
    build = subprocess.run(command, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    said = build.stdout.strip().splitlines()[-1]
    if "left out" in said:
        pytest.skip(said)
    return ROOT / "build" / "runner" / "ebbtide-runner"


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> PrivateKey:
    return new_key(tmp_path_factory.mktemp("keys") / "dev.pem")


@pytest.fixture(scope="session")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The programs of two widths, lowered for ExecuTorch."""
    return lowered_programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, lowered: dict[str, Path], key: PrivateKey) -> Bundle:
    """A signed raw bundle; tests that change files take a copy."""
    folder = tmp_path_factory.mktemp("bundles") / "flowers"
    write_bundle(folder, draft(), lowered, key=key, payload="raw")
    return open_bundle(folder, [key.public])
