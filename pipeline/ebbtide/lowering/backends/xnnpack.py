"""ExecuTorch with the XNNPACK delegate, float32: CPUs of phones and desktops."""

from __future__ import annotations

import hashlib
import importlib.metadata
import operator
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ebbtide.engine import Array, ExecuTorchEngine
from ebbtide.errors import EbbtideError
from ebbtide.lowering.backend import LoweredProgram, MethodFacts, TensorFacts
from ebbtide.lowering.capture import CapturedMethod
from ebbtide.lowering.layout import layout_of

# Operators that carry multiply-accumulates in the edge dialect, by the first part of their name.
_MACS = {"convolution", "linear", "addmm", "mm", "bmm"}


class Xnnpack:
    """See `Backend`; one .pte a program with a method per stage, exit and head."""

    name = "xnnpack"
    precision = "float32"
    processor = "cpu"
    suffix = ".pte"

    def versions(self) -> dict[str, str]:
        """ExecuTorch and torch: the serialiser and the exporter."""
        return {name: importlib.metadata.version(name).split("+")[0] for name in ("executorch", "torch")}

    def get_ready(self) -> None:
        """Import the exporter, which takes some seconds."""
        _exporter()

    def lower(self, methods: Sequence[CapturedMethod], file: Path) -> LoweredProgram:
        """Lower all methods together, so that equal weights are stored once."""
        place = ", ".join(method.spec.name for method in methods)
        try:
            edge, data = _lowered(methods)
        except Exception as error:
            raise EbbtideError(
                "lowering.failed",
                f"XNNPACK cannot lower {file.stem!r} ({place}): {type(error).__name__}: {error}",
                hint="build with other stages, or write the part it names in plain tensor operators",
                place=file.stem,
            ) from error
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_bytes(data)
        try:
            outputs = _executed(methods, temporary, file.stem)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(file)
        facts = tuple(_facts(edge, method, outputs[method.spec.name]) for method in methods)
        return LoweredProgram(file, hashlib.sha256(data).hexdigest(), len(data), facts)


def _exporter() -> tuple[Callable[..., Any], Callable[[], Any], Callable[[], Any]]:
    """What lowers, and what makes its partitioner and its passes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.backends.xnnpack.utils.configs import get_transform_passes
        from executorch.exir import to_edge_transform_and_lower
    return to_edge_transform_and_lower, XnnpackPartitioner, get_transform_passes


def _lowered(methods: Sequence[CapturedMethod]) -> tuple[dict[str, Any], bytes]:
    to_edge_transform_and_lower, partitioner, transform_passes = _exporter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        manager = to_edge_transform_and_lower(
            {method.spec.name: method.program for method in methods},
            partitioner=[partitioner()],
            transform_passes=transform_passes(),
        )
        # Counted here: turning the manager into a program rewrites its graphs.
        counts = {method.spec.name: _count(manager.exported_program(method.spec.name)) for method in methods}
        return counts, bytes(manager.to_executorch().buffer)


def _count(program: torch.export.ExportedProgram) -> dict[str, list[str]]:
    delegated: list[str] = []
    portable: list[str] = []
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        if "executorch_call_delegate" in str(node.target):
            inner = operator.attrgetter(str(node.args[0].target))(program.graph_module).original_module
            delegated += [_operator(n) for n in inner.graph.nodes if n.op == "call_function" and _counts(n)]
        elif _counts(node):
            portable.append(_operator(node))
    return {"delegated": delegated, "portable": portable}


def _counts(node: torch.fx.Node) -> bool:
    return node.target is not operator.getitem


def _operator(node: torch.fx.Node) -> str:
    # Edge operators print as "aten.convolution.default" among others; the plain name is the part before the overload.
    parts = str(getattr(node.target, "__name__", node.target)).split(".")
    return parts[-2] if len(parts) > 1 else parts[0]


def _executed(methods: Sequence[CapturedMethod], file: Path, program: str) -> dict[str, tuple[Array, ...]]:
    """Load the program and run every method once, on numbers that are the same every time."""
    try:
        loaded = ExecuTorchEngine().load(file)
    except EbbtideError as error:
        raise _not_executed(program, "the program", error.message) from error
    random = np.random.default_rng(0)
    outputs = {}
    try:
        for method in methods:
            shape = _input(method).shape
            try:
                result = loaded.run(method.spec.name, random.standard_normal(shape).astype(np.float32))
            except EbbtideError as error:
                raise _not_executed(program, method.spec.name, error.message) from error
            expected = [_tensor(value) for value in _output_values(method)]
            found = [_tensor(torch.from_numpy(value)) for value in result]
            finite = all(np.isfinite(value).all() for value in result)
            if found != expected or not finite:
                reason = f"expected finite {expected}, found {found}, all finite: {finite}"
                raise _not_executed(program, method.spec.name, reason)
            outputs[method.spec.name] = result
    finally:
        loaded.close()
    return outputs


def _not_executed(program: str, method: str, reason: str) -> EbbtideError:
    return EbbtideError(
        "lowering.not_executed",
        f"{method!r} of the freshly lowered {program!r} does not run in ExecuTorch: {reason}",
        hint="report the model; another choice of stages may avoid the operator",
        place=f"{program}/{method}",
    )


def _facts(counts: dict[str, Any], method: CapturedMethod, outputs: tuple[Array, ...]) -> MethodFacts:
    delegated, portable = (counts[method.spec.name][key] for key in ("delegated", "portable"))
    heavy_in, heavy_out = (sum(name in _MACS for name in names) for names in (delegated, portable))
    return MethodFacts(
        name=method.spec.name,
        kind=method.spec.kind,
        position=method.spec.position,
        inputs=(_tensor(_input(method)),),
        outputs=tuple(_tensor(torch.from_numpy(value)) for value in outputs),
        delegated_share=round(_share(len(delegated), len(portable)), 4),
        delegated_macs_share=round(_share(heavy_in, heavy_out), 4),
        portable=tuple(sorted(set(portable))),
        macs=method.macs,
        peak_bytes=method.peak_bytes,
    )


def _tensor(value: torch.Tensor) -> TensorFacts:
    return TensorFacts(tuple(value.shape), str(value.dtype).removeprefix("torch."), layout_of(value))


def _share(inside: int, outside: int) -> float:
    return inside / (inside + outside) if inside + outside else 1.0


def _input(method: CapturedMethod) -> torch.Tensor:
    (name,) = method.program.graph_signature.user_inputs
    node = next(node for node in method.program.graph.nodes if node.name == name)
    value: torch.Tensor = node.meta["val"]
    return value


def _output_values(method: CapturedMethod) -> list[torch.Tensor]:
    named = {node.name: node for node in method.program.graph.nodes}
    return [named[str(name)].meta["val"] for name in method.program.graph_signature.user_outputs]


BACKEND = Xnnpack()
