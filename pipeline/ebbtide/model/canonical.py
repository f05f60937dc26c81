"""One form for every exported graph: one tensor in and out, no mutation, one node for the batch size."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from ebbtide.errors import EbbtideError
from ebbtide.model.operators import CHECKS, SPLITTERS, argument, name_of, source_place

_PLAIN_CALLS = {
    getattr(operator, name) for name in ("getitem", "add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow")
}
_NO_END = 2**63 - 1
_COUNTER = "num_batches_tracked"


def canonicalise(module: fx.GraphModule) -> None:
    """Rewrite an exported module's graph in place.

    Raises:
        EbbtideError: ``model.unsupported_node`` or ``model.buffer_change`` with the node that stops it.
    """
    _plain_signature(module)
    _drop_checks(module)
    _make_functional(module)
    for node in list(module.graph.nodes):
        if name_of(node) == "_native_batch_norm_legit_no_training":
            _trainable_batch_norm(module.graph, node)
        elif name_of(node) == "slice" and _takes_all(node):
            node.replace_all_uses_with(node.args[0])
    for node in module.graph.nodes:
        known = isinstance(node.target, torch._ops.OpOverload) or node.target in _PLAIN_CALLS
        if node.op == "call_module" or (node.op == "call_function" and not known and not _on_sizes(node)):
            raise EbbtideError(
                "model.unsupported_node",
                f"The graph calls {node.target}, which is not a plain tensor operator",
                place=source_place(node),
                hint="Write that part of the model in torch's own operators.",
            )
    _one_batch_size(module.graph)
    module.graph.eliminate_dead_code()
    module.recompile()


def _on_sizes(node: fx.Node) -> bool:
    return not isinstance(node.meta.get("val"), (torch.Tensor, tuple, list))


def _plain_signature(module: fx.GraphModule) -> None:
    graph = module.graph
    graph.set_codegen(fx.graph.CodeGen())
    output = graph.output_node()
    tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(output.args) if isinstance(leaf, fx.Node)]
    output.args = (tensors[0],)
    placeholder = next(node for node in graph.nodes if node.op == "placeholder")
    placeholder.target = placeholder.name
    # Hooks of the exported module check and reorder its inputs; a plain module has none.
    module._forward_pre_hooks.clear()
    module._forward_hooks.clear()


def _drop_checks(module: fx.GraphModule) -> None:
    for node in reversed(list(module.graph.nodes)):
        guard = node.op == "call_module" and "_guards_fn" in str(node.target)
        counter = name_of(node) == "add_" and _COUNTER in str(getattr(node.args[0], "target", ""))
        if (guard or counter or name_of(node) in CHECKS) and not node.users:
            module.graph.erase_node(node)


def _make_functional(module: fx.GraphModule) -> None:
    """Replace ``relu_`` and its like by ``relu``, so that an edge is a value that never changes."""
    order = {node: position for position, node in enumerate(module.graph.nodes)}
    owner: dict[fx.Node, fx.Node] = {}  # of a view: the node whose memory it shows
    for node in list(module.graph.nodes):
        if _writes(node):
            _out_of_place(node, order, owner)
        elif _is_view(node) and isinstance(node.args[0], fx.Node):
            owner[node] = owner.get(node.args[0], node.args[0])


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_view(node: fx.Node) -> bool:
    if name_of(node) in SPLITTERS or node.target is operator.getitem:
        return True
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return any(result.alias_info is not None for result in node.target._schema.returns)


def _out_of_place(node: fx.Node, order: dict[fx.Node, int], owner: dict[fx.Node, fx.Node]) -> None:
    changed = node.args[0]
    assert isinstance(changed, fx.Node)
    assert isinstance(node.target, torch._ops.OpOverload)
    packet = getattr(torch.ops.aten, name_of(node).removesuffix("_"), None)
    overload = getattr(packet, node.target._overloadname, None)
    written = [slot.name for slot in node.target._schema.arguments if slot.alias_info and slot.alias_info.is_write]
    memory = owner.get(changed, changed)
    twins = [memory, *(view for view, shown in owner.items() if shown is memory)]
    read_later = any(order[user] > order[node] for twin in twins if twin is not changed for user in twin.users)
    if overload is None or overload._schema.is_mutable or len(written) != 1 or memory.op == "get_attr" or read_later:
        raise EbbtideError(
            "model.buffer_change",
            f"{name_of(node)} changes a tensor in place that the model still reads under another name",
            place=source_place(node),
            hint="Assign to a new variable instead: y = f(x), torch.cat or torch.where in place of x[...] = y.",
        )
    changed.replace_all_uses_with(node, delete_user_cb=lambda user: order.get(user, -1) > order[node])
    node.target = overload


def _takes_all(node: fx.Node) -> bool:
    """Whether a slice is ``x[:]``, which export writes for each dimension before the one that is meant."""
    start, end, step = (argument(node, name) for name in ("start", "end", "step"))
    return start in (None, 0) and step == 1 and (end is None or (isinstance(end, int) and end >= _NO_END))


def _trainable_batch_norm(graph: fx.Graph, node: fx.Node) -> None:
    """Inference programs hold a batch norm that returns three tensors and cannot be trained."""
    values: list[Any] = [argument(node, name) for name in ("input", "weight", "bias", "running_mean", "running_var")]
    with graph.inserting_before(node):
        plain = graph.call_function(
            torch.ops.aten.batch_norm.default,
            (*values, False, argument(node, "momentum"), argument(node, "eps"), False),
        )
    plain.meta = {key: value for key, value in node.meta.items() if key != "val"}
    for user in list(node.users):
        if user.target is operator.getitem and user.args[1] == 0:
            user.replace_all_uses_with(plain)
        graph.erase_node(user)
    graph.erase_node(node)


def _one_batch_size(graph: fx.Graph) -> None:
    """Let every use of the batch size read it from the input, where each stage can read it from its own."""
    placeholder = next(node for node in graph.nodes if node.op == "placeholder")
    reads = [node for node in graph.nodes if name_of(node) == "sym_size" and _reads_batch(node, placeholder)]
    if not reads:
        return
    with graph.inserting_after(placeholder):
        size = graph.call_function(torch.ops.aten.sym_size.int, (placeholder, 0))
    size.meta["val"] = placeholder.meta["val"].shape[0]
    for node in reads:
        node.replace_all_uses_with(size)
        graph.erase_node(node)


def _reads_batch(node: fx.Node, placeholder: fx.Node) -> bool:
    value, batch = node.meta.get("val"), placeholder.meta["val"].shape[0]
    if not isinstance(value, torch.SymInt) or not isinstance(batch, torch.SymInt):
        return False
    return bool(value.node.expr == batch.node.expr)
