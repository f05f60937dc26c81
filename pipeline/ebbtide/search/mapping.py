"""Which mappings of a model to the processors of a device are possible, and why the others are not.

As in EENN (arXiv 2403.07957) a mapping is built part by part and given up as soon as it breaks a limit: an operator
that its processor cannot run, memory, the worst-case latency, a missing link. Every limit is monotone (more parts and
exits never need less), so nothing possible is lost. Unlike the published search a processor may hold several exits or
none, memory counts the activations, and the worst case counts every exit and transfer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from ebbtide.exits import ExitKey
from ebbtide.search.costs import Costs
from ebbtide.search.mapping_blocks import Block
from ebbtide.search.mapping_problem import MappingProblem

Reason = Literal["unsupported", "memory", "latency", "link"]
MOST_EXITS = 3


@dataclass(frozen=True)
class Segment:
    """Parts that follow each other on one processor.

    Attributes:
        processor: its index.
        first: index of the first part.
        last: index of the last part; the head has the number of stages.
    """

    processor: int
    first: int
    last: int


@dataclass(frozen=True)
class Placement:
    """A mapping: segments in order of use, which cover all parts, and the exits that are on.

    An exit runs on the processor of the stage that it follows.
    """

    segments: tuple[Segment, ...]
    exits: tuple[ExitKey, ...]

    def processor_of(self, part: int) -> int:
        """The index of the processor that runs a part."""
        return next(one.processor for one in self.segments if one.first <= part <= one.last)


@dataclass(frozen=True)
class Reject:
    """Why mappings that begin in the same way are not possible.

    Attributes:
        reason: ``unsupported``, ``memory``, ``latency`` or ``link``.
        processor: name of the processor where it shows.
        block: name of the part or exit that was too much.
        segments: what had been mapped before.
        found: what it would need, in bytes or microseconds; None where it is no number.
        limit: what there is, in the same unit.
        detail: the operators that are not supported, or the processors that no link joins.
        times: how many beginnings, which differ in their exits only, were given up for it.
    """

    reason: Reason
    processor: str
    block: str
    segments: tuple[Segment, ...]
    found: float | None
    limit: float | None
    detail: str
    times: int = 1

    def sentence(self) -> str:
        """The same for people."""
        if self.reason == "latency":
            return f"Up to {self.block} on {self.processor} it takes at least {self.found:.0f} of {self.limit:.0f} us."
        if self.reason == "memory":
            return f"With {self.block} {self.processor} needs {self.found:.0f} of {self.limit:.0f} bytes."
        if self.reason == "unsupported":
            return f"{self.processor} cannot run {self.detail} ({self.block})."
        return f"There is no link {self.detail}."


@dataclass(frozen=True)
class Enumeration:
    """All mappings that keep the limits, and why the others do not.

    Attributes:
        feasible: in the order they were found.
        rejects: in the order they were found.
        limit_us: of the worst-case latency; None for none.
    """

    feasible: tuple[Placement, ...]
    rejects: tuple[Reject, ...]
    limit_us: float | None

    def reasons(self) -> dict[Reason, int]:
        """How many beginnings were given up for each reason."""
        counts: dict[Reason, int] = {}
        for one in self.rejects:
            counts[one.reason] = counts.get(one.reason, 0) + one.times
        return counts

    def binding(self) -> str | None:
        """In a sentence for each limit what stops every mapping, its mildest breach; None where one is possible."""
        if self.feasible:
            return None
        mildest: dict[tuple[Reason, str], Reject] = {}
        for one in self.rejects:
            key = one.reason, "" if one.reason == "latency" else one.processor
            if key not in mildest or (one.found or 0) < (mildest[key].found or 0):
                mildest[key] = one
        return " ".join(one.sentence() for one in mildest.values())


@dataclass(frozen=True)
class _Begun:
    """A mapping as far as it has come; `weights` and `peak` are of the processor in use, in bytes."""

    done: tuple[Segment, ...] = ()
    processor: int = 0
    first: int = 0
    next: int = 0
    exits: tuple[ExitKey, ...] = ()
    latency_us: float = 0.0
    weights: int = 0
    peak: int = 0


@dataclass
class _Walk:
    problem: MappingProblem
    limit_us: float | None
    most_exits: int
    feasible: list[Placement] = field(default_factory=list)
    rejects: dict[tuple[Reason, str, str, tuple[Segment, ...]], Reject] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem, parts = self.problem, self.problem.blocks.parts
        self.processors = problem.processing.processors
        self.remaining = [0.0] * (len(parts) + 1)
        for part in range(len(parts) - 1, -1, -1):
            able = [
                times.parts[part]
                for times, one in zip(problem.times, self.processors, strict=True)
                if not one.cannot_run(parts[part].operators)
            ]
            self.remaining[part] = min(able, default=0.0) + self.remaining[part + 1]

    def run(self) -> Enumeration:
        open_ones = list(self._starts())
        while open_ones:
            begun = open_ones.pop()
            if begun.next == len(self.problem.blocks.parts):
                self.feasible.append(Placement((*begun.done, self._segment(begun)), begun.exits))
            else:
                open_ones.extend(self._stay(begun))
                open_ones.extend(self._move(begun))
        return Enumeration(tuple(self.feasible), tuple(self.rejects.values()), self.limit_us)

    def _starts(self) -> Iterator[_Begun]:
        """The sample lies at the first processor; it may be carried to another one, but never to a server."""
        yield from self._stay(_Begun())
        for processor, one in enumerate(self.processors[1:], start=1):
            if one.kind != "server":
                yield from self._enter(_Begun(), processor)

    def _move(self, begun: _Begun) -> Iterator[_Begun]:
        for processor in range(begun.processor + 1, len(self.processors)):
            yield from self._enter(begun, processor)

    def _enter(self, begun: _Begun, processor: int) -> Iterator[_Begun]:
        carried = self.problem.transfer_us(begun.processor, processor, begun.next)
        done = (*begun.done, self._segment(begun)) if begun.next else ()
        if carried is None:
            names = f"{self.processors[begun.processor].name} -> {self.processors[processor].name}"
            self._reject("link", processor, self.problem.blocks.parts[begun.next].name, (), detail=names)
            return
        moved = replace(begun, done=done, processor=processor, first=begun.next, weights=0, peak=0)
        yield from self._stay(replace(moved, latency_us=begun.latency_us + carried))

    def _stay(self, begun: _Begun) -> Iterator[_Begun]:
        """Run the next part where we are, without an exit after it and with each one that can be."""
        part = begun.next
        us = self.problem.times[begun.processor].parts[part]
        after = self._take(replace(begun, next=part + 1), self.problem.blocks.parts[part], us)
        if after is None:
            return
        yield after
        if part < len(self.problem.blocks.stages) and len(begun.exits) < self.most_exits:
            for key in self.problem.at(part):
                us = self.problem.times[begun.processor].exits[key]
                taken = self._take(replace(after, exits=(*after.exits, key)), self.problem.exits[key], us)
                if taken is not None:
                    yield taken

    def _take(self, begun: _Begun, block: Block, us: float) -> _Begun | None:
        processor = self.processors[begun.processor]
        refused = processor.cannot_run(block.operators)
        if refused:
            self._reject("unsupported", begun.processor, block.name, begun.done, detail=", ".join(refused))
            return None
        weights, peak = begun.weights + block.weight_bytes, max(begun.peak, block.peak_bytes)
        memory = processor.memory_bytes
        if memory is not None and weights + peak > memory.value:
            self._reject("memory", begun.processor, block.name, begun.done, found=weights + peak, limit=memory.value)
            return None
        latency = begun.latency_us + us
        least, limit = latency + self.remaining[begun.next], self.limit_us
        if limit is not None and least > limit:
            self._reject("latency", begun.processor, block.name, begun.done, found=least, limit=limit)
            return None
        return replace(begun, weights=weights, peak=peak, latency_us=latency)

    def _segment(self, begun: _Begun) -> Segment:
        return Segment(begun.processor, begun.first, begun.next - 1)

    def _reject(
        self,
        reason: Reason,
        processor: int,
        block: str,
        segments: tuple[Segment, ...],
        *,
        found: float | None = None,
        limit: float | None = None,
        detail: str = "",
    ) -> None:
        name = self.processors[processor].name
        key = (reason, name, block if reason != "link" else detail, segments)
        known = self.rejects.get(key)
        if known is not None:
            least = min(known.found, found) if known.found is not None and found is not None else known.found
            self.rejects[key] = replace(known, times=known.times + 1, found=least)
        else:
            self.rejects[key] = Reject(reason, name, block, segments, found, limit, detail)


def enumerate_placements(
    problem: MappingProblem, *, limit_us: float | None = None, most_exits: int = MOST_EXITS
) -> Enumeration:
    """All mappings that keep the limits; an empty list comes with its reasons.

    Memory and unsupported operators are limits of the processors. A latency is given up as soon as not even the
    fastest processors could finish in time.

    Args:
        problem: model, exits and device.
        limit_us: most microseconds for a sample that passes every exit and reaches the head; None for no limit.
        most_exits: how many exits may be on; 0 enumerates the segments alone.
    """
    return _Walk(problem, limit_us, most_exits).run()


def count_exit_sets(problem: MappingProblem, most_exits: int) -> int:
    """How many choices of at most so many exits there are, one type at a position."""
    counts = [1] + [0] * most_exits
    for position in sorted({key.position for key in problem.keys}):
        types = len(problem.at(position))
        for size in range(most_exits, 0, -1):
            counts[size] += counts[size - 1] * types
    return sum(counts)


def mapped_costs(problem: MappingProblem, placement: Placement) -> Costs:
    """Microseconds of every stage, exit and the head where the mapping runs them.

    The first part of a segment also pays for the transfer to it, so a sample that leaves before pays for neither. All
    exits of the problem have a cost, those that are off too, so that any search over thresholds can go on from here.
    """
    parts = [problem.times[placement.processor_of(part)].parts[part] for part in range(len(problem.blocks.parts))]
    for part, _, _, us in transfers(problem, placement):
        parts[part] += us
    exits = {key: problem.times[placement.processor_of(key.position)].exits[key] for key in problem.keys}
    return Costs(stages=tuple(parts[:-1]), exits=exits, head=parts[-1])


def transfers(problem: MappingProblem, placement: Placement) -> tuple[tuple[int, int, int, float], ...]:
    """The transfers of a mapping: the part that waits for it, from and to which processor, microseconds.

    The sample lies at the first processor, and is carried too where another one begins.
    """
    found, before = [], 0
    for segment in placement.segments:
        if segment.processor != before:
            us = problem.transfer_us(before, segment.processor, segment.first)
            assert us is not None, "a mapping only uses links that are there"
            found.append((segment.first, before, segment.processor, us))
        before = segment.processor
    return tuple(found)


def worst_latency_us(problem: MappingProblem, placement: Placement) -> float:
    """Microseconds of a sample that passes every exit and reaches the head: all parts, exits and transfers."""
    costs = mapped_costs(problem, placement)
    return costs.total + float(costs.of_exits(placement.exits).sum())


def memory_bytes(problem: MappingProblem, placement: Placement) -> tuple[int, ...]:
    """Weights and the largest activations of each segment, its exits included."""
    needs = []
    for one in placement.segments:
        blocks = [*problem.blocks.parts[one.first : one.last + 1]]
        blocks += [problem.exits[key] for key in placement.exits if one.first <= key.position <= one.last]
        needs.append(sum(block.weight_bytes for block in blocks) + max(block.peak_bytes for block in blocks))
    return tuple(needs)


def keeps_limits(problem: MappingProblem, placement: Placement, *, limit_us: float | None) -> bool:
    """Whether a mapping whose segments are possible stays so with its exits."""
    for segment, needed in zip(placement.segments, memory_bytes(problem, placement), strict=True):
        processor = problem.processing.processors[segment.processor]
        exits = [key for key in placement.exits if segment.first <= key.position <= segment.last]
        if any(processor.cannot_run(problem.exits[key].operators) for key in exits):
            return False
        if processor.memory_bytes is not None and needed > processor.memory_bytes.value:
            return False
    return limit_us is None or worst_latency_us(problem, placement) <= limit_us
