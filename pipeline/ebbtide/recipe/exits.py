"""The ``exits`` section: which early exits are trained, how, and how the table of configurations is searched."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ebbtide.recipe.base import Section, conflict
from ebbtide.recipe.learning import LearningSection

MAX_STAGES = 64

Position = Annotated[int, Field(ge=0, lt=MAX_STAGES)]
ExitTypeName = Literal["pool-linear", "pool-mlp", "pool-mlp-deep", "conv-branch", "token-pool"]
Lambda = Annotated[float, Field(ge=0.0, le=1.0)]


class JointSection(LearningSection):
    """`train: joint`: backbone and exits learn together from the original model; the backbone is then a new one."""

    exit_share: float = Field(
        default=0.5, ge=0.0, le=1.0, description="Share of the exits' mean loss in the whole; the rest is the head's"
    )
    weight: float = Field(
        default=0.5, ge=0.0, le=1.0, description="Share of what the original model says in each loss, beside the labels"
    )
    temperature: float = Field(
        default=2.0, gt=0.0, le=100.0, description="Temperature at which the original model is learned from"
    )


class SearchSection(Section):
    """How thresholds are searched on select, and what is done against fitting to its samples."""

    method: Literal["sweeps", "single-pass", "iterative"] = Field(
        default="sweeps", description="sweeps: exact steps until nothing gains; single-pass or iterative: as published"
    )
    trade_offs: Literal["auto"] | Annotated[list[Lambda], Field(min_length=1, max_length=1000)] = Field(
        default="auto", description="auto: 64, evenly spaced in log-odds; or weights of quality against cost, 0 to 1"
    )
    positions: Literal["all"] | Annotated[int, Field(ge=1, le=MAX_STAGES)] = Field(
        default=8, description="A width's program has exits at so many positions at most: every boundary costs time"
    )
    overhead_macs: float = Field(
        default=0.0,
        ge=0.0,
        lt=1e15,
        description="What an exit in use takes beside its own multiply-accumulates (one more call, copies, scoring), "
        "counted as so many more while searching; the time of that at the speed of the model's own",
    )
    head_share: Literal["auto"] | Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default="auto",
        description="How far an answer counts as right by what the head expects instead of by its label; auto: 0.5 "
        "with fewer than 2,000 select samples, else 0",
    )
    folds: Literal["auto"] | Annotated[int, Field(ge=0, le=20)] = Field(
        default="auto",
        description="Parts of select on which the search is repeated to take its optimism off every promise, 2 or "
        "more; 0: none. auto: 5",
    )
    quantile: Annotated[float, Field(gt=0.0, le=0.5)] | None = Field(
        examples=[0.1],
        default=None,
        description="Search with this low quantile of every exit's accuracy; left out: with the accuracy itself",
    )
    least_leaving: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto",
        description="An exit is used only where so many select samples leave; auto: one in a hundred, at least 2",
    )
    thresholds: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        examples=[64], default=None, description="Try at most so many thresholds at an exit; left out: all there are"
    )

    @model_validator(mode="after")
    def _several_folds(self) -> Self:
        if self.folds == 1:
            raise conflict(
                "One part of select is all of it, and leaves nothing to choose on.",
                key="folds",
                expected="0, or 2 or more",
                hint="Say folds: 5, or 0 to leave the promises as they are.",
            )
        return self


class ConstraintSection(Section):
    """What every configuration with exits must keep; a build that finds none says which limit is in the way."""

    max_drop_points: Annotated[float, Field(ge=0.0, le=100.0)] | None = Field(
        examples=[0.5], default=None, description="Most points of the metric lost against the widest model, on select"
    )
    max_latency_us: Annotated[float, Field(gt=0.0)] | None = Field(
        examples=[5000], default=None, description="Longest mean time of a prediction in microseconds, measured here"
    )
    max_worst_latency_us: Annotated[float, Field(gt=0.0)] | None = Field(
        examples=[20000],
        default=None,
        description="Longest time of a prediction that passes every exit of its configuration: measured here, and "
        "where a device profile names processors also by its times",
    )


class ExitsSection(Section):
    """Early exits: small classifiers after a stage, so that easy samples need not go through the whole model."""

    positions: Literal["auto"] | Annotated[list[Position], Field(min_length=1)] = Field(
        default="auto",
        description="auto: after every stage where an exit pays; or a list of stage indices, 0 is the first",
    )
    types: Literal["auto"] | Annotated[list[ExitTypeName], Field(min_length=1)] = Field(
        default="auto",
        description="Kinds of exit that are trained at every position where they fit; auto: all. A program has one of "
        "them at each position",
    )
    train: Literal["frozen", "joint"] = Field(
        default="frozen",
        description="frozen: the model stays as it is, bit for bit; joint: it learns on together with the exits",
    )
    epochs: int = Field(default=40, ge=1, le=100_000, description="Passes over the cached features of the train split")
    learning_rate: float = Field(
        default=0.01, gt=0.0, le=100.0, description="Highest learning rate of the exits' optimiser (AdamW)"
    )
    weight_decay: float = Field(
        default=1e-3, ge=0.0, le=1.0, description="Weight decay of the exits' weights, not of their biases"
    )
    batch_size: int = Field(default=256, ge=2, le=65_536, description="Samples per step")
    kl_weight: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Share of what the model's own head says in the exits' loss"
    )
    kl_temperature: float = Field(
        default=2.0, gt=0.0, le=100.0, description="Temperature at which the head is learned from"
    )
    held_out: float = Field(
        default=0.1,
        ge=0.0,
        lt=1.0,
        description="Share of train that exits do not learn from; the best epoch there is kept",
    )
    patience: int = Field(default=10, ge=1, description="Epochs without a better one after which an exit stops")
    passes: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Passes over train for the cached features, each changed as `training.augmentation` says",
    )
    joint: JointSection = Field(default_factory=JointSection, description="How `train: joint` learns")
    search: SearchSection = Field(default_factory=SearchSection, description="How thresholds are searched")
    constraint: ConstraintSection | None = Field(
        default=None, description="Limits that every configuration with exits keeps; left out: none"
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if isinstance(self.positions, list) and sorted(set(self.positions)) != self.positions:
            raise conflict(
                f"Exit positions must be distinct and ascending, found {self.positions}.",
                key="positions",
                expected=str(sorted(set(self.positions))),
                hint="Write each position once, smallest first.",
            )
        repeated = [kind for i, kind in enumerate(self.types) if kind in self.types[:i]] if self.types != "auto" else []
        if repeated:
            raise conflict(f"`types` names {repeated[0]!r} twice.", key="types", hint="Write each one once.")
        return self


def _auto_exits(value: Any) -> Any:
    return {} if value == "auto" else value


Exits = Annotated[ExitsSection, BeforeValidator(_auto_exits, json_schema_input_type=Literal["auto"] | ExitsSection)]
