"""Where a graph can be cut, and which of those places make balanced stages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import fx

from ebbtide.errors import EbbtideError, nearest
from ebbtide.model.cost import cost, depends_on_input
from ebbtide.model.graph import Graph
from ebbtide.model.operators import (
    CONVOLUTIONS,
    DROPOUTS,
    NORMS,
    REARRANGING,
    REDUCTIONS,
    WEIGHTED,
    module_path,
    name_of,
    reads_batch_size,
)
from ebbtide.model.shapes import is_batch_size, layout_of, propagate

AUTO_STAGES = 4
AUTO_SMALLEST_SHARE = 0.05
_LOCAL_POOLS = frozenset({"select", "avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"})


@dataclass(frozen=True)
class CutPoint:
    """An edge of the graph that the only live tensor crosses.

    Args:
        name: the path of the source module that made the tensor where that is unique (``layer1.0.relu``), else the
            node's own name.
        index: its position among the graph's cut points, from 0.
        shape: shape of the tensor, without the batch.
        macs_before: multiply-accumulates per sample up to here.
        share: the same as a share of the whole model, 0..1.
        node: the node's name in the graph.
        layout: order of the elements in memory, "contiguous" or "channels_last".
    """

    name: str
    index: int
    shape: tuple[int, ...]
    macs_before: int
    share: float
    node: str
    layout: str


def cut_points(graph: Graph) -> tuple[CutPoint, ...]:
    """The edges where a stage may end, in order.

    Only one tensor is live there; what follows (after a fork, views or dropout) starts new work: a convolution, a
    product, a norm before one, or the classifier's own pooling. Before it lies work that is complete: not a
    convolution waiting for its norm, not an expansion waiting for its depthwise convolution, nothing inside a chain
    of views. The last cut point lies before the classifier, and whatever pools for it.
    """
    if (known := graph.memory.get("cut_points")) is not None:
        return cast(tuple[CutPoint, ...], known)
    spent = _cumulative_macs(graph)
    total = max(spent.values(), default=0)
    single = propagate(graph.module, graph.input_shape, batch=1)
    found = list(_ends(graph, single))
    paths = [module_path(node) for node in found]
    points = []
    for index, (node, path) in enumerate(zip(found, paths, strict=True)):
        value = single[node]
        layout = layout_of(value)
        assert layout is not None
        points.append(
            CutPoint(
                name=path if path and paths.count(path) == 1 else node.name,
                index=index,
                shape=tuple(int(size) for size in value.shape[1:]),
                macs_before=spent[node],
                share=spent[node] / total if total else 0.0,
                node=node.name,
                layout=layout,
            )
        )
    graph.memory["cut_points"] = tuple(points)
    return tuple(points)


def choose_cuts(graph: Graph, stages: Literal["auto"] | int | Sequence[str]) -> tuple[str, ...]:
    """The names of the cut points that end the stages.

    The last one is always the last cut point, before the head, so N stages have N cuts and exits make sense after
    all stages but the last.

    Args:
        graph: the model.
        stages: "auto" for as many as make sense, at most 4 and each with at least 5 % of the MACs; a number for
            that many, balanced by MACs; or the names of cut points between the stages.

    Raises:
        EbbtideError: ``model.cut_point`` for an unknown name, or for more stages than there are cut points.
    """
    points = cut_points(graph)
    if not points:
        raise EbbtideError(
            "model.cut_point",
            "The model has no place to cut: at every edge more than one tensor is live, or there is one layer only",
            hint="Use a model made of blocks one after the other.",
            place="model",
        )
    if stages == "auto":
        chosen = _auto(points)
    elif isinstance(stages, int):
        if not 1 <= stages <= len(points):
            raise EbbtideError(
                "model.cut_point",
                f"The model cannot be cut into {stages} stages",
                expected=f"1 to {len(points)} stages",
                hint="Lower `stages`, or say auto; `ebb inspect` shows the cut points.",
                place="stages",
            )
        chosen = _balanced(points, stages)
    else:
        chosen = sorted({*(find(points, name).index for name in stages), points[-1].index})
    return tuple(points[index].name for index in chosen)


def find(points: Sequence[CutPoint], name: str) -> CutPoint:
    """The cut point of that name (or node name).

    Raises:
        EbbtideError: ``model.cut_point`` with the nearest known name.
    """
    for point in points:
        if name in (point.name, point.node):
            return point
    known = [point.name for point in points]
    close = nearest(name, known)
    raise EbbtideError(
        "model.cut_point",
        f"The model has no cut point {name!r}",
        expected=f"one of {', '.join(known)}",
        hint=f"Did you mean {close!r}?" if close else "`ebb inspect` shows the cut points.",
        place="stages",
    )


def _auto(points: Sequence[CutPoint]) -> list[int]:
    for count in range(min(AUTO_STAGES, len(points)), 1, -1):
        chosen = _balanced(points, count)
        ends = [0.0, *(points[index].share for index in chosen)]
        if min(after - before for before, after in itertools.pairwise(ends)) >= AUTO_SMALLEST_SHARE:
            return chosen
    return [points[-1].index]


def _balanced(points: Sequence[CutPoint], count: int) -> list[int]:
    """Exactly the `count` cuts, the last one included, that minimise the sum of squared stage MACs."""
    macs = [point.macs_before for point in points]
    best: list[tuple[int, list[int]]] = [(m * m, [i]) for i, m in enumerate(macs)]
    for _ in range(count - 1):
        step: list[tuple[int, list[int]]] = []
        for end in range(len(points)):
            options = [
                (score + (macs[end] - macs[start]) ** 2, [*path, end])
                for start, (score, path) in enumerate(best[:end])
                if path
            ]
            step.append(min(options, default=(0, [])))
        best = step
    return best[-1][1]


def _cumulative_macs(graph: Graph) -> dict[fx.Node, int]:
    macs = {node.name: node.macs for node in cost(graph.module, graph.input_shape).nodes}
    spent, total = {}, 0
    for node in graph.module.graph.nodes:
        total += macs.get(node.name, 0)
        spent[node] = total
    return spent


def lone_nodes(graph: fx.Graph) -> list[fx.Node]:
    """The nodes after which their own tensor is the only one that follows from the input and is still needed."""
    activations = depends_on_input(graph)
    order = {node: position for position, node in enumerate(graph.nodes)}
    last_use = {
        node: max((order[user] for user in node.users if not reads_batch_size(user)), default=-1)
        for node in activations
    }
    lone, live = [], set[fx.Node]()
    for node in graph.nodes:
        if node not in activations:
            continue
        live = {other for other in live if last_use[other] > order[node]}
        live.add(node)
        if len(live) == 1 and isinstance(node.meta["val"], torch.Tensor):
            lone.append(node)
    return lone


def first_strided(graph: Graph) -> fx.Node | None:
    """The first node that would be a cut point, were its elements not in an order that no boundary has; or None."""
    single = propagate(graph.module, graph.input_shape, batch=1)
    return next((n for n in _ends(graph, single, any_layout=True) if layout_of(single[n]) is None), None)


def _ends(graph: Graph, single: Mapping[fx.Node, Any], *, any_layout: bool = False) -> Iterator[fx.Node]:
    nodes = graph.module.graph
    order = {node: position for position, node in enumerate(nodes.nodes)}
    activations = depends_on_input(nodes)
    lone = lone_nodes(nodes)
    head = _head_start(graph, lone, order, activations)
    unit: list[fx.Node] = []  # the weighted operators since the last cut point
    weighted = iter([node for node in nodes.nodes if name_of(node) in WEIGHTED and node in activations])
    upcoming = next(weighted, None)
    for node in lone:
        while upcoming is not None and order[upcoming] <= order[node]:
            unit.append(upcoming)
            upcoming = next(weighted, None)
        if order[node] >= head:
            return
        fits = any_layout or layout_of(single[node]) is not None
        if unit and fits and _can_cross(node) and _is_complete(node, unit, order, head):
            yield node
            unit = []


def _head_start(graph: Graph, lone: Sequence[fx.Node], order: dict[fx.Node, int], activations: set[fx.Node]) -> int:
    """The position of the first node that belongs to the head: what pools for the classifier, or the classifier."""
    weighted = [node for node in order if name_of(node) in WEIGHTED and node in activations]
    start = order[weighted[-1]] if weighted else len(order)
    largest = max(
        (order[node] for node in weighted if not _is_pointwise(node) and name_of(node) != "linear"), default=-1
    )
    for node in lone:
        if order[node] >= start:
            break
        if node.meta["val"].dim() == 2 or (order[node] >= largest and _pools_all(node)):
            start = order[node]
            break
    for node in reversed([node for node in lone if order[node] < start]):
        if name_of(node) not in REDUCTIONS | REARRANGING | DROPOUTS:
            break
        start = order[node]
    return start


def _pools_all(node: fx.Node) -> bool:
    """Whether a node leaves one place of many (global pooling, choice of the class token)."""
    before = node.args[0].meta["val"] if node.args and isinstance(node.args[0], fx.Node) else None
    if not isinstance(before, torch.Tensor) or _places(node.meta["val"]) > 1:
        return False
    if name_of(node) in CONVOLUTIONS:  # a linear layer in the form of a convolution over the whole map
        return _places(before) > 1 and _weight_shape(node)[2:] == tuple(before.shape[2:])
    return name_of(node) in REDUCTIONS or (name_of(node) in _LOCAL_POOLS and _places(before) > 1)


def _places(value: torch.Tensor) -> int:
    """How many places in space, time or tokens a feature map has: (N, C, H, W), (N, C, T) or (N, T, C)."""
    if value.dim() == 4:
        return min(int(value.shape[2] * value.shape[3]), int(value.shape[1] * value.shape[2]))
    return min(int(value.shape[1]), int(value.shape[2])) if value.dim() == 3 else 1


def _can_cross(node: fx.Node) -> bool:
    value = node.meta["val"]
    return (
        node.op == "call_function"
        and value.dtype == torch.float32
        and value.dim() in (3, 4)
        and is_batch_size(value.shape[0])
        and not any(isinstance(size, torch.SymInt) for size in value.shape[1:])
        and name_of(node) not in DROPOUTS
        and not _inside_views(node)
    )


def _inside_views(node: fx.Node) -> bool:
    """Whether views lie on both sides: ``permute - layer_norm - permute`` must stay in one stage."""
    moved_after = any(name_of(user) in REARRANGING for user in node.users)
    source: Any = node
    while name_of(source) not in REARRANGING and name_of(source) in NORMS and isinstance(source.args[0], fx.Node):
        source = source.args[0]
    return moved_after and name_of(source) in REARRANGING


def _is_complete(node: fx.Node, unit: Sequence[fx.Node], order: dict[fx.Node, int], head: int) -> bool:
    following = list(_next_work(node))
    starts = [
        user
        for user in following
        if order[user] >= head
        or name_of(user) in WEIGHTED
        or (name_of(user) in NORMS and name_of(node) not in WEIGHTED)
    ]
    if not starts:
        return False
    size = math.prod(int(s) for s in node.meta["val"].shape[2:])
    # Gates (squeeze and excitation) work on single places and are no step of the main path.
    main = [work for work in unit if math.prod(int(s) for s in work.meta["val"].shape[2:]) > 1 or size == 1] or unit
    if all(_is_pointwise(work) for work in main) and _channels(node) < _channels(main[0].args[0]):
        return False  # a squeeze, which only serves the expansion after it
    expansion_only = all(_is_pointwise(work) for work in main) and any(_is_depthwise(user) for user in following)
    return not expansion_only and not _is_depthwise(main[-1])


def _next_work(node: fx.Node) -> Iterator[fx.Node]:
    """The users of a tensor, seen through views and dropout."""
    for user in node.users:
        if name_of(user) in REARRANGING or name_of(user) in DROPOUTS:
            yield from _next_work(user)
        elif user.op == "call_function" and name_of(user) != "sym_size":
            yield user


def _channels(node: Any) -> int:
    return int(node.meta["val"].shape[1])


def _weight_shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.args[1].meta["val"].shape)  # type: ignore[union-attr]


def _is_depthwise(node: fx.Node) -> bool:
    if name_of(node) not in CONVOLUTIONS:
        return False
    shape = _weight_shape(node)
    return shape[1] == 1 and shape[0] > 1 and int(node.args[0].meta["val"].shape[1]) > 1  # type: ignore[union-attr]


def _is_pointwise(node: fx.Node) -> bool:
    return name_of(node) in CONVOLUTIONS and math.prod(_weight_shape(node)[2:]) == 1
