"""One removal: from scores of single weights to the blocks that go, and then to N of each M inside what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.sparsity.allocation import Band, Budget, Unit, cut, floors
from ebbtide.sparsity.layout import Layer, matrix
from ebbtide.sparsity.masks import Masks, spread

Weighing = Literal["per-weight", "per-cost", "sum"]
Scores = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Rules:
    """How a removal is shared out over the layers.

    Args:
        unit: what the budget counts. "weights": of the masked layers; "macs": of the whole model, dense layers
            included; "ranks": rank columns, so that N:M does not count.
        weighing: what rank columns of different layers are compared by: their weights' scores "per-weight"; "per-cost",
            by what they count in the unit; or the "sum", as published, which takes nearly all from layers of few rows.
        floor: rank columns that every layer keeps at least, 1 or more; with width levels, in its narrowest one.
        blocks: where the scores of blocks come from: "weights" sums them; "random" draws one for each block, and
            then every layer gives up the same share.
    """

    unit: Unit = "weights"
    weighing: Weighing = "per-weight"
    floor: int = 1
    blocks: Literal["weights", "random"] = "weights"

    def __post_init__(self) -> None:
        if self.floor < 1:
            raise EbbtideError(
                "sparsity.shape",
                "Every layer keeps at least one rank column",
                expected="a floor of 1 or more",
                found=str(self.floor),
                place="pruning.floor",
            )


def select(masks: Masks, scores: Scores, *, kept: float, rules: Rules = Rules(), seed: int = 0) -> Masks:
    """The masks after one removal.

    Blocks go first, by scores of weights that the present masks keep; what went before stays gone and counts as the
    weakest. Then N:M is chosen anew inside the blocks that are left, by the scores of all their weights, so a weight
    that was masked can return. Among equals the block with the lowest index goes, and the weight with the lowest
    stays.

    Args:
        masks: of the removals before; `Masks.whole` before the first.
        scores: by weight, 0 or more, finite, of the weight's shape; what `ebbtide.saliency.weight_scores` gives.
        kept: share of the rules' unit that may remain, 0..1. With a share above what N:M alone leaves no block goes.
        rules: how it is shared out.
        seed: of random blocks.

    Raises:
        EbbtideError: ``pruning.floor`` where no masks meet the budget, ``pruning.scores`` where all scores are zero.
    """
    values = {layer.name: matrix(torch.from_numpy(scores[layer.name])) for layer in masks.masked}
    if not any(bool(value.any()) for value in values.values()):
        raise EbbtideError(
            "pruning.scores",
            "All scores are zero: they do not say which weights matter",
            hint="Look whether the loss on the user's images has any gradient, or use magnitude.",
        )
    ranked = {
        layer.name: rank_blocks(block_scores(layer, masks, values[layer.name], rules, seed), layer, masks)
        for layer in masks.masked
        if layer.carries == "blocks"
    }
    losses = cut(bands_of(masks, ranked, rules), budget_of(masks, kept, rules.unit))
    blocks = dict(masks.blocks)
    remaining = iter(losses)
    for layer in masks.masked:
        if layer.carries == "blocks":
            left = blocks[layer.name].clone()
            for order, _ in ranked[layer.name]:
                left.scatter_(1, torch.from_numpy(order[:, : next(remaining)].copy()), False)
            blocks[layer.name] = left
    groups = {}
    for layer in masks.masked:
        value = values[layer.name]
        if layer.carries == "blocks":
            value = value.masked_fill(~spread(blocks[layer.name], masks.shape.block), 0.0)
        groups[layer.name] = strongest(value, masks.shape.n, masks.shape.m)
    return replace(masks, groups=groups, blocks=blocks)


def least(masks: Masks, *, rules: Rules = Rules()) -> float:
    """The smallest share of the rules' unit that a removal can leave: what floors, N:M and dense layers keep."""
    return floors(_unranked(masks, rules), budget_of(masks, 1.0, rules.unit))


def check(masks: Masks, *, kept: float, rules: Rules = Rules()) -> None:
    """Refuse a budget that no removal meets.

    Raises:
        EbbtideError: ``pruning.budget`` for a share that is not above 0 and at most 1, ``pruning.floor`` for one below
            `least`.
    """
    cut(_unranked(masks, rules), budget_of(masks, kept, rules.unit))


def _unranked(masks: Masks, rules: Rules) -> list[Band]:
    layers = [layer for layer in masks.masked if layer.carries == "blocks"]
    ranked = {
        layer.name: [(band[None, :], np.zeros(len(band))) for band in layer.bands(masks.shape.block)]
        for layer in layers
    }
    return bands_of(masks, ranked, rules)


def size(masks: Masks, unit: Unit) -> int:
    """How much of a unit the masks' graph has, masks not counted."""
    if unit == "macs":
        return masks.macs
    if unit == "weights":
        return sum(layer.weights for layer in masks.masked)
    return sum(blocks.shape[1] for blocks in masks.blocks.values())


def block_scores(layer: Layer, masks: Masks, scores: torch.Tensor, rules: Rules, seed: int = 0) -> NDArray[np.float64]:
    """Q: the score of each block, (H, V): the sum over its weights that N:M keeps.

    Args:
        layer: one that carries blocks.
        masks: of the removals before.
        scores: of its weights, (R, C).
        rules: where scores come from.
        seed: of random ones.
    """
    height, width = layer.grid(masks.shape.block)
    if rules.blocks == "random":
        return np.random.default_rng([seed, *layer.name.encode(), 1]).random((height, width))
    kept = scores * masks.groups[layer.name]
    edge = masks.shape.block
    found: NDArray[np.float64] = kept.reshape(height, edge, width, edge).sum(dim=(1, 3)).numpy()
    return found


Ranked = list[tuple[NDArray[np.int64], NDArray[np.float64]]]


def rank_blocks(scores: NDArray[np.float64], layer: Layer, masks: Masks) -> Ranked:
    """For each band the block columns of every block-row from the weakest on, (H, V'), and the rank columns' scores.

    Blocks that are gone come first with a score of 0, whatever theirs is.
    """
    alive = masks.blocks[layer.name].numpy()
    found = []
    for band in layer.bands(masks.shape.block):
        here = np.where(alive[:, band], scores[:, band], -1.0)
        order = np.argsort(here, axis=1, kind="stable")
        ascending = np.maximum(np.take_along_axis(here, order, axis=1), 0.0)
        found.append((band[order], ascending.sum(axis=0)))
    return found


def bands_of(masks: Masks, ranked: Mapping[str, Ranked], rules: Rules) -> list[Band]:
    """The rank columns that the budget is taken from, in the order of layers and bands."""
    found = []
    edge = masks.shape.block
    for layer in masks.masked:
        if layer.carries != "blocks":
            continue
        width = layer.grid(edge)[1]
        column = {"weights": layer.rows * edge, "macs": layer.macs // width, "ranks": 1}[rules.unit]
        each = {"per-weight": layer.rows * edge, "per-cost": column, "sum": 1}[rules.weighing]
        if rules.blocks == "random":
            each = layer.rows * edge
        gone = masks.kept_blocks(layer)[0]
        for number, (_, scores) in enumerate(ranked[layer.name]):
            found.append(
                Band(
                    layer.name,
                    scores / each,
                    gone=len(scores) - int(gone[number]),
                    cost=column * (1 if rules.unit == "ranks" else masks.shape.n),
                    floor=min(rules.floor, len(scores)) if number == 0 else 0,
                )
            )
    return found


def budget_of(masks: Masks, kept: float, unit: Unit) -> Budget:
    """What may remain. Weights and MACs count M times, so that N of M of them is a whole number."""
    n, m = masks.shape.n, masks.shape.m
    whole = size(masks, unit)
    if unit == "ranks":
        return Budget(unit, whole, 0, kept)
    amount = {layer.name: layer.weights if unit == "weights" else layer.macs for layer in masks.masked}
    grouped = sum(amount[layer.name] for layer in masks.masked if layer.carries == "groups")
    dense = whole - sum(amount.values())
    return Budget(unit, m * whole, n * grouped + m * dense, kept)


def strongest(scores: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """NM: the n highest of each m consecutive scores of a row, (R, C); of equal ones the first."""
    parts = scores.reshape(scores.shape[0], -1, m).unbind(-1)
    kept = []
    for place, one in enumerate(parts):
        above = torch.zeros(one.shape, dtype=torch.int16)
        for other, two in enumerate(parts):
            if other != place:
                above += (two >= one) if other < place else (two > one)
        kept.append(above < n)
    return torch.stack(kept, dim=-1).reshape(scores.shape)
