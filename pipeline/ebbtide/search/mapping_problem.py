"""A model, its exits and a device, as far as a mapping of one to the other depends on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ebbtide.device import Processing, Processor, StageTimes
from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey
from ebbtide.search.mapping_blocks import Block, BlockGraph

Origin = Literal["measured", "throughput"]


@dataclass(frozen=True)
class PartTimes:
    """How long each part takes on one processor, in microseconds.

    Attributes:
        parts: the stages, then the head.
        exits: by key.
        origin: ``measured``, or ``throughput`` where MACs were divided by the processor's MACs a second.
    """

    parts: tuple[float, ...]
    exits: Mapping[ExitKey, float]
    origin: Origin


@dataclass(frozen=True)
class MappingProblem:
    """What is mapped to what.

    Attributes:
        blocks: the model.
        exits: what each exit needs, by key.
        processing: the device's processors and links.
        times: by processor, in their order.
    """

    blocks: BlockGraph
    exits: Mapping[ExitKey, Block]
    processing: Processing
    times: tuple[PartTimes, ...]

    @property
    def keys(self) -> tuple[ExitKey, ...]:
        """All exits, in order of position and type."""
        return tuple(sorted(self.exits))

    def at(self, position: int) -> tuple[ExitKey, ...]:
        """The exits at a position."""
        return tuple(key for key in self.keys if key.position == position)

    def transfer_us(self, start: int, end: int, part: int) -> float | None:
        """Time until what reaches a part has moved from one processor to another; None without a link."""
        names = [one.name for one in self.processing.processors]
        link = self.processing.link(names[start], names[end])
        return None if link is None else link.transfer_us(self.blocks.carried_bytes(part))


def mapping_problem(
    blocks: BlockGraph, exits: Mapping[ExitKey, Block], processing: Processing, *, model: str = ""
) -> MappingProblem:
    """Put a model, its exits and a device together.

    A processor's times are those measured for this model and these cuts, else its throughput.

    Args:
        blocks: of the model.
        exits: from `exit_block`; positions are those of the stages.
        processing: of a device profile.
        model: the name that measured times are looked up by.

    Raises:
        EbbtideError: ``search.mapping_times`` if a processor has neither fitting times nor a throughput,
            ``search.mapping_exit`` for an exit where the model has no candidate for one.
    """
    wrong = [key for key in exits if key.position not in blocks.candidates]
    if wrong:
        raise EbbtideError(
            "search.mapping_exit",
            f"No exit can stand at {', '.join(map(str, sorted(wrong)))}",
            expected=f"a position of {', '.join(map(str, blocks.candidates)) or 'none'}",
            hint="An exit follows a block with weights that is not the last one before the head.",
        )
    cuts = [stage.name for stage in blocks.stages]
    times = tuple(_times(one, blocks, exits, model=model, cuts=cuts) for one in processing.processors)
    return MappingProblem(blocks, dict(exits), processing, times)


def _times(
    processor: Processor, blocks: BlockGraph, exits: Mapping[ExitKey, Block], *, model: str, cuts: Sequence[str]
) -> PartTimes:
    measured = next((one for one in processor.times if (one.model, one.cuts) == (model, list(cuts))), None)
    if measured is not None and all(str(key) in measured.exits_us for key in exits):
        return _measured(measured, exits)
    if processor.macs_per_s is None:
        raise EbbtideError(
            "search.mapping_times",
            f"Nothing says how fast {processor.name} runs this model",
            expected=f"times of {model or 'a model without a name'} cut at {', '.join(cuts)}, and of every exit",
            found=", ".join(sorted({one.model for one in processor.times})) or "no times",
            hint="Measure it there, or state macs_per_s.",
            place=f"processing.processors.{processor.name}",
        )
    us_per_mac = 1e6 / processor.macs_per_s.value
    return PartTimes(
        parts=tuple(part.macs * us_per_mac for part in blocks.parts),
        exits={key: block.macs * us_per_mac for key, block in exits.items()},
        origin="throughput",
    )


def _measured(times: StageTimes, exits: Mapping[ExitKey, Block]) -> PartTimes:
    return PartTimes(
        parts=(*times.stages_us, times.head_us),
        exits={key: times.exits_us[str(key)] for key in exits},
        origin="measured",
    )
