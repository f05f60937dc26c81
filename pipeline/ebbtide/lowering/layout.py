"""In which order of memory a tensor crosses a boundary between methods, and the conversions that make it so.

XNNPACK computes convolutions and pooling in channels_last order. Where a boundary is in that order too, neither side
transposes, which halves what the boundary costs. Around everything else, and in every operator that the delegate leaves
to the runtime's own kernels, tensors stay contiguous: some of those kernels fail on another order.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from ebbtide.engine import Layout
from ebbtide.model.operators import name_of

_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

# What XNNPACK computes in channels_last order, and what it computes in the order that it is given.
_SPATIAL = {"conv2d", "convolution", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "upsample_bilinear2d"}
_BLIND = {"batch_norm", "cat", "dropout", "hardswish", "hardswish_", "pad", "prelu"}


def layout_of(tensor: torch.Tensor) -> Layout:
    """The order that a tensor is in; contiguous if both say the same, as for one channel or one pixel."""
    if tensor.dim() != 4 or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=torch.channels_last):
        return "contiguous"
    return "channels_last"


def boundary_layout(stage: fx.GraphModule, *, before: Layout) -> Layout:
    """The order in which a stage can put out its result without moving it.

    Args:
        stage: operators with their shapes; one tensor in and out.
        before: the order of its input.
    """
    (result,) = stage.graph.output_node().all_input_nodes
    shape = result.meta["val"].shape
    if len(shape) != 4 or shape[1] == 1 or shape[2] * shape[3] == 1:
        return "contiguous"
    open_, seen = [result], set()
    while open_:
        node = open_.pop()
        if node in seen or len(node.meta["val"].shape) != 4:
            continue
        seen.add(node)
        if name_of(node) in _SPATIAL or (node.op == "placeholder" and before == "channels_last"):
            return "channels_last"
        if name_of(node) in _BLIND or torch.Tag.pointwise in getattr(node.target, "tags", ()):
            # Where the operands of an operator differ in order, XNNPACK takes channels_last for all.
            open_ += node.all_input_nodes
    return "contiguous"


def in_layout(tensor: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The same numbers in that order of memory."""
    return tensor.contiguous(memory_format=_FORMATS[layout])


class Boundaries(nn.Module):
    """A method that is contiguous inside and takes and puts out what the boundaries demand.

    The delegate takes these copies (not those of `torch.Tensor.contiguous`), and drops each that stands beside an
    operator which it computes in channels_last order anyway.
    """

    def __init__(self, method: nn.Module, *, takes: Layout, gives: Layout) -> None:
        super().__init__()
        self.method = method
        self.takes = takes
        self.gives = gives

    def forward(self, x: torch.Tensor) -> object:
        """Run the method."""
        if self.takes != "contiguous":
            x = torch.ops.aten._to_copy.default(x, memory_format=torch.contiguous_format)
        y = self.method(x)
        if self.gives != "contiguous":
            y = torch.ops.aten._to_copy.default(y, memory_format=_FORMATS[self.gives])
        return y
