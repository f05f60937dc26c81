"""The engine that runs .pte programs with ExecuTorch's own Python runtime."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ebbtide.engine.checks import checked_input, closed_error, strides_of, unknown_method
from ebbtide.engine.layout import Layout, input_layouts
from ebbtide.engine.protocol import Array
from ebbtide.errors import EbbtideError

_NUMPY_FLOAT32 = np.dtype(np.float32)
_FLOAT32 = 6  # ScalarType::Float in ExecuTorch's portable_type/scalar_type.h

_threads_lock = threading.Lock()
_threads_fixed: int | None = None


def _bindings() -> Any:
    # The public name of these bindings, portable_lib, brings the whole exporter along (3.6 s); it adds nothing to them.
    # They need torch's libraries loaded first, which this module's own import has done.
    return importlib.import_module("executorch.extension.pybindings._C")


def fix_threads(threads: int | None) -> int:
    """Fix the number of threads that ExecuTorch uses in this process, and give the number in force.

    Every XNNPACK delegate keeps a raw pointer to the thread pool that was there when it was loaded, and a new count
    replaces the pool. So the count is set at most once, before the first program is loaded.

    Args:
        threads: >= 1, or None for the count already fixed, else the runtime's own (the performance cores).

    Raises:
        EbbtideError: ``engine.threads`` if another count is already fixed or the number is not positive.
    """
    global _threads_fixed
    if threads is not None and threads < 1:
        raise EbbtideError("engine.threads", "The number of threads must be positive.", found=str(threads))
    bindings = _bindings()
    with _threads_lock:
        if _threads_fixed is None:
            if threads is not None and threads != bindings._threadpool_get_thread_count():
                bindings._unsafe_reset_threadpool(threads)
            _threads_fixed = int(bindings._threadpool_get_thread_count())
        if threads is not None and threads != _threads_fixed:
            raise EbbtideError(
                "engine.threads",
                f"ExecuTorch already runs with {_threads_fixed} threads in this process.",
                expected=f"{_threads_fixed}, or no number",
                found=str(threads),
                hint="measure another thread count in a process of its own",
            )
        return _threads_fixed


class _Method(NamedTuple):
    """A loaded method and the one form of input whose bytes it can be given."""

    call: Any
    shape: tuple[int, ...]
    layout: Layout
    strides: tuple[int, ...]


class ExecuTorchLoaded:
    """A .pte program with all its methods loaded; see `Loaded`.

    The methods of a program share their arenas, so one lock holds over running and copying.

    The bindings hold Python's interpreter lock while they load a method and while they run one (measured: another
    thread makes no step meanwhile). Methods are loaded one by one and the lock is free in between, so a thread that
    predicts with another program waits for the load of one method at a time: 6 ms for a ResNet-56 in one method, less
    where a program is cut into stages. To load in another thread does not shorten these pauses; only a runtime without
    an interpreter does. In turn, a thread that loads waits for busy ones whenever it gives the lock away.

    Args:
        program: the file.

    Raises:
        EbbtideError: ``engine.no_program``, ``engine.load``.
    """

    def __init__(self, program: Path) -> None:
        self._lock = threading.Lock()
        self._methods: dict[str, _Method] | None = None
        bindings = _bindings()
        name = "the program"
        try:
            layouts = input_layouts(program)
            # The program must outlive its methods; each keeps it alive through the bindings as well.
            self._program: Any = bindings._load_program(
                str(program), program_verification=bindings.Verification.InternalConsistency
            )
            methods = {}
            for index in range(self._program.num_methods()):
                name = self._program.get_method_name(index)
                shape = _input_shape(self._program, name, program)
                methods[name] = _Method(
                    self._program.load_method(name), shape, layouts[name], strides_of(shape, layouts[name])
                )
        except OSError as error:
            raise EbbtideError(
                "engine.no_program",
                f"The program file cannot be opened: {error.strerror}.",
                found=str(program),
                place=str(program),
            ) from error
        except (RuntimeError, ValueError) as error:
            raise EbbtideError(
                "engine.load",
                f"ExecuTorch cannot load {name!r} of {program.name}: {error}.",
                hint="the file is damaged, or was lowered for another version or a back end that is not here",
                place=str(program),
            ) from error
        self._methods = methods
        self._names = tuple(sorted(methods))

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the program's methods, sorted."""
        return self._names

    def run(self, method: str, tensor: Array) -> tuple[Array, ...]:
        """Run one method; see `Loaded.run`."""
        with self._lock:
            if self._methods is None:
                raise closed_error(method)
            try:
                call, shape, layout, strides = self._methods[method]
            except KeyError:
                raise unknown_method(method, self._names) from None
            # The runtime copies bytes without a look at strides, so another order would be silently wrong.
            # What a stage put out is as the next one takes it: seen here without another call.
            if not (
                type(tensor) is np.ndarray
                and tensor.strides == strides
                and tensor.shape == shape
                and tensor.dtype is _NUMPY_FLOAT32
                and tensor.flags.behaved
            ):
                tensor = checked_input(method, tensor, shape=shape, layout=layout)
            try:
                outputs = call((torch.from_numpy(tensor),), False)
            except RuntimeError as error:
                raise EbbtideError(
                    "engine.failed", f"ExecuTorch failed in method {method!r}: {error}.", place=method
                ) from error
            # These alias the method's memory; numpy's copy is cheaper than the clone that the bindings offer. A copy
            # that keeps the order ("K") is what the next method takes as it is.
            return tuple([output.numpy().copy("K") for output in outputs])

    def close(self) -> None:
        """Free the program and its methods."""
        with self._lock:
            self._methods = None
            self._program = None


def _input_shape(program: Any, method: str, file: Path) -> tuple[int, ...]:
    meta = program.method_meta(method)
    if meta.num_inputs() != 1 or meta.input_tensor_meta(0).dtype() != _FLOAT32:
        raise EbbtideError(
            "engine.load",
            f"Method {method!r} of {file.name} does not take exactly one float32 tensor.",
            found=str(meta),
            place=str(file),
        )
    return tuple(meta.input_tensor_meta(0).sizes())


class ExecuTorchEngine:
    """Runs .pte programs on this machine.

    Args:
        threads: the thread count of the whole process, fixed here for good (see `fix_threads`); None leaves it.

    Raises:
        EbbtideError: ``engine.threads``.
    """

    name = "executorch"

    def __init__(self, threads: int | None = None) -> None:
        self.threads = fix_threads(threads)

    def load(self, program: Path) -> ExecuTorchLoaded:
        """Load a .pte file and every method in it."""
        return ExecuTorchLoaded(program)
