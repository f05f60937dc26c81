"""kill -9 at any moment, then the same command: it continues, and the bundle is byte-equal."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest_e2e import BuiltOnce, Ebb, build_arguments, tree

KILLS = 10


def kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def finished_steps(cache: Path) -> set[str]:
    return {str(path.parent) for path in cache.glob("*/*/step.json") if not path.parent.name.startswith(".")}


def kill_after_next_step(ebb: Ebb, arguments: list[object], cache: Path) -> bool:
    """Run until one more step is stored, then kill -9; False if the build came to its end instead."""
    before = finished_steps(cache)
    process = ebb.start(*arguments)
    deadline = time.monotonic() + 300
    while process.poll() is None:
        assert time.monotonic() < deadline
        if finished_steps(cache) - before:
            kill(process)
            return True
        time.sleep(0.002)
    _, err = process.communicate()
    assert process.returncode == 0, err
    return False


@pytest.mark.timeout(900)
def test_build_is_byte_equal_when_killed_at_every_step_boundary(ebb: Ebb, built: BuiltOnce, tmp_path: Path) -> None:
    cache, output = tmp_path / "cache", tmp_path / "out"
    arguments = build_arguments(output, "--measurements", built.output / "measurements.json", cache=cache)
    kills = 0
    while kill_after_next_step(ebb, arguments, cache):
        kills += 1
        assert kills < 60
    assert kills >= 12
    assert tree(output / "bundles") == tree(built.output / "bundles")
    assert not [p for p in output.rglob("*") if ".new" in p.name]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_build_is_byte_equal_when_killed_at_random_moments(
    ebb: Ebb, built: BuiltOnce, tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    cache, output = tmp_path / "cache", tmp_path / "out"
    arguments = build_arguments(output, "--measurements", built.output / "measurements.json", cache=cache)
    kills = 0
    for _ in range(KILLS):
        process = ebb.start(*arguments)
        try:
            process.wait(moments.uniform(0.5, 12.0))
            process.communicate()
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
    ebb(*arguments)
    assert kills > 1
    assert tree(output / "bundles") == tree(built.output / "bundles")
    assert not [p for p in output.rglob("*") if ".new" in p.name]


def test_second_build_into_the_same_folder_is_refused_while_the_first_runs(ebb: Ebb, tmp_path: Path) -> None:
    cache, output = tmp_path / "cache", tmp_path / "out"
    first = ebb.start(*build_arguments(output, cache=cache))
    try:
        deadline = time.monotonic() + 60
        while not list(cache.glob("data/*/step.json")):
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.05)
        assert "steps.busy" in ebb(*build_arguments(output, cache=cache), status=2)
        assert first.poll() is None
    finally:
        kill(first)


def test_build_with_a_cache_that_cannot_be_written_says_so(ebb: Ebb, tmp_path: Path) -> None:
    # A file in the cache's place cannot be written into by anybody, root included.
    blocked = tmp_path / "cache"
    blocked.write_text("")
    assert "steps.read_only" in ebb(*build_arguments(tmp_path / "out", cache=blocked), status=2)
    assert not (tmp_path / "out" / "bundles").exists()
