"""The pattern of blocks and N:M as CRISP's released code computes it: an ablation, re-derived from a description of it.

What differs from `ebbtide.sparsity.patterns.hybrid`, each for itself where wanted:

- `misaligned`: sums of blocks are taken column by column and read row by row, so a block stands or falls by another's
  score (unless a layer has one block-row or one block-column);
- `squared`: blocks are scored by |W^2 E| of masked weights, where single weights are by |W E|;
- `frozen`: N:M masks are multiplied with those before, and masked weights get no gradient, so none returns.

In all of them the masks of blocks are multiplied from step to step, which leaves block-rows unequal, and no floor
stops a layer from losing every block. The released code counts a budget in rank columns and removes one more than
asked; what then accumulates is not what was asked. Here as many are removed as leave the measured share asked for, so
that patterns are compared at equal sparsity. The order of the columns is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ebbtide.model import Graph
from ebbtide.saliency import Statistics, weight_scores
from ebbtide.sparsity.layout import Layer, matrix
from ebbtide.sparsity.masks import Masks
from ebbtide.sparsity.patterns.hybrid import Hybrid
from ebbtide.sparsity.protocol import Shrunk
from ebbtide.sparsity.selection import strongest

Blocks = dict[str, torch.Tensor]


def misread(scores: torch.Tensor) -> torch.Tensor:
    """Sums of blocks (H, V) as they come when taken column by column and reshaped as if row by row."""
    return scores.t().reshape(scores.shape)


class Released(Hybrid):
    """The ablation, with the settings of `Hybrid`; budgets are in weights."""

    name = "released"

    def __init__(self, *, misaligned: bool = True, squared: bool = True, frozen: bool = True, **settings: Any) -> None:
        super().__init__(**settings, straight=not frozen)
        self.misaligned, self.squared, self.frozen = misaligned, squared, frozen

    def describe(self) -> dict[str, Any]:
        faults = {"misaligned": self.misaligned, "squared": self.squared, "frozen": self.frozen}
        return super().describe() | {"pattern": self.name} | faults

    def shrink(
        self, graph: Graph, statistics: Statistics | None, *, kept: float, masks: Masks | None, seed: int
    ) -> Shrunk:
        before = Masks.whole(graph, self.shape) if masks is None else masks
        names = [layer.name for layer in before.masked]
        found = weight_scores(graph, names, self.kind, statistics=statistics, seed=seed)
        scores = {layer.name: matrix(torch.from_numpy(found[layer.name])) for layer in before.masked}
        ranked = self._ranked(graph, before, scores)
        sums = np.sort(np.concatenate([total.numpy() for _, total in ranked.values()]))
        # The fewest rank columns of all layers with which what is left, counted, is within the budget.
        low, high = 0, len(sums)
        while low < high:
            middle = (low + high) // 2
            if 1.0 - self._after(before, scores, ranked, sums, middle).sparsity() <= kept:
                high = middle
            else:
                low = middle + 1
        chosen = self._after(before, scores, ranked, sums, low)
        return Shrunk(graph.copy().eval(), chosen, self._facts(chosen))

    def _ranked(
        self, graph: Graph, before: Masks, scores: Mapping[str, torch.Tensor]
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """By layer the blocks of every row from the weakest on, and the rank columns' scores."""
        state, found = graph.state(), {}
        for layer in before.masked:
            if layer.carries == "blocks":
                value = scores[layer.name] * before.keep(layer)
                if self.squared:
                    value = value * matrix(state[layer.name]).abs()
                blocks = self._sums(layer, value)
                ascending, order = (misread(blocks) if self.misaligned else blocks).sort(dim=1, stable=True)
                found[layer.name] = order, ascending.sum(dim=0)
        return found

    def _sums(self, layer: Layer, value: torch.Tensor) -> torch.Tensor:
        height, width = layer.grid(self.shape.block)
        return value.reshape(height, self.shape.block, width, self.shape.block).sum(dim=(1, 3))

    def _after(
        self,
        before: Masks,
        scores: Mapping[str, torch.Tensor],
        ranked: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
        sums: np.ndarray,
        count: int,
    ) -> Masks:
        """The masks where the `count` weakest rank columns go; those equal to the last of them go too."""
        limit = sums[count - 1] if count else -np.inf
        blocks: Blocks = {}
        for name, (order, total) in ranked.items():
            lost = int((total <= limit).sum())
            blocks[name] = before.blocks[name].scatter(1, order[:, :lost], False)
        after = replace(before, blocks=blocks)
        groups = {}
        for layer in after.masked:
            value = scores[layer.name] * after.keep(layer) if self.frozen else scores[layer.name]
            chosen = strongest(value, self.shape.n, self.shape.m)
            groups[layer.name] = chosen & before.groups[layer.name] if self.frozen else chosen
        return replace(after, groups=groups)
