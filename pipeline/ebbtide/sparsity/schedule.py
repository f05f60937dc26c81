"""How a budget is approached: in how many removals, through which sizes, with how much learning between them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ebbtide.errors import EbbtideError

if TYPE_CHECKING:
    from ebbtide.recipe import TrainingSection
    from ebbtide.saliency import Norm


@dataclass(frozen=True)
class Schedule:
    """Iterative removal and fine-tuning.

    Args:
        steps: removals from the whole model to the budget; 1 is one-shot.
        path: sizes between: "geometric" removes the same share of what is left each time, "linear" the same amount.
        first: share that the first removal leaves, where it is to go further than the path would; the other steps
            follow the path from there. None follows the path from the start.
        epochs_between: passes over the train split after each removal but the last; 0 for none.
        statistics: "frozen": gathered in a pass before each removal with weights that stand still; "moving": in the
            last epoch of learning before it (arXiv:2311.14272), the first after `epochs_before`.
        epochs_before: passes before the first removal; at least 1 with moving statistics.
        batches, batch_size: of a pass with frozen weights; batches are as many as the samples fill, if those are fewer.
        norm: of a pass with frozen weights: "eval", the running statistics of batch norm, or "train", the batch's.
        views: after so many epochs the same random changes of samples come again (`fit`); None: never.

    Raises:
        EbbtideError: ``sparsity.schedule``.
    """

    steps: int = 4
    path: Literal["geometric", "linear"] = "geometric"
    first: float | None = None
    epochs_between: int = 4
    statistics: Literal["frozen", "moving"] = "frozen"
    epochs_before: int = 0
    batches: int = 40
    batch_size: int = 64
    norm: Norm = "eval"
    views: int | None = None

    def __post_init__(self) -> None:
        moving = self.statistics == "moving"
        wrong = {
            "steps": self.steps < 1,
            "first": self.first is not None and not 0.0 < self.first <= 1.0,
            "epochs_between": self.epochs_between < (1 if moving and self.steps > 1 else 0),
            "epochs_before": self.epochs_before < (1 if moving else 0),
            "batches": self.batches < 1,
            "batch_size": self.batch_size < 2,
            "views": self.views is not None and self.views < 1,
        }
        for name, bad in wrong.items():
            if bad:
                raise EbbtideError(
                    "sparsity.schedule",
                    f"A schedule of pruning cannot have {name} {getattr(self, name)}",
                    expected="steps, batches and views of 1 or more, batch_size of 2 or more, first in (0, 1], epochs "
                    "of 0 or more; with moving statistics an epoch before each removal",
                    hint="Leave it out for its default.",
                )

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def budgets(self, kept: float, *, start: float = 1.0) -> tuple[float, ...]:
        """The share of the whole model that each removal leaves, descending; the last is `kept`.

        From a smaller start (a model that was made before) `first` is not used. Where the start is not above `kept`
        there is one step.

        Args:
            kept: share to end at, above 0 and at most 1.
            start: share to start at.
        """
        if kept >= start:
            # Nothing is to go: one step, which trains.
            return (kept,)
        count = self.steps
        before: tuple[float, ...] = ()
        if start == 1.0 and self.first is not None and self.first > kept and count > 1:
            before, start, count = (self.first,), self.first, count - 1
        shares = [(index + 1) / count for index in range(count - 1)]
        if self.path == "geometric":
            between = [start * (kept / start) ** share for share in shares]
        else:
            between = [start + (kept - start) * share for share in shares]
        return (*before, *between, kept)

    def part(self, kept: float, *, start: float, end: float) -> Schedule:
        """The part of the way from the whole model to `end` that leads from `start` to `kept`.

        It has as many of the steps as it has of the way on a logarithmic scale, rounded, and at least one.

        Args:
            kept: share that this part ends at, at least `end`.
            start: share that it starts at.
            end: share that the whole way ends at.
        """
        if end >= 1.0:
            return self
        return replace(self, steps=max(1, round(self.steps * math.log(kept / start) / math.log(end))))

    def settings(self, settings: TrainingSection, *, epochs: int) -> TrainingSection:
        """The training settings with another number of epochs, warm-up shortened where it would not fit."""
        return settings.model_copy(
            update={"epochs": epochs, "warmup_epochs": min(settings.warmup_epochs, max(epochs - 1, 0))}
        )
