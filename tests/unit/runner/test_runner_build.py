"""`tools/runner` on machines that lack something."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The script with nothing in its path but what finds itself."""
    for name in ("bash", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    command = [folder / "bash", ROOT / "tools" / "runner", *arguments]
    return subprocess.run(command, env={"PATH": str(folder)}, capture_output=True, text=True, check=False)


def test_without_a_compiler_the_script_says_what_to_install(tmp_path: Path) -> None:
    done = run(tmp_path, BIN)
    assert done.returncode == 1
    assert "there is no C++ compiler" in done.stderr
    assert "apt-get install g++" in done.stderr


@pytest.mark.parametrize("missing", ["compiler", "cmake"])
def test_where_it_is_optional_what_is_left_out_is_said_and_is_no_failure(tmp_path: Path, missing: str) -> None:
    if missing == "cmake":
        (tmp_path / "c++").symlink_to("/bin/false")
    done = run(tmp_path, tmp_path if missing == "cmake" else BIN, "--optional")
    assert done.returncode == 0
    assert done.stdout.startswith("runner: left out: ")
    assert missing in done.stdout
    assert done.stderr == ""
