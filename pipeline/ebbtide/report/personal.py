"""What a report shows of a model made smaller for its class set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ebbtide.report.facts import Count, Facts, Latency, Scored, Share
from ebbtide.report.nested import Whole


class Drop(Facts):
    """The accuracy that a model lacks against the reference on the same samples, in points."""

    n: Annotated[int, Field(ge=1)]
    lost: Count
    """Samples that the reference alone gets right."""
    won: Count
    """Samples that the model alone gets right."""
    points: float
    """Negative where the model is better."""
    bound_points: float
    """The drop is at most this, one-sided, with the confidence of the section."""


class Rival(Facts):
    """A whole model that the smaller one is held against."""

    name: Literal["universal", "tuned"]
    macs: Count
    passes: Count
    """Over train, beyond the universal model."""
    select: Scored
    test: Scored
    latency: Latency | None = None
    """Of the whole network in one method; fine-tuned it is the same."""


class Tried(Facts):
    """A smaller model."""

    budget: Share
    """Share that was allowed."""
    kept: Share
    """Share that there is."""
    macs: Count
    """Of the network as a stock runtime computes it."""
    kept_macs: Count | None = None
    """Of the weights that count, where others are masked: an analytic count, which no stock runtime spares."""
    passes: Count
    """Over train, beyond the universal model, those of the model it went on from included."""
    started: Share | None = None
    """Budget of the model it went on from; None from the universal one."""
    select: Scored
    test: Scored
    latency: Latency | None = None
    """In one method, as a stock runtime computes it."""
    drop: Drop | None = None
    """On select; None where no budget was looked for."""
    drop_test: Drop
    within: bool | None = None
    """Whether the bound on select is within the limit; None where there is no limit."""
    stopped: str | None = None
    """Why the budget was not reached."""


class Packed(Facts):
    """The masked model in its packed form, in bytes."""

    file: str
    dense_bytes: Count
    dense_xz_bytes: Count
    packed_bytes: Count
    packed_xz_bytes: Count
    formula_bytes: Count
    """What the formula says of the masked layers: values, places in groups, places of blocks."""
    sparsity: Share
    """Share of zeros in the masked layers."""


class Sparsity(Facts):
    """How a model for the class set alone was made from the universal one."""

    pattern: Literal["channels", "hybrid"]
    sizes: str
    """Multiples of channels, or blocks and N:M, in words."""
    unit: Literal["macs", "weights", "ranks"]
    scores: str
    teacher: Literal["universal", "tuned", "none"]
    max_drop_points: Annotated[float, Field(ge=0.0)] | None = None
    """The limit that was looked for; None where a target was given."""
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)]
    reference: Literal["universal", "tuned"]
    """What drops count from."""
    all_classes: bool = False
    """Whether the class set is all classes."""
    universal: Rival
    tuned: Rival | None = None
    trials: Annotated[tuple[Tried, ...], Field(min_length=1)]
    """In the order they were tried."""
    chosen: Count
    """Index of the one that ships."""
    whole: tuple[Whole, ...] = ()
    packed: Packed | None = None

    @model_validator(mode="after")
    def _chosen_is_there(self) -> Sparsity:
        if self.chosen >= len(self.trials):
            raise ValueError(f"trial {self.chosen} of {len(self.trials)} is chosen")
        if (self.reference == "tuned") is not (self.tuned is not None):
            raise ValueError("drops count from a model that is not there")
        return self

    @property
    def taken(self) -> Tried:
        """The trial that ships."""
        return self.trials[self.chosen]
