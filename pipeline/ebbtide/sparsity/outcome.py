"""A personalised model: the graph that ships, what it was made by, and the folder that it is kept in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save

from ebbtide.errors import EbbtideError
from ebbtide.model import Graph, predict
from ebbtide.saliency import Statistics
from ebbtide.sparsity.masks import Masks
from ebbtide.sparsity.protocol import Pattern, Shrunk
from ebbtide.steps import Progress, storage_errors, write_bytes

if TYPE_CHECKING:
    from ebbtide.data import Split

_FORMAT = 1
_MODEL, _MASKS, _STATISTICS = "model.safetensors", "masks.safetensors", "statistics.safetensors"


@dataclass(frozen=True, eq=False)
class Personalised:
    """A model after removals and fine-tuning.

    Args:
        graph: what ships, in evaluation mode: weights that do not count are zero in it.
        trained: the same with its dense weights and its masks, if it has any; further removals start from it.
        asked: share of the pattern's unit that was allowed, 0..1.
        kept: share that there is, measured; of the model that the first removal started from.
        trail: each removal's facts, in order: those of `Shrunk` with ``asked``, ``kept`` (both of the whole model), the
            metric on select right after the removal (``untuned``) and after learning (``select``), and ``history``.
        identity: SHA-256 of all that it was made from.
        stopped: why it ended before the share that was asked for; None where it did not.
        statistics: gradients of the last epoch of learning, where they were gathered.
    """

    graph: Graph = field(repr=False)
    trained: Shrunk = field(repr=False)
    asked: float
    kept: float
    trail: tuple[dict[str, Any], ...]
    identity: str
    stopped: str | None = None
    statistics: Statistics | None = field(default=None, repr=False)

    def right(self, split: Split) -> NDArray[np.bool_]:
        """For each sample of a split whether its class is found, (n,)."""
        found: NDArray[np.bool_] = predict(self.graph, split) == np.asarray(split.labels)
        return found

    def save(self, folder: Path) -> None:
        """Write weights, masks and trail into a folder.

        Raises:
            EbbtideError: ``steps.disk_full`` or ``steps.read_only``.
        """
        facts = {
            "format": _FORMAT,
            "asked": self.asked,
            "kept": self.kept,
            "trail": list(self.trail),
            "identity": self.identity,
            "stopped": self.stopped,
            "masks": self.trained.masks is not None,
            "statistics": self.statistics is not None,
        }
        state = {name: t.detach().cpu().contiguous() for name, t in self.trained.graph.state().items()}
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if self.trained.masks is not None:
                self.trained.masks.save(folder / _MASKS)
            if self.statistics is not None:
                self.statistics.save(folder / _STATISTICS)
            # Last: where it lies, the folder is whole.
            write_bytes(folder / _MODEL, save(state, {"personalised": json.dumps(facts)}))

    @staticmethod
    def stored(folder: Path) -> bool:
        """Whether `save` has written a folder."""
        return (folder / _MODEL).is_file()

    @classmethod
    def load(cls, graph: Graph, folder: Path, pattern: Pattern) -> Personalised:
        """Read what `save` wrote.

        Args:
            graph: the model that the first removal started from; its weights do not count.
            folder: what was saved to.
            pattern: what removed.

        Raises:
            EbbtideError: ``sparsity.file`` for a damaged folder or one of another model.
        """
        try:
            facts, state = _read(folder)
            for step in facts["trail"]:
                graph = pattern.rebuild(graph, step)
            return cls._filled(graph.copy(), facts, state, folder, pattern)
        except Exception as error:
            raise EbbtideError(
                "sparsity.file",
                "The personalised model cannot be read",
                found=f"{type(error).__name__}: {error}",
                place=str(folder),
                hint="Delete the folder and run the same command again.",
            ) from error

    @classmethod
    def restore(
        cls, before: Personalised, folder: Path, pattern: Pattern, identity: str, *, progress: Progress
    ) -> Personalised | None:
        """What `save` wrote one removal after another model; None, and that is said, where it cannot be used.

        Args:
            before: the model before that removal.
            folder: what was saved to.
            pattern: what removed.
            identity: that it must have.
            progress: told of a damaged folder.
        """
        try:
            facts, state = _read(folder)
            if facts["identity"] != identity:
                raise ValueError("another run")
            graph = pattern.rebuild(before.trained.graph, facts["trail"][-1])
            return cls._filled(graph, facts, state, folder, pattern)
        except Exception as error:
            progress.say(f"The step {folder.name} is damaged ({type(error).__name__}); it is computed again.")
            return None

    @classmethod
    def _filled(
        cls, graph: Graph, facts: dict[str, Any], state: dict[str, torch.Tensor], folder: Path, pattern: Pattern
    ) -> Personalised:
        graph.eval().load(state)
        masks = Masks.load(folder / _MASKS) if facts["masks"] else None
        trained = Shrunk(graph, masks, facts["trail"][-1] if facts["trail"] else {"kept": 1.0})
        return cls(
            graph=pattern.finish(trained).graph,
            trained=trained,
            asked=facts["asked"],
            kept=facts["kept"],
            trail=tuple(facts["trail"]),
            identity=facts["identity"],
            stopped=facts["stopped"],
            statistics=Statistics.load(folder / _STATISTICS) if facts["statistics"] else None,
        )


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with safe_open(folder / _MODEL, framework="pt") as stored:
        facts = json.loads((stored.metadata() or {})["personalised"])
        state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    if facts["format"] != _FORMAT:
        raise ValueError("another format")
    return facts, state
