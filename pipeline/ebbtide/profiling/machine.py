"""What a measurement was made on, as far as it moves times. No host names, users or paths: records are published."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, Field

from ebbtide.steps import library_versions

_LIBRARIES = ("ebbtide", "executorch", "numpy", "torch")


class MachineFacts(BaseModel):
    """One machine and the versions on it.

    `governor` is the frequency governor of the first core where the system shows one, else None; `cores_usable` the
    cores that this process may run on; `load_average` the system's one-minute load when the facts were read, a hint
    that other work was running.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cpu_model: str
    architecture: str
    cores_logical: int = Field(ge=1)
    cores_physical: int | None = Field(default=None, ge=1)
    cores_usable: int = Field(ge=1)
    governor: str | None = None
    memory_bytes: int = Field(ge=1)
    system: str
    python: str
    load_average: float | None = None
    versions: dict[str, str]


def machine_facts() -> MachineFacts:
    """Read the facts of this machine; whatever cannot be read is None, never guessed."""
    return MachineFacts(
        cpu_model=_cpu_model(Path("/proc/cpuinfo")),
        architecture=platform.machine() or "unknown",
        cores_logical=os.cpu_count() or 1,
        cores_physical=psutil.cpu_count(logical=False),
        cores_usable=_cores_usable(),
        governor=_first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        memory_bytes=int(psutil.virtual_memory().total),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load_average=_load_average(),
        versions=library_versions(_LIBRARIES),
    )


def _cpu_model(cpuinfo: Path) -> str:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        # Arm kernels call it "Hardware" or give no name at all.
        if name.strip() in {"model name", "Hardware"} and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _cores_usable() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
