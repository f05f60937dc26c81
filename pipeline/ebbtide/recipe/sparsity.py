"""The `sparsity` section: one model made smaller for the class set, as far as its accuracy allows or to a target."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ebbtide.recipe.base import Section, absent, conflict, out_of_range
from ebbtide.recipe.learning import LearningSection

Share = Annotated[float, Field(gt=0.0, le=1.0)]
Unit = Literal["macs", "weights", "ranks"]


class TargetSection(Section):
    """What may remain, as a share of the universal model; one of these."""

    macs: Share | None = Field(
        examples=[0.1], default=None, description="Share of the multiply-accumulates; with hybrid those of kept weights"
    )
    weights: Share | None = Field(
        examples=[0.15], default=None, description="hybrid: share of the weights of the masked layers"
    )
    ranks: Share | None = Field(
        examples=[0.3], default=None, description="hybrid: share of the blocks in each block-row, N:M not counted"
    )

    @property
    def unit(self) -> Unit:
        """What is counted."""
        return "macs" if self.macs is not None else "weights" if self.weights is not None else "ranks"

    @property
    def kept(self) -> float:
        """The share."""
        return next(share for share in (self.macs, self.weights, self.ranks) if share is not None)

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("macs", "weights", "ranks") if getattr(self, name) is not None]
        if not given:
            raise absent(
                "`target` says no share.",
                key="macs",
                expected="macs, weights or ranks",
                hint="For example {macs: 0.1}.",
            )
        if len(given) > 1:
            raise conflict(
                f"`target` names {' and '.join(given)}, and only one of them can be met exactly.",
                key=given[1],
                expected=given[0],
                hint="Keep one.",
            )
        return self


class ScheduleSection(Section):
    """How a target is approached: removals, and learning between them."""

    steps: int = Field(
        default=4,
        ge=1,
        le=100,
        description="Removals from the whole model to the target, or to the smallest budget; 1: one-shot",
    )
    path: Literal["geometric", "linear"] = Field(
        default="geometric", description="Each removal takes the same share of what is left, or the same amount"
    )
    first: Share | None = Field(
        examples=[0.5], default=None, description="Share that the first removal leaves; left out: as the path says"
    )
    epochs_between: int = Field(
        default=4, ge=0, le=100_000, description="Passes over the train split after each removal but the last"
    )
    statistics: Literal["frozen", "moving"] = Field(
        default="frozen",
        description="Gradients of a pass with weights that stand still, or of the last epoch of learning before",
    )
    epochs_before: int = Field(
        default=0, ge=0, le=100_000, description="Passes before the first removal; at least 1 with moving statistics"
    )
    batches: int = Field(default=40, ge=1, le=100_000, description="Batches of a pass with weights that stand still")
    batch_size: int = Field(default=64, ge=2, le=65_536, description="Samples in each of them")
    norm: Literal["eval", "train"] = Field(
        default="eval", description="Batch norm in that pass: by its running statistics, or by the batch's"
    )

    @model_validator(mode="after")
    def _moving(self) -> Self:
        between = self.steps > 1 and self.epochs_between < 1
        if self.statistics == "moving" and (between or self.epochs_before < 1):
            raise conflict(
                "Moving statistics are gathered in an epoch of learning before each removal, and there is none.",
                key="epochs_between" if between else "epochs_before",
                expected="at least 1",
                hint="Raise it, or say statistics: frozen.",
            )
        return self


class FineTuningSection(LearningSection):
    """Learning after the last removal; what is left out is as in `training`."""

    epochs: int = Field(default=20, ge=0, le=100_000, description="Passes over the train split")
    batch_size: Annotated[int, Field(ge=2, le=65_536)] | None = Field(
        examples=[128], default=64, description="Samples per step; null: that of `training`"
    )
    learning_rate: float | None = Field(
        default=0.02, gt=0.0, le=100.0, description="Highest learning rate; null: that of `training`"
    )
    views: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        examples=[8],
        default=8,
        description="After so many epochs the same random changes of samples come again, so that the teacher's answers "
        "are kept; null: never",
    )


class DistillationSection(Section):
    """Learning from the logits of a larger model on the class set, beside the labels."""

    teacher: Literal["universal", "tuned", "none"] = Field(
        default="universal",
        description="universal: the universal model; tuned: the same, fine-tuned whole (the reference); none: labels "
        "alone",
    )
    weight: float = Field(default=0.9, ge=0.0, le=1.0, description="Share of the loss that is the teacher's")
    temperature: float = Field(default=4.0, gt=0.0, le=1000.0, description="Of teacher and student in that share")
    others: int = Field(
        default=0,
        ge=0,
        le=65_536,
        description="Train samples of the other classes beside each batch, answered by the teacher alone; they help "
        "where little is left of a model, and a batch takes as much longer",
    )
    others_samples: int = Field(
        default=20_000, ge=1, description="At most so many of them are kept, spread evenly over the classes"
    )


class SparsitySection(Section):
    """A model for the class set alone, made smaller from the universal one: removal and fine-tuning in turn."""

    pattern: Literal["channels", "hybrid"] = Field(
        default="channels",
        description="channels: whole channels are taken out, faster on every runtime; hybrid: blocks and N:M are "
        "masked, smaller when packed, as fast as dense on a stock runtime",
    )
    max_drop_points: Annotated[float, Field(ge=0.0, le=100.0)] | None = Field(
        examples=[1.0],
        default=None,
        description="Find the cheapest model that loses at most so many points of accuracy on select against the "
        "reference, as a confidence bound; or give target",
    )
    target: TargetSection | None = Field(
        examples=[{"macs": 0.1}],
        default=None,
        description="What may remain, for example {macs: 0.1}; or give max_drop_points",
    )
    confidence: float = Field(default=0.95, ge=0.5, lt=1.0, description="Of the bound of max_drop_points, one-sided")
    reference: Literal["tuned", "universal"] = Field(
        default="tuned",
        description="What losses count from. tuned: the universal model fine-tuned whole, with the same passes and "
        "teacher, which costs more than all the rest; universal: as it came",
    )
    budgets: Annotated[int, Field(ge=1, le=64)] | Annotated[list[Share], Field(min_length=1, max_length=64)] = Field(
        default=8,
        description="How many shares max_drop_points looks among, from the smallest that is possible; or the shares, "
        "ascending; about log2 of them are tried",
    )
    scores: Literal["absolute", "signed", "magnitude", "random"] = Field(
        default="absolute",
        description="What goes first. absolute: weight times mean absolute gradient on the class set; the others are "
        "simpler ways to compare with",
    )
    scale: Literal["sum", "l1", "l2", "share"] = Field(
        default="share",
        description="channels: how layers are compared. share: by the shares of importance that they keep; the others "
        "divide a layer's scores by 1, their sum, or the root of their squares",
    )
    allocation: Literal["exact", "uniform"] = Field(
        default="exact",
        description="channels: shared out over layers exactly; or the same share of each, to compare with",
    )
    multiple: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        default="auto",
        description="channels: kept channels are a multiple of this (or all); auto: the largest that a device profile "
        "asks for",
    )
    floor: int = Field(
        default=1, ge=1, description="Fewest channels that a group keeps; hybrid: fewest blocks of each block-row"
    )
    block: int = Field(default=16, ge=1, le=1024, description="hybrid: edge of the square blocks, a multiple of m")
    n: int = Field(default=2, ge=1, le=64, description="hybrid: weights kept of each m consecutive input channels")
    m: int = Field(default=4, ge=1, le=64, description="hybrid: see n")
    weighing: Literal["sum", "per-weight"] = Field(
        default="per-weight", description="hybrid: what blocks of different layers are compared by, their sums or means"
    )
    schedule: ScheduleSection = Field(default_factory=ScheduleSection, description="Removals and learning between them")
    tuning: FineTuningSection = Field(default_factory=FineTuningSection, description="Learning after the last removal")
    distillation: DistillationSection = Field(
        default_factory=DistillationSection, description="What is learned beside the labels"
    )

    @property
    def unit(self) -> Unit:
        """What shares count: the target's unit; without one multiply-accumulates, or weights with hybrid."""
        if self.target is not None:
            return self.target.unit
        return "weights" if self.pattern == "hybrid" else "macs"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.target is None and self.max_drop_points is None:
            raise absent(
                "`sparsity` does not say how far to go.",
                key="max_drop_points",
                expected="max_drop_points or target",
                hint="For example max_drop_points: 1.0, or target: {macs: 0.1}.",
            )
        if self.target is not None and self.max_drop_points is not None:
            raise conflict(
                "`max_drop_points` looks for the target that `target` already gives.",
                key="target",
                expected="one of the two",
                hint="Delete one of them.",
            )
        if self.pattern == "channels" and self.unit != "macs":
            raise conflict(
                f"Taking out channels is counted in multiply-accumulates, not in {self.unit}.",
                key=f"target.{self.unit}",
                expected="macs",
                hint="Say target: {macs: ...}, or pattern: hybrid.",
            )
        self._check_shape()
        self._check_budgets()
        if self.distillation.teacher == "tuned" and self.reference != "tuned":
            raise conflict(
                "The teacher is to be the fine-tuned whole model, and none is made.",
                key="distillation.teacher",
                expected="universal or none",
                hint="Say reference: tuned, or teacher: universal.",
            )
        return self

    def _check_shape(self) -> None:
        if self.n > self.m:
            raise conflict(
                f"{self.n} of {self.m} weights cannot be kept.", key="n", expected=f"at most {self.m}", hint="Lower n."
            )
        if self.block % self.m:
            raise conflict(
                f"Blocks of {self.block} cannot hold whole groups of {self.m}.",
                key="block",
                expected=f"a multiple of {self.m}",
                hint="Blocks of 8, 16 or 32 with 2 of 4 are common.",
            )

    def _check_budgets(self) -> None:
        if isinstance(self.budgets, list) and sorted(set(self.budgets)) != self.budgets:
            raise out_of_range(
                f"Budgets must be distinct and ascending, found {self.budgets}.",
                key="budgets",
                expected=str(sorted(set(self.budgets))),
                hint="Write each share once, smallest first.",
            )
