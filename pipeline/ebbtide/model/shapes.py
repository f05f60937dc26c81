"""What flows along the edges of a graph: shapes with a symbolic batch, or at one batch size.

Nothing is computed: tensors are fake, so a large model is propagated in well under a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

EXAMPLE_BATCH = 13  # unlike any other size, or torch takes the two for one and fixes the batch


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=True)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        # Parameters are kept as fake twins, or a copied graph would keep the original's alive.
        self.values[n] = value.detach() if isinstance(value, torch.nn.Parameter) else value
        return value


def device_of(module: torch.nn.Module) -> torch.device:
    """The device of the module's first tensor; the CPU for a module without any."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def propagate(module: fx.GraphModule, input_shape: Sequence[int], *, batch: int | None = None) -> dict[fx.Node, Any]:
    """The value of every node as fake tensors.

    Args:
        module: a graph with one tensor in.
        input_shape: shape of one sample, without the batch.
        batch: the batch size; None makes it a symbol, which shows the dimensions that follow it.

    Returns:
        A fake tensor, symbolic integer, tuple or constant for each node.
    """
    example = torch.zeros(
        (EXAMPLE_BATCH if batch is None else batch, *input_shape), device=device_of(module), dtype=torch.float32
    )
    if batch is None:
        mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
        sizes = [DimDynamic.DYNAMIC, *([DimDynamic.STATIC] * len(input_shape))]
        context: Any = StatelessSymbolicContext(dynamic_sizes=sizes)
        fake = mode.from_tensor(example, symbolic_context=context, source=ConstantSource("input"))
    else:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        fake = mode.from_tensor(example)
    recorder = _Recorder(module)
    # Without Python's own kernels some operators (slice) would fix the batch to the example's.
    with enable_python_dispatcher(), mode, torch.no_grad():
        recorder.run(fake, enable_io_processing=False)
    return recorder.values


def is_batch_size(size: Any) -> bool:
    """Whether a symbolic size equals the batch, in whatever form (``s``, ``(16 * s) // 16``)."""
    if not isinstance(size, torch.SymInt):
        return False
    symbols = list(size.node.expr.free_symbols)
    return len(symbols) == 1 and all(size.node.expr.subs(symbols[0], n) == n for n in (2, 3, 7))


def layout_of(value: torch.Tensor) -> str | None:
    """ "contiguous", "channels_last", or None for any other order of the elements in memory."""
    if value.is_contiguous():
        return "contiguous"
    if value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last):
        return "channels_last"
    return None
