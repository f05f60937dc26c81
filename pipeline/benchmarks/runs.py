"""Runs of a comparison, each a process of one thread with one result file; they continue after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from reds_starts import is_held

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
