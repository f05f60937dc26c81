"""Runs of a comparison, each a process of one thread with one result file; they continue after a kill."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from reds_starts import adapter, is_held

from ebbtide.errors import EbbtideError
from ebbtide.profiling import machine_facts
from ebbtide.steps import code_digest

# glibc gives freed activations back to the system and faults them in again at every step, which costs a fifth.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_TOP_PAD_": str(2**28)}


def make_runs(
    script: Path,
    names: Sequence[str],
    scratch: Path,
    *,
    jobs: int,
    has_ended: Callable[[str], bool],
    ended: Callable[[], None],
) -> None:
    """Make runs, `jobs` at a time, in this order.

    Those that have ended, or that another process of the same scratch folder is making, are passed over.

    Args:
        script: is called with the scratch folder and a run's name.
        names: of the runs.
        scratch: where data, checkpoints and logs lie.
        jobs: at a time.
        has_ended: whether a run's result is there.
        ended: called after each run.
    """
    waiting, failed = list(names), []
    working: dict[subprocess.Popen[bytes], str] = {}
    environment = {**os.environ, **MEMORY, "OMP_NUM_THREADS": "1"}
    while waiting or working:
        while waiting and len(working) < jobs:
            name = waiting.pop(0)
            if has_ended(name) or is_held(scratch / name):
                continue
            with (scratch / f"{name}.log").open("ab") as log:
                command = ["nice", "-n", "5", sys.executable, str(script), str(scratch), name]
                working[subprocess.Popen(command, env=environment, stdout=log, stderr=log)] = name
            print(f"{name}: begun, {len(waiting)} to follow", flush=True)
        time.sleep(2)
        for process in [one for one in working if one.poll() is not None]:
            name = working.pop(process)
            if process.returncode:
                failed.append(name)
                print(f"{name}: failed, see {scratch / name}.log", flush=True)
            ended()
    if failed:
        raise SystemExit(f"failed: {' '.join(failed)}")


def comparison_arguments(about: str | None, name: str, *, further: bool = True) -> argparse.Namespace:
    """What the command line of a comparison says; its scratch folder is made.

    Args:
        about: the script's own words.
        name: of the scratch folder in the system's passing place, where none is given.
        further: whether there are runs beyond the minimal comparison.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("ids", nargs="*", help="figures, or with --runs runs; all by default")
    parser.add_argument("--runs", action="store_true", help="the ids are runs")
    if further:
        parser.add_argument("--further", action="store_true", help="also the runs beyond the minimal comparison")
    parser.add_argument("--no-runs", action="store_true", help="only figures of runs that have ended")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    parser.add_argument("--scratch", type=Path, help="where data and checkpoints go; a killed run continues there")
    given = parser.parse_args()
    place = f"ebbtide-{name}-{hashlib.sha256(str(Path(__file__).parent).encode()).hexdigest()[:8]}"
    given.scratch = given.scratch or Path(tempfile.gettempdir()) / place
    given.scratch.mkdir(parents=True, exist_ok=True)
    return given


def data_are_here() -> bool:
    """Whether runs can be made; where the shared data are missing, that is said."""
    try:
        adapter("shared_data.py:data_folder")()
    except EbbtideError:
        print("left out: all runs (the shared benchmark data are not here; set EBBTIDE_DATA)")
        return False
    return True


def stored_result(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What a run found; None where it has not ended with these settings."""
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found if found["settings"] == settings else None


class Seeded(Protocol):
    """A run of a comparison."""

    @property
    def seed(self) -> int:
        """Of everything random in it."""

    def result(self) -> dict[str, Any] | None:
        """What it found; None where it has not ended."""


def ended_results(runs: Iterable[Seeded]) -> dict[int, dict[str, Any]]:
    """By seed, the results of the runs that have ended."""
    found = {run.seed: run.result() for run in runs}
    return {seed: result for seed, result in found.items() if result is not None}


def circumstances(data: str, began: float) -> dict[str, Any]:
    """What every result says of how it came about: data, code, minutes, machine, and when it ended.

    Args:
        data: digest of the data set.
        began: `time.monotonic` at the run's begin.
    """
    return {
        "data": data,
        "code": code_digest(("ebbtide",)),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "machine": machine_facts().model_dump(mode="json"),
        "ended": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
