"""What a pattern of sparsity is, and where patterns are found: a new one is one new file in ``sparsity/patterns``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ebbtide.errors import named
from ebbtide.kinds import kinds_in

if TYPE_CHECKING:
    from ebbtide.model import Graph
    from ebbtide.model.loss import Distillation
    from ebbtide.model.training import Trainee
    from ebbtide.recipe import TrainingSection
    from ebbtide.saliency import Statistics
    from ebbtide.sparsity.masks import Masks


@dataclass(frozen=True)
class Shrunk:
    """A graph after one removal.

    Args:
        graph: what is trained next, in evaluation mode, with tensors of its own.
        masks: which of its weights count; None where it is a plain smaller graph.
        facts: JSON values: all that `Pattern.rebuild` needs, what was removed, and for people ``kept`` (share of the
            pattern's unit that remains, measured) and ``macs`` (of the graph as it runs densely, per sample).
    """

    graph: Graph
    masks: Masks | None
    facts: dict[str, Any]


class Pattern(Protocol):
    """A way to make a model smaller, with its settings.

    A pattern counts in a unit of its own: channels in true multiply-accumulates, hybrid in weights, MACs or rank
    columns as its settings say. Shares are shares of that unit of the graph that is given, as if it had no masks.
    """

    name: str

    def describe(self) -> dict[str, Any]:
        """The settings, all that a removal depends on, as JSON values."""

    def size(self, graph: Graph) -> int:
        """How much of the unit a graph has, masks not counted."""

    def needs_statistics(self) -> bool:
        """Whether `shrink` reads gradients; magnitude and random order do not."""

    def least(self, graph: Graph) -> float:
        """The smallest share of the unit that a removal can leave, 0..1."""

    def check(self, graph: Graph, *, kept: float) -> None:
        """Refuse a budget that no removal meets, before anything is trained.

        Raises:
            EbbtideError: ``pruning.floor`` with the binding reason; ``pruning.budget`` for a share not in (0, 1].
        """

    def shrink(
        self, graph: Graph, statistics: Statistics | None, *, kept: float, masks: Masks | None, seed: int
    ) -> Shrunk:
        """Remove what matters least until a share is left. The graph given stays as it is.

        Args:
            graph: trained, with dense weights (those under a mask included).
            statistics: gradients of this very graph; None where `needs_statistics` is false.
            kept: share of `size(graph)` that may remain, above 0 and at most 1.
            masks: of the removals before; None before the first.
            seed: of whatever is drawn.

        Raises:
            EbbtideError: ``pruning.floor``; ``pruning.scores`` where all scores are 0.
        """

    def trainee(self, shrunk: Shrunk, settings: TrainingSection, distillation: Distillation | None) -> Trainee:
        """What `ebbtide.model.training.fit` trains: the graph of `shrunk` in place, under its masks if it has any."""

    def finish(self, shrunk: Shrunk) -> Shrunk:
        """The outcome of a fine-tuned removal: where masks say which weights count, the others made zero in a copy."""

    def rebuild(self, graph: Graph, facts: dict[str, Any]) -> Graph:
        """A graph of the structure that `shrink` made of `graph` when it gave these facts; its weights do not count."""


class PatternType(Protocol):
    """Makes a pattern from its settings."""

    def __call__(self, **settings: Any) -> Pattern:
        """A pattern; settings left out have their defaults."""


def pattern_types() -> dict[str, PatternType]:
    """All kinds of patterns by name."""
    return kinds_in("ebbtide.sparsity.patterns")


def pattern_type(name: str) -> PatternType:
    """The kind of patterns of that name.

    Raises:
        EbbtideError: ``sparsity.unknown_pattern``.
    """
    return named(name, pattern_types(), code="sparsity.unknown_pattern", what="pattern", place="sparsity.pattern")
