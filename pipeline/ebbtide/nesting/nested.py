"""One set of weights and all its levels; each level taken out as a plain graph."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save

from ebbtide.errors import EbbtideError
from ebbtide.model.coupling import Coupling, coupling_groups, narrow
from ebbtide.model.graph import Graph
from ebbtide.nesting.levels import Level
from ebbtide.steps import write_bytes

Norm = Literal["shared", "private"]
_FILE = "nested.safetensors"


@dataclass
class Nested:
    """A network whose levels are prefixes of its groups.

    Args:
        graph: the widest level, units ordered.
        coupling: its groups.
        levels: ascending; the last is the widest.
        norm: "shared": every level uses the widest's batch norm statistics, so a narrower program is, byte for byte,
            a slice of the wider one; "private": each narrower level has statistics of its own.
        statistics: for "private", by level, running means and variances by their names in the graph's state, of the
            level's own sizes.
    """

    graph: Graph
    coupling: Coupling
    levels: tuple[Level, ...]
    norm: Norm = "shared"
    statistics: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)

    def level(self, name: str) -> Level:
        """A level by its name.

        Raises:
            EbbtideError: ``nesting.level`` for an unknown one.
        """
        for level in self.levels:
            if level.name == name:
                return level
        known = ", ".join(level.name for level in self.levels)
        raise EbbtideError(
            "nesting.level", f"There is no level {name!r}", expected=f"one of {known}", hint="Name one of these."
        )

    def save(self, folder: Path) -> None:
        """Write weights, statistics and levels into one file of the folder."""
        tensors = {f"weights/{name}": tensor for name, tensor in self.graph.state().items()}
        for level, own in self.statistics.items():
            tensors |= {f"statistics/{level}/{name}": tensor for name, tensor in own.items()}
        facts = {"norm": self.norm, "levels": json.dumps([level.to_json() for level in self.levels])}
        write_bytes(folder / _FILE, save({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, facts))

    @classmethod
    def load(cls, graph: Graph, folder: Path) -> Nested:
        """Read what `save` wrote; the graph's weights are replaced.

        Args:
            graph: of the same model.
            folder: what was saved to.

        Raises:
            EbbtideError: ``nesting.file`` for a damaged file or one of another model.
        """
        path = folder / _FILE
        try:
            with safe_open(path, framework="pt") as stored:
                facts = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            levels = tuple(Level(**_checked(level)) for level in json.loads(facts["levels"]))
            norm: Any = {"shared": "shared", "private": "private"}[facts["norm"]]
        except Exception as error:
            raise EbbtideError(
                "nesting.file",
                "The nested network cannot be read",
                found=f"{type(error).__name__}: {error}",
                place=str(path),
                hint="Delete the step's folder and build again.",
            ) from error
        graph.load({n.removeprefix("weights/"): t for n, t in tensors.items() if n.startswith("weights/")})
        statistics: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("statistics/"):
                _, level, buffer = name.split("/", 2)
                statistics.setdefault(level, {})[buffer] = tensor
        return cls(graph, coupling_groups(graph), levels, norm, statistics)


def _checked(level: dict[str, Any]) -> dict[str, Any]:
    return {**level, "widths": {str(name): int(width) for name, width in level["widths"].items()}}


def extract(nested: Nested, name: str) -> Graph:
    """A level as a plain graph: contiguous tensors of its own, nothing dynamic, in evaluation mode.

    Args:
        nested: the network.
        name: of the level.

    Raises:
        EbbtideError: ``nesting.level`` for an unknown level.
    """
    level = nested.level(name)
    graph = narrow(nested.graph, nested.coupling, level.widths)
    own = nested.statistics.get(name)
    if own:
        graph.load({**graph.state(), **own})
    return graph.eval()
