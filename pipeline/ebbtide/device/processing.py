"""What a device computes with: its processors in order of use, the links between them, an edge server.

A model's stages are mapped to these (`ebbtide.search`). Every value is stated: found somewhere, with source and date,
or assumed, with the assumption in words. What is null is not known, and what depends on it is not checked.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Field, model_validator

from ebbtide.device.operators import OperatorName
from ebbtide.device.section import ProfileName, Section, Text
from ebbtide.errors import nearest

Value = TypeVar("Value")
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Stated(Section, Generic[Value]):
    """A value with where it comes from: a source and its date, or an assumption in words."""

    value: Value
    source: Text | None = Field(default=None, description="Document, repository and revision, or command")
    date: datetime.date | None = Field(default=None, description="When the source was looked up")
    assumption: Text | None = Field(default=None, description="Why this value, where nobody has measured it")

    @model_validator(mode="after")
    def _has_one_ground(self) -> Self:
        if (self.source is None) != (self.date is None):
            raise ValueError("a source needs a date, and a date a source")
        if (self.source is None) == (self.assumption is None):
            raise ValueError("a value needs either a source with its date, or an assumption")
        return self


class StageTimes(Section):
    """Measured times of one model's parts on one processor, in microseconds at batch 1."""

    model: Text = Field(description="Name of the model, as the build that uses the times is told")
    cuts: Annotated[list[Text], Field(max_length=1024)] = Field(description="Where its stages end")
    stages_us: Annotated[list[Positive], Field(max_length=1024)] = Field(description="One for each cut")
    exits_us: dict[Text, NotNegative] = Field(default={}, description="By position and type, as 3:pool-linear")
    head_us: Positive = Field(description="What comes after the last cut")
    source: Text = Field(description="Command, machine, threads")
    date: datetime.date

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.cuts) != len(self.stages_us):
            raise ValueError(f"{len(self.cuts)} cuts, but times of {len(self.stages_us)} stages")
        return self


class Processor(Section):
    """A place where stages can run."""

    name: ProfileName
    kind: Literal["cpu", "gpu", "npu", "server"]
    macs_per_s: Stated[Positive] | None = Field(
        default=None, description="Multiply-accumulates a second; stands in for the times of models not measured here"
    )
    memory_bytes: Stated[Annotated[int, Field(gt=0, le=2**53 - 1)]] | None = Field(
        default=None, description="For weights and activations; null is not known, and not checked"
    )
    unsupported: Stated[list[OperatorName]] | None = Field(default=None, description="Operators that cannot run here")
    times: Annotated[list[StageTimes], Field(max_length=256)] = Field(default=[])

    @model_validator(mode="after")
    def _has_times(self) -> Self:
        if self.macs_per_s is None and not self.times:
            raise ValueError(f"{self.name} has neither macs_per_s nor times")
        return self

    def cannot_run(self, operators: frozenset[str]) -> tuple[str, ...]:
        """Those of the operators that it does not support, sorted."""
        refused = frozenset(self.unsupported.value) if self.unsupported else frozenset()
        return tuple(sorted(refused & {name.removesuffix("_") or name for name in operators}))


class Link(Section):
    """A way for feature maps from one processor to a later one."""

    start: ProfileName
    end: ProfileName
    bytes_per_s: Stated[Positive]
    latency_us: Stated[NotNegative] = Field(
        description="Of every transfer, before its first byte; to a server a whole round trip, since the answer returns"
    )

    def transfer_us(self, size_bytes: int) -> float:
        """Time of a transfer in microseconds."""
        return self.latency_us.value + size_bytes / self.bytes_per_s.value * 1e6


class Processing(Section):
    """Processors in order of use, with the links between them; a sample arrives at the first one."""

    processors: Annotated[list[Processor], Field(min_length=1, max_length=8)]
    links: Annotated[list[Link], Field(max_length=64)] = Field(default=[])

    @model_validator(mode="after")
    def _is_a_chain(self) -> Self:
        names = [one.name for one in self.processors]
        if len(set(names)) != len(names):
            raise ValueError("two processors have the same name")
        servers = [index for index, one in enumerate(self.processors) if one.kind == "server"]
        if (servers and servers != [len(names) - 1]) or servers == [0]:
            raise ValueError("there is at most one server, and it stands last, after a processor of the device")
        _check_links([(link.start, link.end) for link in self.links], names)
        return self

    @property
    def server(self) -> Processor | None:
        """The edge server, if there is one."""
        return self.processors[-1] if self.processors[-1].kind == "server" else None

    def link(self, start: str, end: str) -> Link | None:
        """The link between two processors; None where there is none."""
        return next((one for one in self.links if (one.start, one.end) == (start, end)), None)

    def to_json(self) -> dict[str, Any]:
        """As a document, with sources."""
        return self.model_dump(mode="json", exclude_defaults=True)


def _check_links(links: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
    for end in (name for link in links for name in link):
        if end not in names:
            close = nearest(end, list(names))
            raise ValueError(f"a link names no processor: {end!r}" + (f"; did you mean {close!r}?" if close else ""))
    if len(set(links)) != len(links):
        raise ValueError("two links join the same processors in the same direction")
    following = {name: [end for start, end in links if start == name] for name in names}
    for name in names:
        if (cycle := _cycle_from(name, following)) is not None:
            raise ValueError(f"the links form a cycle: {' -> '.join(cycle)}")
    for start, end in links:
        if names.index(start) > names.index(end):
            raise ValueError(f"the link {start} -> {end} goes back; list the processors in order of use")
    reached = {names[0]}
    for name in names:
        reached |= set(following[name]) if name in reached else set()
    lonely = [name for name in names if name not in reached]
    if lonely:
        raise ValueError(f"a link is missing: none reaches {', '.join(lonely)} from {names[0]}")


def _cycle_from(start: str, following: Mapping[str, Sequence[str]]) -> list[str] | None:
    """A way along the links that comes back to where it began, or None."""
    ways = [[start]]
    seen = set[str]()
    while ways:
        way = ways.pop()
        for end in following[way[-1]]:
            if end == start:
                return [*way, end]
            if end not in seen:
                seen.add(end)
                ways.append([*way, end])
    return None
