"""What a lowering back end is, what it reports, and how one is found: a file each in `ebbtide.lowering.backends`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ebbtide.engine import Layout
from ebbtide.errors import EbbtideError, nearest
from ebbtide.lowering import backends
from ebbtide.lowering.capture import CapturedMethod
from ebbtide.lowering.spec import Kind


@dataclass(frozen=True)
class TensorFacts:
    """Shape (batch 1 first), dtype and order in memory of one tensor that crosses a method's border."""

    shape: tuple[int, ...]
    dtype: str
    layout: Layout = "contiguous"


@dataclass(frozen=True)
class MethodFacts:
    """What is known of one lowered method.

    Args:
        name: as the runtime calls it.
        kind: stage, exit, head or model.
        position: index of its stage; the number of stages for head and model.
        inputs: what it takes.
        outputs: what it puts out.
        delegated_share: share of its operators that the delegate runs, 0..1.
        delegated_macs_share: the same among the operators that multiply and accumulate; 1 if there are none.
        portable: names of the operators that the delegate left to the runtime's own kernels, sorted, each once.
        macs: multiply-accumulates of one call.
        peak_bytes: largest input + output of one operator.
    """

    name: str
    kind: Kind
    position: int
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    delegated_share: float
    delegated_macs_share: float
    portable: tuple[str, ...]
    macs: int
    peak_bytes: int


@dataclass(frozen=True)
class LoweredProgram:
    """A program's file and the facts about it."""

    file: Path
    sha256: str
    size_bytes: int
    methods: tuple[MethodFacts, ...]

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON values; the file by its name only."""
        facts = asdict(self)
        return {**facts, "file": self.file.name}

    @staticmethod
    def from_json(facts: dict[str, Any], folder: Path) -> LoweredProgram:
        """The facts from `to_json`, of a file that lies in `folder`."""
        methods = tuple(
            MethodFacts(
                **{
                    **method,
                    "inputs": _tensors(method["inputs"]),
                    "outputs": _tensors(method["outputs"]),
                    "portable": tuple(method["portable"]),
                }
            )
            for method in facts["methods"]
        )
        return LoweredProgram(folder / facts["file"], facts["sha256"], facts["size_bytes"], methods)


class Backend(Protocol):
    """Turns captured methods into a file that a runtime loads."""

    name: str
    precision: str
    processor: str
    suffix: str

    def versions(self) -> dict[str, str]:
        """Versions of everything that the bytes of a program depend on."""
        ...

    def get_ready(self) -> None:
        """Do the heavy imports now instead of with the first program."""
        ...

    def lower(self, methods: Sequence[CapturedMethod], file: Path) -> LoweredProgram:
        """Write the program, then load and run every method of it.

        Raises:
            EbbtideError: ``lowering.failed``, ``lowering.not_executed``.
        """
        ...


def backend_names() -> tuple[str, ...]:
    """The names of all back ends, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(backends.__path__)))


def backend(name: str) -> Backend:
    """The back end of a name; its heavy imports happen when it lowers or is told to `get_ready`.

    Raises:
        EbbtideError: ``lowering.unknown_backend``.
    """
    known = backend_names()
    if name not in known:
        close = nearest(name, list(known))
        raise EbbtideError(
            "lowering.unknown_backend",
            f"There is no lowering back end {name!r}.",
            expected=f"one of {', '.join(known)}",
            hint=f"did you mean {close!r}?" if close else None,
        )
    found: Backend = importlib.import_module(f"{backends.__name__}.{name}").BACKEND
    return found


def _tensors(values: Sequence[dict[str, Any]]) -> tuple[TensorFacts, ...]:
    return tuple(TensorFacts(tuple(value["shape"]), value["dtype"], value["layout"]) for value in values)
