"""Blocks and N:M: single weights are masked in a pattern that a block-sparse kernel can use; the graph stays as it is.

Method: CRISP, Aggarwal et al., DATE 2024 (arXiv:2311.14272): blocks with the same number kept in every block-row of a
layer, N of each M consecutive input channels inside them, both by |weight x gradient| on the user's images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ebbtide.model import Graph
from ebbtide.saliency import Kind, Statistics, weight_scores
from ebbtide.sparsity import selection
from ebbtide.sparsity.allocation import Unit
from ebbtide.sparsity.layout import Shape
from ebbtide.sparsity.masks import Masks
from ebbtide.sparsity.protocol import Shrunk
from ebbtide.sparsity.selection import Rules, Weighing
from ebbtide.sparsity.straight_through import DECAY, MaskedTrainee

if TYPE_CHECKING:
    from ebbtide.model.loss import Distillation
    from ebbtide.recipe import TrainingSection


class Hybrid:
    """Masks of blocks and N:M, trained with a straight-through estimator.

    Args:
        kind: of the weights' scores; "absolute" is the method's, the others are controls. "random" draws blocks too,
            and takes the same share of every layer.
        block: edge of the blocks.
        n: weights kept of each m consecutive input channels; n = m is a control of blocks alone.
        m: see n. A budget of 1 is a control of N:M alone.
        unit: what budgets count: "weights" of the masked layers, "macs" of the whole model, or "ranks".
        weighing: "per-weight", "per-cost" or "sum", see `selection.Rules`.
        floor: rank columns that every layer keeps at least.
        levels: widths of the narrower levels, ascending, by coupling group; masks then serve every level.
        straight: whether masked weights learn and can return; off is a control.
        decay: of masked weights.

    Raises:
        EbbtideError: ``sparsity.shape`` for sizes that do not fit each other.
    """

    name = "hybrid"

    def __init__(
        self,
        *,
        kind: Kind = "absolute",
        block: int = 16,
        n: int = 2,
        m: int = 4,
        unit: Unit = "weights",
        weighing: Weighing = "per-weight",
        floor: int = 1,
        levels: Sequence[Mapping[str, int]] = (),
        straight: bool = True,
        decay: float = DECAY,
    ) -> None:
        self.kind: Kind = kind
        self.shape = Shape(block, n, m)
        self.rules = Rules(unit, weighing, floor, "random" if kind == "random" else "weights")
        self.levels = tuple(dict(level) for level in levels)
        self._straight = straight
        self._decay = decay

    def describe(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {
            "pattern": self.name,
            "kind": self.kind,
            **asdict(self.shape),
            "unit": self.rules.unit,
            "weighing": self.rules.weighing,
            "floor": self.rules.floor,
            "levels": [*self.levels],
            "straight": self._straight,
            "decay": self._decay,
        }

    def size(self, graph: Graph) -> int:
        """How much of the unit a graph has, masks not counted."""
        return selection.size(self._whole(graph), self.rules.unit)

    def needs_statistics(self) -> bool:
        """Whether scores follow from gradients."""
        return self.kind in ("absolute", "signed")

    def least(self, graph: Graph) -> float:
        """The smallest share of the unit that a removal can leave, 0..1."""
        return selection.least(self._whole(graph), rules=self.rules)

    def check(self, graph: Graph, *, kept: float) -> None:
        """Refuse a budget below what floors, N:M and dense layers keep.

        Raises:
            EbbtideError: ``pruning.floor``, ``pruning.budget`` or ``sparsity.nothing_to_prune``.
        """
        selection.check(self._whole(graph), kept=kept, rules=self.rules)

    def shrink(
        self, graph: Graph, statistics: Statistics | None, *, kept: float, masks: Masks | None, seed: int
    ) -> Shrunk:
        """Mask what matters least; the graph itself is a copy.

        Args:
            graph: trained, with the weights under the masks as they are.
            statistics: of the masked graph; None where they are not needed.
            kept: share of `size` that may remain. Above what N:M alone leaves, no block goes.
            masks: of the removals before; None before the first.
            seed: of random scores.

        Raises:
            EbbtideError: ``pruning.floor``, ``pruning.scores``, ``sparsity.nothing_to_prune``.
        """
        before = self._whole(graph) if masks is None else masks
        names = [layer.name for layer in before.masked]
        scores = weight_scores(graph, names, self.kind, statistics=statistics, seed=seed)
        found = selection.select(before, scores, kept=kept, rules=self.rules, seed=seed)
        return Shrunk(graph.copy().eval(), found, self._facts(found))

    def _facts(self, masks: Masks) -> dict[str, Any]:
        ranks = {name: [int(blocks.sum()) // len(blocks), blocks.shape[1]] for name, blocks in masks.blocks.items()}
        kept_macs = masks.kept_macs()
        share = {
            "weights": 1.0 - masks.sparsity(),
            "macs": kept_macs / masks.macs,
            "ranks": sum(kept for kept, _ in ranks.values()) / max(1, sum(all_ for _, all_ in ranks.values())),
        }
        return {
            "kept": share[self.rules.unit],
            "unit": self.rules.unit,
            "macs": masks.macs,
            "kept_macs": kept_macs,
            "sparsity": masks.sparsity(),
            "ranks": ranks,
            "excluded": [[layer.name, layer.carries, layer.reason] for layer in masks.excluded],
        }

    def trainee(self, shrunk: Shrunk, settings: TrainingSection, distillation: Distillation | None) -> MaskedTrainee:
        """The graph under its masks."""
        masks = self._whole(shrunk.graph) if shrunk.masks is None else shrunk.masks
        return MaskedTrainee(shrunk.graph, masks, settings, distillation, straight=self._straight, decay=self._decay)

    def finish(self, shrunk: Shrunk) -> Shrunk:
        """A copy in which the weights that do not count are zero."""
        if shrunk.masks is None:
            return shrunk
        return Shrunk(shrunk.masks.apply(shrunk.graph), shrunk.masks, shrunk.facts)

    def rebuild(self, graph: Graph, facts: dict[str, Any]) -> Graph:
        """A copy: masks change no structure."""
        return graph.copy()

    def _whole(self, graph: Graph) -> Masks:
        # Found once for each graph: with levels its coupling groups are searched.
        key = ("sparsity.whole", self.shape, str(self.levels))
        found = graph.memory.get(str(key))
        if not isinstance(found, Masks):
            found = Masks.whole(graph, self.shape, self.levels)
            graph.memory[str(key)] = found
        return found


TYPE = Hybrid
