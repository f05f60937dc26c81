"""A model for fewer classes: the head restricted to the logits of a class set."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ebbtide.errors import EbbtideError
from ebbtide.model.graph import Graph, attribute, replace_parameter
from ebbtide.model.operators import argument, name_of

_INDICES = "class_indices"


def restrict_head(graph: Graph, class_indices: Sequence[int]) -> Graph:
    """A copy of a graph that puts out the logits of some classes only, in the order given.

    The rows of the last linear layer are copied; where the graph does not end in one, the logits are selected after
    they are computed, and a note says so.

    Args:
        graph: the universal model; left as it is.
        class_indices: distinct indices into its classes.

    Raises:
        EbbtideError: ``model.classes`` where an index is no class of the model.
    """
    wrong = [index for index in class_indices if not 0 <= index < graph.classes]
    if wrong or len(set(class_indices)) != len(class_indices) or not class_indices:
        raise EbbtideError(
            "model.classes",
            f"The class indices {list(class_indices)[:8]} are not distinct classes of the model",
            expected=f"distinct numbers from 0 to {graph.classes - 1}",
            found=str(wrong[0]) if wrong else None,
            place="classes",
            hint="Name each class once, and only classes that the model has.",
        )
    small = graph.copy()
    indices = torch.tensor(list(class_indices), dtype=torch.int64, device=graph.device)
    if list(class_indices) == list(range(graph.classes)):
        return small
    if not _slice_linear(small, indices):
        _select(small, indices)
        small.notes = (
            *small.notes,
            f"The model ends in {name_of(graph.logits)}, not in a linear layer of its own: the logits of the class "
            "set are selected after all are computed.",
        )
    small.refresh()
    return small


def _slice_linear(graph: Graph, indices: torch.Tensor) -> bool:
    last = graph.logits
    if name_of(last) != "linear":
        return False
    tensors = [node for node in (argument(last, "weight"), argument(last, "bias")) if node is not None]
    if any(node.op != "get_attr" or len(node.users) > 1 for node in tensors):
        return False
    targets = [str(node.target) for node in tensors]
    used = [str(node.target) for node in graph.module.graph.nodes if node.op == "get_attr"]
    if any(used.count(target) > 1 for target in targets):
        return False
    for target in targets:
        rows = attribute(graph.module, target).detach()[indices].clone()
        replace_parameter(graph.module, target, rows)
    return True


def _select(graph: Graph, indices: torch.Tensor) -> None:
    nodes, logits = graph.module.graph, graph.logits
    graph.module.register_buffer(_INDICES, indices, persistent=True)
    with nodes.inserting_after(logits):
        place = nodes.get_attr(_INDICES)
    with nodes.inserting_after(place):
        chosen = nodes.call_function(torch.ops.aten.index_select.default, (logits, 1, place))
    nodes.output_node().args = (chosen,)
