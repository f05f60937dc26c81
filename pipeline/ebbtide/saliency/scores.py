"""From statistics of weights to scores of units: which filters, neurons and heads go first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.saliency.statistics import Statistics

if TYPE_CHECKING:
    from ebbtide.model import Coupling, Graph

Kind = Literal["signed", "absolute", "magnitude", "random"]
Scale = Literal["sum", "l1", "l2", "share"]


def unit_scores(
    graph: Graph,
    coupling: Coupling,
    kind: Kind,
    *,
    statistics: Statistics | None = None,
    seed: int = 0,
    scale: Scale = "sum",
) -> dict[str, NDArray[np.float64]]:
    """A score for each unit of each coupling group; units of higher score are kept longer.

    A unit's score sums over all the weights that make it, in every tensor of its group: filters of convolutions and
    depthwise convolutions, rows of linear layers (the group's members of kind "out"). Biases, norms and the weights
    that read the unit do not count. With the signed sum G and the absolute mean A of the gradients:

    - signed: sum of |W * G|, the importance of Corti et al. 2023 (arXiv:2311.13349);
    - absolute: sum of |W * A|;
    - magnitude: sum of |W|;
    - random: uniform in [0, 1), the same for a group's name and the seed, whatever other groups there are.

    Scores are compared over all groups where channels are shared out, so it matters how large they are in each layer.
    Before a unit's parts are added, those of each layer's tensor are divided by

    - sum: 1, so that the scores add up to what their kind says of the whole model;
    - l1: their sum, so that every layer has as much to give as another;
    - l2: the root of the sum of their squares (Molchanov et al. 2017, arXiv:1611.06440, 2.2);
    - share: 1, and then a unit is worth by how much it lets the logarithm of the share grow that is kept of its group,
      the larger units of the group being there, times the layers that make the group. What adds up over a model is
      then the logarithm of the product of all layers' shares, so that no layer is given up for others, as sums allow.

    Args:
        graph: the model, with the weights that the statistics were collected on.
        coupling: its groups.
        kind: of score.
        statistics: needed for signed and absolute.
        seed: of random, 0 or more.
        scale: what a layer's scores are divided by; random ones stay as they are.

    Returns:
        Group name to float64 (size,), 0 or more. A group without weights of its own scores 0 throughout.

    Raises:
        EbbtideError: ``saliency.statistics`` where they are missing or of another model, ``saliency.kind``
            for an unknown kind or scale, ``saliency.nonfinite`` where a score is not finite.
    """
    _check(kind, scale)
    if kind == "random":
        return {group.name: _random(group.name, seed).random(group.size) for group in coupling.groups}
    importance = _Importance(graph, kind, statistics)
    scores = {}
    for group in coupling.groups:
        score = np.zeros(group.size)
        makers = [member for member in group.members if member.kind == "out"]
        for member in makers:
            own = importance.along(member.tensor, member.axis)[member.positions].sum(axis=1)
            score += own / _size(own, scale)
        scores[group.name] = _finite(group.name, len(makers) * _growth(score) if scale == "share" else score)
    return scores


def _growth(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """By unit: log(S) - log(S - s) with S the sum of all scores from the largest down to its own, s.

    The order of the units stays as it is, since each is worth no more than the one before; the first is worth log(2),
    the most that any other can be.
    """
    order = np.argsort(-scores, kind="stable")
    before = np.cumsum(scores[order])[:-1]
    grown = np.full(len(scores), np.log(2.0) if scores.any() else 0.0)
    grown[order[1:]] = np.log1p(np.divide(scores[order[1:]], before, out=np.zeros_like(before), where=before > 0.0))
    return grown


def weight_scores(
    graph: Graph, tensors: Iterable[str], kind: Kind, *, statistics: Statistics | None = None, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """A score for each single weight, of the same kinds as `unit_scores`, which sums them; higher ones are kept longer.

    Args:
        graph: the model, with the weights that the statistics were collected on.
        tensors: names of weights in its state.
        kind: of score.
        statistics: needed for signed and absolute.
        seed: of random, 0 or more.

    Returns:
        Tensor name to float64 of the tensor's shape, 0 or more.

    Raises:
        EbbtideError: ``saliency.statistics``, ``saliency.kind`` or ``saliency.nonfinite``, as `unit_scores`.
    """
    _check(kind)
    if kind == "random":
        state = graph.state()
        return {name: _random(name, seed).random(tuple(state[name].shape)) for name in tensors}
    importance = _Importance(graph, kind, statistics)
    return {name: _finite(name, importance.single(name).numpy()) for name in tensors}


def _check(kind: str, scale: str = "sum") -> None:
    for name, known in ((kind, get_args(Kind)), (scale, get_args(Scale))):
        if name not in known:
            raise EbbtideError("saliency.kind", f"There is no score {name!r}.", expected=f"one of {', '.join(known)}")


def _finite(name: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(scores).all():
        raise EbbtideError(
            "saliency.nonfinite",
            f"The scores of {name} are not all finite.",
            place=name,
            hint="Look for NaN or infinite values in the weights.",
        )
    return scores


def _size(scores: NDArray[np.float64], scale: Scale) -> float:
    """What a layer's scores are divided by; 1 where all are 0."""
    size = {"l1": float(scores.sum()), "l2": float(np.sqrt((scores**2).sum()))}.get(scale, 1.0)
    return size or 1.0


def _random(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])


class _Importance:
    """Importance of single weights, each by itself or summed along all axes of a tensor but one."""

    def __init__(self, graph: Graph, kind: Kind, statistics: Statistics | None) -> None:
        self.state = graph.state()
        self.gradients = None
        if kind != "magnitude":
            if statistics is None:
                raise EbbtideError(
                    "saliency.statistics", f"The score {kind!r} needs gradients.", hint="Collect them first."
                )
            self.gradients = statistics.signed if kind == "signed" else statistics.absolute

    def single(self, name: str) -> torch.Tensor:
        weight = self.state[name].cpu().double()
        if self.gradients is not None:
            gradient = self.gradients.get(name)
            if gradient is None or gradient.shape != weight.shape:
                raise EbbtideError(
                    "saliency.statistics",
                    f"The gradients do not belong to this model: {name} differs.",
                    expected=str(tuple(weight.shape)),
                    found="none" if gradient is None else str(tuple(gradient.shape)),
                    place=name,
                    hint="Collect them again on this model.",
                )
            weight = weight * gradient.double()
        return weight.abs()

    def along(self, name: str, axis: int) -> NDArray[np.float64]:
        weight = self.single(name)
        others = [other for other in range(weight.dim()) if other != axis % weight.dim()]
        total = weight.sum(dim=others) if others else weight
        found: NDArray[np.float64] = total.numpy()
        return found
