"""A full or read-only disk: the command says so, leaves nothing half-written, and the same command continues later."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults_command import Command, unfinished, written

from ebbtide import api

BUILD = {"exits": {"epochs": 2}, "stages": 2}
CHECK = {"model": {"factory": "net.py:net", "trained": True}, "training": None}


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class FullDisk:
    """Calls that need room below one folder, counted; the n-th and all after it find the disk full."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, *, fail_at: int) -> None:
        self.count, self.fail_at, self.folder = 0, fail_at, folder
        for name in ("fsync", "mkdir", "rename", "replace"):
            patch.setattr(os, name, self.wrapped(getattr(os, name)))

    def wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *arguments: Any, **named: Any) -> Any:
            # A file descriptor does not tell its folder; nothing else calls fsync here.
            if isinstance(first, int) or str(first).startswith(str(self.folder)):
                self.count += 1
                if self.count >= self.fail_at:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(first, *arguments, **named)

        return call


def with_full_disk(ebb: Command, fail_at: int, command: str, recipe: Path, *options: object) -> bool:
    """Run until the disk is full, and look at what is left; whether the command came to its end before."""
    with pytest.MonkeyPatch.context() as patch:
        disk = FullDisk(patch, ebb.folder.parent, fail_at=fail_at)
        found = ebb.run(command, recipe, *options)
    if disk.count < fail_at:
        assert found.status == 0, found.text
        return True
    assert (found.status, found.code) == (2, "steps.disk_full"), found.text
    assert "Free some space" in found.hint
    assert unfinished(ebb.cache) == []
    return False


def test_check_says_so_and_leaves_only_finished_steps_wherever_the_disk_fills(ebb: Command) -> None:
    recipe, fail_at = ebb.recipe(**CHECK), 1
    while not with_full_disk(ebb, fail_at, "check", recipe):
        shutil.rmtree(ebb.cache, ignore_errors=True)
        fail_at += 7
    assert fail_at > 20


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small build with its recipe, cache and home, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        ebb = Command(folder, None, patch)
        api.build(ebb.recipe(**BUILD), cache=ebb.cache, output=ebb.output)
    return folder


def test_build_leaves_whole_files_or_none_wherever_the_disk_fills(ebb: Command, prepared: Path) -> None:
    for name in ("project", "cache", "home"):
        shutil.copytree(prepared / name, ebb.folder.parent / name, dirs_exist_ok=True)
    recipe, bundles = ebb.folder / "recipe.yaml", tree(prepared / "out" / "bundles")
    options = ("--measurements", prepared / "out" / "measurements.json")
    # What needs no output is stored once, so that the disk fills while output is written.
    assert ebb.run("build", recipe, *options).status == 0
    fail_at = 1
    shutil.rmtree(ebb.output)
    while not with_full_disk(ebb, fail_at, "build", recipe, *options):
        left = written(ebb.output)
        assert not [path for path in left if path.name.startswith(".") or ".new" in path.name]
        assert tree(ebb.output / "bundles") in ({}, bundles)
        for path in left:
            if path.suffix == ".json":
                json.loads(path.read_bytes())
        shutil.rmtree(ebb.output, ignore_errors=True)
        fail_at += 1
    assert fail_at > 20
    assert tree(ebb.output / "bundles") == bundles


def test_init_leaves_no_file_when_the_disk_is_full(ebb: Command) -> None:
    path = ebb.folder / "new.yaml"
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, ebb.folder.parent, fail_at=1)
        found = ebb.run("init", path)
    assert (found.status, found.code) == (2, "steps.disk_full")
    assert written(ebb.folder) == []


class SmallDisk:
    """A file system in memory whose size can be changed, mounted for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self, *options: str) -> None:
        words = ",".join(("remount", *options))
        subprocess.run(["mount", "-o", words, str(self.folder)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("this process may not mount a file system of its own, so no really full or read-only disk is tried")
    yield SmallDisk(folder)
    # Lazily: what the command mapped into memory may still be open.
    ctypes.CDLL(None).umount2(os.fsencode(folder), 2)


@pytest.mark.slow
def test_build_continues_to_the_same_bundle_when_a_really_full_disk_grows(
    ebb: Command, disk: SmallDisk, prepared: Path
) -> None:
    for name in ("project", "home"):
        shutil.copytree(prepared / name, ebb.folder.parent / name, dirs_exist_ok=True)
    ebb.cache, ebb.output = disk.folder / "cache", disk.folder / "out"
    recipe, kib, refusals = ebb.folder / "recipe.yaml", 16, 0
    while True:
        found = ebb.run("build", recipe, "--measurements", prepared / "out" / "measurements.json")
        if found.status == 0:
            break
        refusals += 1
        assert (found.status, found.code) == (2, "steps.disk_full"), found.text
        assert str(disk.folder) in found.place
        assert unfinished(ebb.cache) == []
        assert not [path for path in written(ebb.output) if ".new" in path.name]
        # Small steps while the steps are quick and small; lowering starts over each time.
        kib += 12 if kib < 100 else kib // 2
        assert kib < 16_000
        disk.set(f"size={kib}k")
    assert refusals >= 5
    assert tree(ebb.output / "bundles") == tree(prepared / "out" / "bundles")


@pytest.mark.parametrize("command", ["check", "build"])
def test_command_says_so_when_the_cache_is_read_only(ebb: Command, disk: SmallDisk, command: str) -> None:
    disk.set("ro")
    ebb.cache = disk.folder / "cache"
    found = ebb.run(command, ebb.recipe())
    assert (found.status, found.code) == (2, "steps.read_only"), found.text
    assert str(disk.folder) in found.place
    assert "--cache" in found.hint
    assert written(ebb.output) == []


def test_build_says_so_when_the_output_is_read_only(ebb: Command, disk: SmallDisk) -> None:
    disk.set("ro")
    ebb.output = disk.folder / "out"
    found = ebb.run("build", ebb.recipe())
    assert (found.status, found.code) == (2, "steps.read_only"), found.text
    assert str(disk.folder) in found.place
    assert "--output" in found.hint
    ebb.assert_no_steps()
