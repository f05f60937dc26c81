"""Whole channels taken out: what is left is a plain smaller graph, faster on every runtime."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ebbtide.model import Coupling, cost, coupling_groups, narrow
from ebbtide.model.training import Single, Trainee
from ebbtide.nesting import Rules
from ebbtide.pruning import Allocation, check_budget, least_share, remove_channels
from ebbtide.saliency import Kind, Scale, Statistics, unit_scores
from ebbtide.sparsity.protocol import Shrunk

if TYPE_CHECKING:
    from ebbtide.model import Graph
    from ebbtide.model.loss import Distillation
    from ebbtide.recipe import TrainingSection
    from ebbtide.sparsity.masks import Masks


_MACS, _COUPLING = "channels.macs", "channels.coupling"


@dataclass(frozen=True)
class Channels:
    """Channels removed by importance; counts in true multiply-accumulates per sample.

    Args:
        multiple: kept channels of a coupling group are a multiple of this, or all; a device profile says it.
        floor: fewest channels that a group keeps, or all where it has fewer.
        memory_limit_bytes: largest input and output together of any operator; None for no limit.
        kind: of score: "absolute" sums \\|W E\\| with the mean absolute gradient E (arXiv:2311.14272); the others are
            controls or that of nested widths.
        scale: what a layer's scores are divided by before they are compared with those of other layers.
        allocation: "exact": as many channels of each group as make the kept scores largest; "uniform": the same share
            of each, a control.
    """

    name: ClassVar[str] = "channels"
    multiple: int = 1
    floor: int = 1
    memory_limit_bytes: int | None = None
    kind: Kind = "absolute"
    scale: Scale = "share"
    allocation: Allocation = "exact"

    @property
    def rules(self) -> Rules:
        """Which widths a group may take."""
        return Rules(multiple=self.multiple, floor=self.floor, memory_limit_bytes=self.memory_limit_bytes)

    def describe(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {"pattern": self.name, **asdict(self)}

    def size(self, graph: Graph) -> int:
        """True multiply-accumulates per sample."""
        found = graph.memory.get(_MACS)
        if not isinstance(found, int):
            graph.memory[_MACS] = found = cost(graph.module, graph.input_shape).macs
        return found

    def needs_statistics(self) -> bool:
        """Whether the scores read gradients."""
        return self.kind in ("signed", "absolute")

    def least(self, graph: Graph) -> float:
        """The smallest share of the multiply-accumulates that a removal can leave, 0..1."""
        return least_share(graph, _coupling(graph), rules=self.rules)

    def check(self, graph: Graph, *, kept: float) -> None:
        """Refuse a budget below the floors.

        Raises:
            EbbtideError: ``pruning.floor`` with the binding reason, ``pruning.budget``.
        """
        check_budget(graph, _coupling(graph), kept=kept, rules=self.rules)

    def shrink(
        self, graph: Graph, statistics: Statistics | None, *, kept: float, masks: Masks | None = None, seed: int = 0
    ) -> Shrunk:
        """Take channels out of a copy until a share of the multiply-accumulates is left.

        Args:
            graph: trained.
            statistics: gradients of this graph, where the scores read them.
            kept: share of its multiply-accumulates that may remain, above 0 and at most 1.
            masks: there are none with this pattern.
            seed: of random scores.

        Raises:
            EbbtideError: ``pruning.floor``, ``pruning.scores`` or ``saliency.statistics``.
        """
        before = self.size(graph)
        if kept >= 1.0:
            return Shrunk(graph.copy().eval(), None, {"widths": {}, "kept": 1.0, "macs": before})
        coupling = _coupling(graph)
        scores = unit_scores(graph, coupling, self.kind, statistics=statistics, seed=seed, scale=self.scale)
        removed = remove_channels(graph, coupling, scores, kept=kept, rules=self.rules, allocation=self.allocation)
        facts = removed.to_json()
        groups = {group.name: group.size for group in coupling.groups}
        return Shrunk(removed.graph, None, facts | {"kept": facts.pop("share"), "groups": groups})

    def trainee(self, shrunk: Shrunk, settings: TrainingSection, distillation: Distillation | None) -> Trainee:
        """The smaller graph, trained as any other."""
        return Single(shrunk.graph, settings, distillation)

    def finish(self, shrunk: Shrunk) -> Shrunk:
        """The same: nothing is masked."""
        return shrunk

    def rebuild(self, graph: Graph, facts: dict[str, Any]) -> Graph:
        """A graph of the widths that `shrink` chose."""
        widths = facts["widths"]
        return narrow(graph, _coupling(graph), widths) if widths else graph.copy()


def _coupling(graph: Graph) -> Coupling:
    """The coupling groups of a graph, found once; those of a copy are the same."""
    found = graph.memory.get(_COUPLING)
    if not isinstance(found, Coupling):
        graph.memory[_COUPLING] = found = coupling_groups(graph)
    return found


TYPE = Channels
