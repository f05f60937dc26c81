"""From a PyTorch module or exported program to a `Graph`, or a refusal that names the node and the way out."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from ebbtide.errors import EbbtideError
from ebbtide.model.canonical import canonicalise
from ebbtide.model.cuts import first_strided
from ebbtide.model.graph import Graph
from ebbtide.model.operators import DATA_TO_PYTHON, RECURRENT, name_of, source_place
from ebbtide.model.origin import first_line, line_of_error
from ebbtide.model.shapes import EXAMPLE_BATCH, is_batch_size

_MOST_COPIES = 16
_CELLS = (torch.nn.RNNBase, torch.nn.RNNCellBase)
_BRANCH_HINT = (
    "Make the branch a tensor operation (torch.where, clamp, masking), or move it out of the model into the data."
)
_BATCH_HINT = (
    "Do not write the batch size as a number: use x.flatten(1), x.shape[0] or -1 where it stands, "
    'and export .pt2 files with dynamic_shapes={"x": {0: torch.export.Dim("batch")}}.'
)


def capture(
    module: torch.nn.Module, input_shape: tuple[int, ...], *, classes: int | None = None, place: str | None = None
) -> Graph:
    """Export a module and make it a graph in evaluation mode.

    Args:
        module: float32, on the CPU; takes (N, *input_shape) and returns logits (N, classes).
        input_shape: shape of a sample, without the batch.
        classes: how many logits there must be; None accepts any number.
        place: what to call the model in errors.

    Raises:
        EbbtideError: ``model.*`` where the module is not one that can be a graph.
    """
    notes = _prepare(module, place)
    _try_forward(module, input_shape, classes, place)
    with _plain_attention():
        program = _export(module, input_shape, place)
        graph = from_program(program, input_shape, classes=classes, place=place)
    graph.notes = (*notes, *graph.notes)
    return graph


def from_program(
    program: torch.export.ExportedProgram,
    input_shape: tuple[int, ...],
    *,
    classes: int | None = None,
    place: str | None = None,
) -> Graph:
    """Make an exported program a graph in evaluation mode.

    Raises:
        EbbtideError: ``model.*`` where the program is not one that can be a graph.
    """
    names = list(program.graph_signature.user_inputs)
    _one_input(len(names), place, ", ".join(str(name) for name in names))
    _one_output(len(program.graph_signature.user_outputs), place)
    _check_nodes(program.graph_module)
    _check_input(program, input_shape, place)
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    canonicalise(module)
    try:
        graph = Graph(module, input_shape)
    except Exception as error:
        raise _batch_error(error, place) from error
    _check_values(graph, place)
    _check_logits(graph.logits.meta["val"].shape, classes, place)
    _straighten(graph)
    return graph.eval()


def _straighten(graph: Graph) -> None:
    """Copy a transposed stream of tokens into contiguous memory once, so that it can be cut from there on."""
    for _ in range(_MOST_COPIES):
        node = first_strided(graph)
        if node is None:
            return
        nodes = graph.module.graph
        with nodes.inserting_after(node):
            copied = nodes.call_function(torch.ops.aten.contiguous.default, (node,))
        copied.meta = {key: value for key, value in node.meta.items() if key != "val"}
        node.replace_all_uses_with(copied, delete_user_cb=functools.partial(operator.is_not, copied))
        graph.refresh()
        graph.notes = (*graph.notes, f"The result of {source_place(node)} is copied into contiguous memory to be cut.")


def _prepare(module: torch.nn.Module, place: str | None) -> tuple[str, ...]:
    module.eval()
    notes = []
    for name, part in module.named_modules():
        if isinstance(part, _CELLS):
            raise _recurrent(f"{name} ({type(part).__name__})")
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.momentum is None:
            part.momentum = 0.1
            notes.append(f"Batch norm {name} keeps a cumulative average; in training it uses momentum 0.1 here.")
    for name, tensor in module.named_parameters():
        if tensor.dtype != torch.float32:
            raise EbbtideError(
                "model.dtype",
                f"Parameter {name} is {str(tensor.dtype).removeprefix('torch.')}",
                place=place,
                expected="float32 parameters",
                hint="Return model.float() from the factory; other precisions are made after training.",
            )
    return tuple(notes)


def _try_forward(module: torch.nn.Module, input_shape: tuple[int, ...], classes: int | None, place: str | None) -> None:
    signature = _required_inputs(module)
    _one_input(len(signature), place, ", ".join(signature))
    try:
        with torch.no_grad():
            result = module(torch.zeros(2, *input_shape))
    except Exception as error:
        raise EbbtideError(
            "model.forward",
            f"The model fails on an input of shape (2, {', '.join(map(str, input_shape))}): {first_line(error)}",
            place=line_of_error(error) or place,
            hint="Set data.input.size to the model's own size, or give the model the data's size in model.arguments "
            "(timm: img_size; channels: in_chans).",
        ) from error
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(result) if leaf is not None]
    _one_output(len(leaves), place)
    _check_logits(leaves[0].shape if isinstance(leaves[0], torch.Tensor) else (), classes, place)
    try:
        with torch.no_grad():
            module(torch.zeros(3, *input_shape))
    except Exception as error:
        raise _batch_error(error, line_of_error(error) or place) from error


def _required_inputs(module: torch.nn.Module) -> list[str]:
    import inspect

    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    positional = [p for p in parameters if p.kind in kinds]
    required = [p.name for p in positional if p.default is inspect.Parameter.empty]
    if required or not (positional or any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)):
        return required
    return ["x"]


def _export(module: torch.nn.Module, input_shape: tuple[int, ...], place: str | None) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    try:
        return torch.export.export(
            module, (torch.zeros(EXAMPLE_BATCH, *input_shape),), dynamic_shapes=({0: batch},), strict=False
        )
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        where = line_of_error(error) or place
        if "DataDependent" in text or "data-dependent" in text or "data dependent" in text:
            raise EbbtideError(
                "model.data_dependent",
                f"The model decides by the values of its input: {first_line(error)}",
                place=where,
                hint=_BRANCH_HINT,
            ) from error
        if "batch" in text and any(word in text for word in ("onstraint", "pecializ", "not divisible", "Dim(")):
            raise _batch_error(error, where) from error
        raise EbbtideError(
            "model.export",
            f"torch.export cannot capture the model: {first_line(error)}",
            place=where,
            hint="Rewrite that line in plain tensor operations.",
        ) from error


def _batch_error(error: Exception, place: str | None) -> EbbtideError:
    return EbbtideError(
        "model.batch",
        f"The model works for one fixed batch size only: {first_line(error)}",
        place=place,
        expected="any batch size",
        hint=_BATCH_HINT,
    )


def _recurrent(place: str) -> EbbtideError:
    return EbbtideError(
        "model.recurrent",
        "The model has a recurrent layer, which has no place to cut and no XNNPACK kernel",
        place=place,
        hint="Use convolutions over time (Conv1d, dilated) or attention instead of LSTM, GRU or RNN.",
    )


def _one_input(count: int, place: str | None, names: str) -> None:
    if count != 1:
        raise EbbtideError(
            "model.inputs",
            f"The model takes {count} inputs",
            place=place,
            expected="one tensor (N, C, H, W) or (N, C, T)",
            found=names or "none",
            hint="Wrap the model in a factory whose forward takes one tensor and fills in the others.",
        )


def _one_output(count: int, place: str | None) -> None:
    if count != 1:
        raise EbbtideError(
            "model.outputs",
            f"The model puts out {count} tensors",
            place=place,
            expected="one tensor of logits (N, classes)",
            hint="Wrap the model in a factory whose forward returns only the logits (no auxiliary outputs).",
        )


def _check_logits(shape: Any, classes: int | None, place: str | None) -> None:
    shown = "(N" + "".join(f", {size}" for size in list(shape)[1:]) + ")"
    if len(shape) != 2:
        raise EbbtideError(
            "model.not_classifier",
            "The model's output is not one row of logits for each sample",
            place=place,
            expected="(N, classes)",
            found=shown if len(shape) else "no batch",
            hint="Add global pooling and a linear layer; segmentation and detection are not classification.",
        )
    if classes is not None and int(shape[1]) != classes:
        raise EbbtideError(
            "model.classes",
            f"The model has {int(shape[1])} outputs, and the data has {classes} classes",
            place=place,
            hint="Give the model the data's number of classes (model.arguments), or the data all of the model's.",
        )


def _check_nodes(module: fx.GraphModule) -> None:
    for node in module.graph.nodes:
        name = name_of(node)
        if name in RECURRENT:
            raise _recurrent(source_place(node))
        if name in DATA_TO_PYTHON or (name and isinstance(node.target, torch._ops.HigherOrderOperator)):
            raise EbbtideError(
                "model.data_dependent",
                f"The model decides or computes by single values of its input ({name})",
                place=source_place(node),
                hint=_BRANCH_HINT,
            )


def _check_input(program: torch.export.ExportedProgram, input_shape: tuple[int, ...], place: str | None) -> None:
    name = program.graph_signature.user_inputs[0]
    value = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    sizes = list(value.shape)
    if any(isinstance(size, torch.SymInt) for size in sizes[1:]):
        raise EbbtideError(
            "model.dynamic_shape",
            f"The exported program's input has more free dimensions than the batch: {tuple(sizes)}",
            place=place,
            hint=f"Export it for the fixed shape (batch, {', '.join(map(str, input_shape))}).",
        )
    if not sizes or not isinstance(sizes[0], torch.SymInt):
        raise _batch_error(ValueError(f"its input is {tuple(sizes)}"), place)
    if tuple(sizes[1:]) != tuple(input_shape):
        raise EbbtideError(
            "model.forward",
            "The exported program's input is not of the data's shape",
            place=place,
            expected=f"(N, {', '.join(map(str, sizes[1:]))}), as it was exported",
            found=f"(N, {', '.join(map(str, input_shape))}), as the data is",
            hint="Set data.input.size to the program's own size, or export it again.",
        )


def _check_values(graph: Graph, place: str | None) -> None:
    for node in graph.module.graph.nodes:
        value = node.meta.get("val")
        for part in value if isinstance(value, (tuple, list)) else (value,):
            sizes = list(part.shape) if isinstance(part, torch.Tensor) else [part]
            symbols = [s for size in sizes if isinstance(size, torch.SymInt) for s in size.node.expr.free_symbols]
            if any(str(symbol).startswith("u") for symbol in symbols):
                raise EbbtideError(
                    "model.dynamic_shape",
                    f"The shape of {name_of(node)}'s result depends on the values of the input",
                    place=source_place(node),
                    hint="Keep shapes fixed: multiply by a mask instead of selecting, use topk with a fixed k.",
                )
    if not is_batch_size(graph.logits.meta["val"].shape[0]):
        raise _batch_error(ValueError("its logits do not have the input's batch size"), place)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """nn.MultiheadAttention as its operators, not as the one fused call that only its evaluation mode has."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
