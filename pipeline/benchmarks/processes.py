"""Commands of ours run as a user runs them: in processes of their own, with a home and a cache of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

EBB = [str(Path(sys.executable).with_name("ebb"))]


@dataclass(frozen=True)
class Run:
    """One finished command: wall clock, largest memory of all its processes together, standard output."""

    seconds: float
    peak_bytes: int
    output: str

    def json(self) -> Any:
        return json.loads(self.output)


def run(arguments: Sequence[object], *, home: Path, watch_memory: bool = False) -> Run:
    """Run a command to its end; a failure stops the benchmark with what the command said."""
    home.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "HOME": str(home)}
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "EBBTIDE_CACHE", "SOURCE_DATE_EPOCH"):
        environment.pop(name, None)
    said = home / "stdout.txt"
    start = time.perf_counter()
    with said.open("w") as out, (home / "stderr.txt").open("w") as err:
        process = subprocess.Popen([str(a) for a in arguments], env=environment, stdout=out, stderr=err, text=True)
        peak = _watch(process) if watch_memory else 0
        process.wait()
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        raise SystemExit(f"{arguments}: {process.returncode}\n{(home / 'stderr.txt').read_text()[-3000:]}")
    return Run(seconds, peak, said.read_text())


def _watch(process: subprocess.Popen[str]) -> int:
    """Largest sum over the process tree of proportional set sizes: shared pages are counted once."""
    peak = 0
    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            family = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        for member in family:
            try:
                total += member.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        peak = max(peak, total)
        time.sleep(0.2)
    return peak
