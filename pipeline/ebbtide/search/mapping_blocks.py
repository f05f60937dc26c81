"""The blocks of a model that are mapped to processors, and what each of them and every exit needs there.

EENN (arXiv 2403.07957) collapses residual and parallel regions and cuts the remaining chain into blocks. Here a block
is what lies between two cut points: only one tensor is live there, and a stage may end there, so every mapping can be
lowered. Unlike the published blocks, an expansion stays with its depthwise convolution.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx, nn

from ebbtide.exits import ExitKey
from ebbtide.model import Graph, capture, cost, cut_points, split
from ebbtide.model.operators import WEIGHTED

FLOAT_BYTES = 4
"""Feature maps travel as float32."""


@dataclass(frozen=True)
class Block:
    """A stage, an exit or the head, as far as a processor is concerned; per sample, at batch 1.

    Attributes:
        name: of the cut point that ends it, ``head``, or the exit's key.
        macs: multiply-accumulates.
        weight_bytes: parameters and buffers.
        peak_bytes: the largest operator's activations, in and out.
        output_bytes: of what it puts out.
        operators: aten names of what it runs.
        main: the operator with the most MACs, "" where there are none.
    """

    name: str
    macs: int
    weight_bytes: int
    peak_bytes: int
    output_bytes: int
    operators: frozenset[str]
    main: str


@dataclass(frozen=True)
class BlockGraph:
    """A model as a chain of blocks.

    Attributes:
        stages: in order; an exit at position p follows stage p.
        head: the classifier, and whatever the last stage left.
        input_bytes: of a sample.
    """

    stages: tuple[Block, ...]
    head: Block
    input_bytes: int

    @property
    def parts(self) -> tuple[Block, ...]:
        """The stages, then the head."""
        return (*self.stages, self.head)

    @property
    def candidates(self) -> tuple[int, ...]:
        """Positions where an exit makes sense: after work with weights, but not after the last block before the head.

        There an exit would only repeat the head.
        """
        return tuple(position for position, stage in enumerate(self.stages[:-1]) if stage.main in WEIGHTED)

    def carried_bytes(self, part: int) -> int:
        """Bytes that reach a part: the sample for the first one, else what the stage before it puts out."""
        return self.input_bytes if part == 0 else self.stages[part - 1].output_bytes


def block_graph(graph: Graph, cuts: Sequence[str] | None = None) -> BlockGraph:
    """The chain of blocks of a model.

    A recurrent model, or one with several outputs, never becomes a `Graph`: `ebbtide.model.capture` refuses it with
    ``model.recurrent`` or ``model.outputs``.

    Args:
        graph: the model.
        cuts: names of the cut points that end the stages; None takes all.

    Raises:
        EbbtideError: ``model.cut_point`` for an unknown name.
    """
    names = [point.name for point in cut_points(graph)] if cuts is None else list(cuts)
    staged = split(graph, names)
    stages = [
        _block(staged.cuts[position], stage, staged.inputs_of(position), math.prod(staged.boundaries[position]))
        for position, stage in enumerate(staged.stages)
    ]
    head = _block("head", staged.head, staged.inputs_of(len(stages)), graph.classes)
    return BlockGraph(tuple(stages), head, FLOAT_BYTES * math.prod(graph.input_shape))


def exit_block(key: ExitKey, module: nn.Module, boundary: Sequence[int]) -> Block:
    """What an exit needs.

    Args:
        key: where it stands and of which type it is.
        module: the exit.
        boundary: shape of the feature map it takes, without the batch.
    """
    shape = tuple(boundary)
    graph = capture(module, shape, place=str(key))
    return _block(str(key), graph.module, shape, graph.classes)


def _block(name: str, module: fx.GraphModule, inputs: Sequence[int], outputs: int) -> Block:
    counted = cost(module, inputs)
    macs = Counter[str]()
    for node in counted.nodes:
        macs[node.op] += node.macs
    most = macs.most_common(1)
    return Block(
        name=name,
        macs=counted.macs,
        weight_bytes=counted.weight_bytes,
        peak_bytes=counted.peak_bytes,
        output_bytes=FLOAT_BYTES * outputs,
        operators=frozenset(node.op for node in counted.nodes),
        main=most[0][0] if most and most[0][1] else "",
    )
