"""Engines run programs: eager modules and ExecuTorch's runtime behind one protocol."""

from ebbtide.engine.eager import EagerEngine, EagerLoaded
from ebbtide.engine.executorch import ExecuTorchEngine, ExecuTorchLoaded, fix_threads
from ebbtide.engine.protocol import Array, Engine, Loaded

__all__ = [
    "Array",
    "EagerEngine",
    "EagerLoaded",
    "Engine",
    "ExecuTorchEngine",
    "ExecuTorchLoaded",
    "Loaded",
    "fix_threads",
]
