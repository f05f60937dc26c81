"""Lowering many programs: each distinct one once, in processes of their own."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.lowering.backend import LoweredProgram
from ebbtide.lowering.backend import backend as backend_of
from ebbtide.lowering.capture import CapturedMethod, capture
from ebbtide.lowering.digest import spec_digest
from ebbtide.lowering.spec import Kind, MethodSpec, ProgramSpec
from ebbtide.steps import Progress, silent

# Processes of their own give memory back and keep the runtime's global state out of this one. Each lowers about so many
# programs, because starting one (the exporter's imports) takes longer than lowering a small program.
_EACH = 2


@dataclass(frozen=True)
class _Parcel:
    """A captured method as it travels to a worker: torch's own format, because exported graphs do not pickle."""

    name: str
    kind: Kind
    position: int
    temperature: float | None
    program: bytes
    macs: int
    peak_bytes: int


def lower(spec: ProgramSpec, file: Path, *, backend: str = "xnnpack") -> LoweredProgram:
    """Lower one program in this process, which fixes this process's ExecuTorch thread count (see `fix_threads`).

    Args:
        spec: the program.
        file: where it goes; written beside it and renamed once every method has been run.
        backend: a name from `backend_names`.

    Raises:
        EbbtideError: ``lowering.unknown_backend``, ``lowering.spec``, ``lowering.failed``, ``lowering.not_executed``.
    """
    chosen = backend_of(backend)
    return chosen.lower(capture(spec), file)


def lower_programs(
    specs: Sequence[ProgramSpec],
    folder: Path,
    *,
    backend: str = "xnnpack",
    workers: int | None = None,
    progress: Progress = silent,
) -> tuple[LoweredProgram, ...]:
    """Lower programs side by side, a fresh process with one thread each; programs of equal content only once.

    Args:
        specs: with ids that differ; the files are named after them.
        folder: exists; receives the files.
        backend: a name from `backend_names`.
        workers: how many processes at a time, each of which may need a GiB; the number of cores by default.
        progress: one step per program.

    Returns:
        The lowered programs in the order of the specs.

    Raises:
        EbbtideError: as `lower`, for the first program that fails; the others are stopped.
    """
    chosen = backend_of(backend)
    if len({spec.id for spec in specs}) != len(specs):
        raise EbbtideError(
            "lowering.spec", "Two programs have the same id.", found=", ".join(spec.id for spec in specs)
        )
    by_digest: dict[str, list[ProgramSpec]] = {}
    for spec in specs:
        by_digest.setdefault(spec_digest(spec, backend=backend), []).append(spec)
    done: dict[str, LoweredProgram] = {}
    groups = list(by_digest.values())
    count = max(1, min(workers or os.cpu_count() or 1, len(groups)))
    with progress.task("lower programs", len(specs)) as task:
        for start in range(0, len(groups), count * _EACH):
            chunk = groups[start : start + count * _EACH]
            for twins, first in _lower_side_by_side(chunk, folder, chosen.suffix, backend, count):
                done[twins[0].id] = first
                for twin in twins[1:]:
                    done[twin.id] = replace(first, file=folder / f"{twin.id}{chosen.suffix}")
                    shutil.copyfile(first.file, done[twin.id].file)
                task.advance(len(twins), program=twins[0].id, size_bytes=first.size_bytes)
    return tuple(done[spec.id] for spec in specs)


def _lower_side_by_side(
    groups: Sequence[Sequence[ProgramSpec]], folder: Path, suffix: str, backend: str, count: int
) -> Iterator[tuple[Sequence[ProgramSpec], LoweredProgram]]:
    """The first of each group lowered, as they get ready, in a pool of processes of its own.

    A pool's `max_tasks_per_child` would give memory back as well, but where more tasks wait than its first processes
    take, it starts no others and hangs (https://github.com/python/cpython/issues/115634).
    """
    context = multiprocessing.get_context("spawn")
    workers = min(count, len(groups))
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for _ in range(workers):
            # They import the exporter while this process captures.
            pool.submit(_get_ready, backend)
        futures = {}
        for twins in groups:
            parcels = tuple(_parcel(method) for method in capture(twins[0]))
            futures[pool.submit(_work, parcels, folder / f"{twins[0].id}{suffix}", backend)] = twins
        try:
            for future in as_completed(futures):
                twins = futures[future]
                yield twins, future.result()
        except BrokenProcessPool as error:
            raise EbbtideError(
                "lowering.failed",
                f"A lowering process died while it worked on {twins[0].id!r} or beside it.",
                hint="most often memory ran out: lower fewer programs at a time",
                place=twins[0].id,
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _get_ready(backend: str) -> None:
    backend_of(backend).get_ready()


def _parcel(method: CapturedMethod) -> _Parcel:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(method.program, buffer)
    spec = method.spec
    return _Parcel(
        spec.name, spec.kind, spec.position, spec.temperature, buffer.getvalue(), method.macs, method.peak_bytes
    )


def _work(parcels: Sequence[_Parcel], file: Path, backend: str) -> LoweredProgram:
    torch.set_num_threads(1)
    methods = []
    for parcel in parcels:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(io.BytesIO(parcel.program))
        # A back end sees the exported program only; the module it came from stays at home.
        spec = MethodSpec(parcel.name, parcel.kind, parcel.position, nn.Identity(), parcel.temperature)
        methods.append(CapturedMethod(spec, program, parcel.macs, parcel.peak_bytes))
    return backend_of(backend).lower(methods, file)
