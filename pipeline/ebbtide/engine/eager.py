"""The engine that runs plain PyTorch modules: the reference that lowered programs are held against."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ebbtide.engine.checks import checked_input, closed_error, unknown_method
from ebbtide.engine.protocol import Array
from ebbtide.errors import EbbtideError, nearest


class EagerLoaded:
    """Modules by method name, run under `torch.inference_mode`; see `Loaded`."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules: dict[str, nn.Module] | None = dict(modules)
        self._names = tuple(sorted(modules))
        self._lock = threading.Lock()

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the modules, sorted."""
        return self._names

    def run(self, method: str, tensor: Array) -> tuple[Array, ...]:
        """Run one module; shapes are checked by the module itself, the batch may be any size."""
        with self._lock:
            if self._modules is None:
                raise closed_error(method)
            module = self._modules.get(method)
            if module is None:
                raise unknown_method(method, self._names)
            value = torch.from_numpy(checked_input(method, tensor, shape=None))
            try:
                with torch.inference_mode():
                    result = module(value)
            except (RuntimeError, TypeError) as error:
                raise EbbtideError(
                    "engine.failed",
                    f"Method {method!r} failed on an input of shape {list(tensor.shape)}: {error}.",
                    place=method,
                ) from error
            outputs = result if isinstance(result, (tuple, list)) else (result,)
            # A module may hand back its input or a view of a weight; the caller is promised memory of its own.
            return tuple(output.detach().clone().numpy() for output in outputs)

    def close(self) -> None:
        """Forget the modules."""
        with self._lock:
            self._modules = None


class EagerEngine:
    """Runs programs that are given as modules instead of files.

    Args:
        programs: for each program, by its id (the file's name without suffix), its modules by method name.
            Modules are used as they are: put them in eval mode first.
    """

    name = "eager"

    def __init__(self, programs: Mapping[str, Mapping[str, nn.Module]]) -> None:
        self._programs = {program: dict(modules) for program, modules in programs.items()}

    def load(self, program: Path) -> EagerLoaded:
        """Give the program whose id is ``program.stem``; nothing is read from disk."""
        modules = self._programs.get(program.stem)
        if modules is None:
            known = sorted(self._programs)
            close = nearest(program.stem, known)
            raise EbbtideError(
                "engine.no_program",
                f"The eager engine was given no program {program.stem!r}.",
                expected=f"one of {', '.join(known) or 'none'}",
                hint=f"did you mean {close!r}?" if close else None,
                place=str(program),
            )
        return EagerLoaded(modules)
