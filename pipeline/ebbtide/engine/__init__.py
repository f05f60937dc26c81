"""Engines run programs: eager modules and ExecuTorch's runtime behind one protocol.

The engines are imported when they are first named, because they bring torch along and the protocol alone does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ebbtide.engine.layout import Layout
from ebbtide.engine.protocol import Array, Engine, Loaded

if TYPE_CHECKING:
    from ebbtide.engine.eager import EagerEngine, EagerLoaded
    from ebbtide.engine.executorch import ExecuTorchEngine, ExecuTorchLoaded, fix_threads

_HOMES = {
    "EagerEngine": "eager",
    "EagerLoaded": "eager",
    "ExecuTorchEngine": "executorch",
    "ExecuTorchLoaded": "executorch",
    "fix_threads": "executorch",
}

__all__ = [
    "Array",
    "EagerEngine",
    "EagerLoaded",
    "Engine",
    "ExecuTorchEngine",
    "ExecuTorchLoaded",
    "Layout",
    "Loaded",
    "fix_threads",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
