"""From statistics of weights to scores of units: which filters, neurons and heads go first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.saliency.statistics import Statistics

if TYPE_CHECKING:
    from ebbtide.model import Coupling, Graph

Kind = Literal["signed", "absolute", "magnitude", "random"]


def unit_scores(
    graph: Graph, coupling: Coupling, kind: Kind, *, statistics: Statistics | None = None, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """A score for each unit of each coupling group; units of higher score are kept longer.

    A unit's score sums over all the weights that make it, in every tensor of its group: filters of convolutions and
    depthwise convolutions, rows of linear layers (the group's members of kind "out"). Biases, norms and the weights
    that read the unit do not count. With the signed sum G and the absolute mean A of the gradients:

    - signed: sum of |W * G|, the importance of Corti et al. 2023 (arXiv:2311.13349);
    - absolute: sum of |W * A|;
    - magnitude: sum of |W|;
    - random: uniform in [0, 1), the same for a group's name and the seed, whatever other groups there are.

    Args:
        graph: the model, with the weights that the statistics were collected on.
        coupling: its groups.
        kind: of score.
        statistics: needed for signed and absolute.
        seed: of random, 0 or more.

    Returns:
        Group name to float64 (size,), 0 or more. A group without weights of its own scores 0 throughout.

    Raises:
        EbbtideError: ``saliency.statistics`` where they are missing or of another model, ``saliency.kind``,
            ``saliency.nonfinite`` where a score is not finite.
    """
    if kind not in get_args(Kind):
        raise EbbtideError(
            "saliency.kind", f"There is no score {kind!r}.", expected=f"one of {', '.join(get_args(Kind))}"
        )
    if kind == "random":
        return {group.name: _random(group.name, seed).random(group.size) for group in coupling.groups}
    importance = _Importance(graph, kind, statistics)
    scores = {}
    for group in coupling.groups:
        score = np.zeros(group.size)
        for member in group.members:
            if member.kind == "out":
                score += importance.along(member.tensor, member.axis)[member.positions].sum(axis=1)
        if not np.isfinite(score).all():
            raise EbbtideError(
                "saliency.nonfinite",
                f"The scores of {group.name} are not all finite.",
                place=group.name,
                hint="Look for NaN or infinite values in the weights.",
            )
        scores[group.name] = score
    return scores


def _random(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])


class _Importance:
    """Importance of single weights, summed along all axes of a tensor but one."""

    def __init__(self, graph: Graph, kind: Kind, statistics: Statistics | None) -> None:
        self.state = graph.state()
        self.gradients = None
        if kind != "magnitude":
            if statistics is None:
                raise EbbtideError(
                    "saliency.statistics", f"The score {kind!r} needs gradients.", hint="Collect them first."
                )
            self.gradients = statistics.signed if kind == "signed" else statistics.absolute

    def along(self, name: str, axis: int) -> NDArray[np.float64]:
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
        others = [other for other in range(weight.dim()) if other != axis % weight.dim()]
        total = weight.abs().sum(dim=others) if others else weight.abs()
        found: NDArray[np.float64] = total.numpy()
        return found
