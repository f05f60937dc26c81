"""What a report shows of early exits: how they were made and chosen, who leaves where, where the parts run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.report.facts import Amount, Count, Facts, Scored, Share


class FrontPoint(Facts):
    """A configuration on select."""

    accuracy: Share
    mean_macs: Amount


class Way(Facts):
    """The front of one way to choose thresholds, on select, before anything was lowered."""

    name: str
    points: tuple[FrontPoint, ...]


class ChosenExits(Facts):
    """What was chosen for one width's program."""

    width: str
    kept: tuple[str, ...]
    """``position:type`` of the exits worth having, one type at a position."""
    chosen: tuple[str, ...]
    """Those that its program has, since a tier uses them."""
    mean_loss_points: float
    """Points that a table with any type at any position would be better at equal cost, mean over its rows."""
    worst_loss_points: float
    whole: Share
    """Metric of the width without exits on select."""
    macs: Amount
    ways: tuple[Way, ...] = ()


class Example(Facts):
    """One sample of select, small."""

    image: Annotated[str, Field(pattern=r"^data:image/png;base64,[A-Za-z0-9+/=]+$")]
    label: str
    answer: str

    @property
    def right(self) -> bool:
        """Whether the answer is the label."""
        return self.label == self.answer


class LeavingExamples(Facts):
    """A few of the samples that leave at one exit, or reach the head."""

    name: str
    share: Share
    examples: tuple[Example, ...]


class SwappedRow(Facts):
    """A configuration chosen on the other half, and measured on the one the bundle was chosen on."""

    id: str
    tier: Annotated[int, Field(ge=0, le=3)] | None = None
    promised: Scored
    measured: Scored
    mean_macs: Amount


class SwappedHalves(Facts):
    """`split: test-halves` with the halves in each other's place; nothing of it ships."""

    dense_promised: Share
    dense_measured: Share
    dense_macs: Amount
    rows: Annotated[tuple[SwappedRow, ...], Field(min_length=1)]


class MappedExit(Facts):
    """An exit on a processor."""

    position: Count
    type: str
    us: Amount
    threshold: float | None = None
    share: Share | None = None


class MappedSegment(Facts):
    """Parts that follow each other on one processor."""

    processor: str
    kind: Literal["cpu", "gpu", "npu", "server"]
    origin: Literal["measured", "throughput"]
    stages: tuple[str, ...]
    macs: Amount
    us: Amount
    memory_bytes: Count
    memory_limit_bytes: Count | None = None
    exits: tuple[MappedExit, ...] = ()


class MappedTransfer(Facts):
    """A feature map on its way between two processors."""

    start: str
    end: str
    before: str
    """The part that waits for it."""
    size_bytes: Count
    us: Amount


class MappedRow(Facts):
    """The mapping of a configuration with the least expected time."""

    configuration: str
    segments: tuple[MappedSegment, ...] = ()
    """None where no mapping keeps the limits."""
    transfers: tuple[MappedTransfer, ...] = ()
    mean_us: Amount | None = None
    worst_us: Amount | None = None
    first_us: Amount | None = None
    """Expected time with everything on the first processor; None where that is not possible."""
    served: bool = False
    """Whether its end may run on a server, as the manifest then says."""
    binding: str | None = None


class DeviceMapped(Facts):
    """One device's mappings."""

    profile: str
    rows: tuple[MappedRow, ...]
    possible: Count
    """Ways to share out the parts of the widest program, without exits."""
    rejects: tuple[str, ...] = ()
    """Why others are not possible, in words."""


class EarlyExits(Facts):
    """How early exits were made, chosen and mapped."""

    train: Literal["frozen", "joint"]
    original: Share | None = None
    """joint: the metric of the model as it came, on select."""
    types: tuple[str, ...]
    search: str
    """How thresholds were searched, in words."""
    constraint: str = ""
    """What every configuration with exits keeps, in words; empty without limits."""
    halves: bool = False
    """Whether select and test are halves of the official test samples."""
    widths: tuple[ChosenExits, ...]
    shown: str = ""
    """The configuration whose leaving samples are shown."""
    leaving: tuple[LeavingExamples, ...] = ()
    swapped: SwappedHalves | None = None
    mapped: tuple[DeviceMapped, ...] = ()
