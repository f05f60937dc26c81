"""A program's methods as exported programs of batch 1, ready for any back end."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import fx, nn

from ebbtide.engine import Layout
from ebbtide.errors import EbbtideError
from ebbtide.lowering.layout import Boundaries, boundary_layout, in_layout
from ebbtide.lowering.rewrite import fold_batch_norm, rewrite_for_delegate
from ebbtide.lowering.scoring import Scored
from ebbtide.lowering.spec import MethodSpec, ProgramSpec, methods_of, sample_inputs
from ebbtide.model.cost import cost

_CONTIGUOUS: Layout = "contiguous"


@dataclass(frozen=True)
class CapturedMethod:
    """One method as an exported program.

    Args:
        spec: what it was captured from.
        program: batch 1, float32 in and out, contiguous but for boundaries between stages that say otherwise; batch
            norm folded, weights contiguous and of their own storage.
        macs: multiply-accumulates of one call.
        peak_bytes: largest input + output of one operator, bytes.
    """

    spec: MethodSpec
    program: torch.export.ExportedProgram
    macs: int
    peak_bytes: int


def capture(spec: ProgramSpec) -> tuple[CapturedMethod, ...]:
    """Export every method of a program.

    Raises:
        EbbtideError: ``lowering.spec``, or ``lowering.failed`` if a module cannot be exported.
    """
    inputs, layout = sample_inputs(spec), _CONTIGUOUS
    captured = []
    for method in methods_of(spec):
        found, gives = _capture(method, inputs[method.name], takes=layout, program=spec.id)
        captured.append(found)
        if method.kind == "stage":
            layout = gives
    return tuple(captured)


class _Contiguous(nn.Module):
    """A stage whose boundaries are contiguous in memory, whatever it uses inside."""

    def __init__(self, module: nn.Module, *, channels_last: bool = False) -> None:
        super().__init__()
        self.module = module
        self.channels_last = channels_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the stage."""
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        y: torch.Tensor = self.module(x)
        return y if y.is_contiguous() else y.contiguous()


def _capture(
    method: MethodSpec, example: torch.Tensor, *, takes: Layout, program: str
) -> tuple[CapturedMethod, Layout]:
    try:
        graph = plain_graph(method.module, example)
        fold_batch_norm(graph)
        price = cost(graph, example.shape[1:])
        rewrite_for_delegate(graph)
        _own_weights(graph)
        gives = boundary_layout(graph, before=takes) if method.kind == "stage" else _CONTIGUOUS
        tail = graph if method.temperature is None else Scored(graph, method.temperature)
        exported = _export(Boundaries(tail, takes=takes, gives=gives), in_layout(example, takes))
        return CapturedMethod(method, exported, price.macs, price.peak_bytes), gives
    except EbbtideError:
        raise
    except Exception as error:
        raise EbbtideError(
            "lowering.failed",
            f"Method {method.name!r} of {program!r} cannot be exported: {type(error).__name__}: {error}",
            hint="build with other stages, or write this part of the model in plain tensor operators",
            place=f"{program}/{method.name}",
        ) from error


def plain_graph(module: nn.Module, example: torch.Tensor) -> fx.GraphModule:
    """A module as a graph of its own for inputs like `example`: no guards, one tensor in, one contiguous tensor out."""
    try:
        exported = _export(_Contiguous(module), example)
    except RuntimeError as error:
        if example.dim() != 4 or "view" not in str(error):
            raise
        # Views made for channels_last memory, as after a permute, do not fit contiguous input.
        exported = _export(_Contiguous(module, channels_last=True), example)
    graph = exported.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    graph.graph.set_codegen(fx.graph.CodeGen())
    output = graph.graph.output_node()
    (result,) = [leaf for leaf in torch.utils._pytree.tree_leaves(output.args) if isinstance(leaf, fx.Node)]
    output.args = (result,)
    graph._forward_pre_hooks.clear()
    graph._forward_hooks.clear()
    graph.recompile()
    return graph


def _export(module: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(module, (example,), strict=False)


def _own_weights(graph: fx.GraphModule) -> None:
    """Give every weight contiguous storage of its own.

    The XNNPACK serialiser writes a weight's whole storage, so a view would drag its parent into the file, and
    channels_last weights abort it.
    """
    for owner in graph.modules():
        for name, weight in list(owner.named_parameters(recurse=False)):
            owner.register_parameter(name, nn.Parameter(_owned(weight), requires_grad=False))
        for name, buffer in list(owner.named_buffers(recurse=False)):
            owner.register_buffer(name, _owned(buffer))


def _owned(value: torch.Tensor) -> torch.Tensor:
    own = value.detach().clone(memory_format=torch.contiguous_format)
    assert own.untyped_storage().nbytes() == own.numel() * own.element_size()
    return own
