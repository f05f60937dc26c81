"""What a report shows of nested widths."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.report.facts import Amount, Count, Facts, Latency, Scored, Share, Stage


class Level(Facts):
    """One width as it ships: its configuration without exits, and what its program costs."""

    name: str
    program: str
    configuration: str
    """Id of its configuration without exits."""
    budget: Share
    """What it was allowed to cost, as a share of the whole network's cost."""
    macs: Count
    share: Share
    """Of the whole network's multiply-accumulates."""
    parameters: Count
    peak_bytes: Count
    """Largest input and output together of any operator."""
    program_bytes: Count
    value: Share
    """Importance that it keeps, as a share of all of it."""
    select: Scored
    test: Scored | None = None
    untuned: Scored | None = None
    """Cut out of the ordered model and left so, on select."""
    latency: Latency | None = None
    stages: tuple[Stage, ...] = ()
    """The methods of its program."""


class Kept(Facts):
    """How many units of one coupling group every level keeps, the narrowest level first."""

    name: str
    size: Annotated[int, Field(ge=1)]
    kept: tuple[Count, ...]
    tensors: Count
    """How many tensors shrink with it."""


class Whole(Facts):
    """Layers that stay whole for one reason."""

    reason: str
    subjects: tuple[str, ...]


class ControlLevel(Facts):
    """One level of a simpler way to the same budget."""

    level: str
    macs: Count
    untuned: Share
    tuned: Share | None = None


class ControlWidths(Facts):
    """A simpler way to choose the widths, scored on select."""

    name: str
    about: str
    levels: tuple[ControlLevel, ...] = ()
    reason: str = ""
    """Why it has no levels, where it has none."""


class NormCost(Facts):
    """What private batch norm statistics cost and buy, against the whole network's in every width."""

    xz_bytes: Count
    """All programs in one stream, as they ship."""
    shared_xz_bytes: Count
    """The same programs with shared statistics."""
    shared_select: tuple[Share, ...]
    """Metric of each level on select with shared statistics and the same weights, the narrowest first."""


class Widths(Facts):
    """One set of weights at several widths."""

    order: str
    search: str
    norm: Literal["shared", "private"]
    multiple: Annotated[int, Field(ge=1)]
    exact: bool
    gap: Amount = 0.0
    """At most so much of the importance is missed, as a share; 0 where the search is exact."""
    note: str = ""
    levels: Annotated[tuple[Level, ...], Field(min_length=1)]
    """The narrowest first."""
    groups: tuple[Kept, ...] = ()
    whole: tuple[Whole, ...] = ()
    controls: tuple[ControlWidths, ...] = ()
    tuned_epochs: Count = 0
    xz_bytes: Count | None = None
    """The programs of all widths in one stream."""
    widest_xz_bytes: Count | None = None
    """The widest program alone."""
    private: NormCost | None = None
