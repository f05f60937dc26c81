"""Where an exit stands: the feature map it takes, and the model's own classifier, which some exits are made after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import fx

from ebbtide.errors import EbbtideError
from ebbtide.model import Graph, cut_points, split
from ebbtide.model.cost import depends_on_input
from ebbtide.model.coupling.labelling import label
from ebbtide.model.coupling.slots import varying
from ebbtide.model.coupling.walk import Labelling
from ebbtide.model.cuts import find
from ebbtide.model.operators import CONVOLUTIONS, name_of


@dataclass(frozen=True)
class Classifier:
    """The form of a model's own classifier.

    Attributes:
        channels: of the feature map that it takes.
        places: of that map, height times width; 1 without a map.
        pools: whether it takes the mean (or another value) of each channel, rather than every place of the map.
        hidden: outputs of its layers before the last one.
    """

    channels: int
    places: int
    pools: bool
    hidden: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """What an exit type needs to know to build an exit.

    Attributes:
        shape: of the feature map, without the batch.
        channel_axis: which axis holds the channels; the batch is axis 0.
        classes: how many.
        lead_tokens: tokens at the start that are no part of the input: class and register tokens.
        classifier: the model's own.
    """

    shape: tuple[int, ...]
    channel_axis: int
    classes: int
    lead_tokens: int = 0
    classifier: Classifier | None = None

    @property
    def channels(self) -> int:
        """Size of the channel axis."""
        return self.shape[self.channel_axis - 1]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Place:
        """What `to_json` gave."""
        form = values["classifier"]
        classifier = Classifier(**{**form, "hidden": tuple(form["hidden"])}) if form else None
        return cls(**{**values, "shape": tuple(values["shape"]), "classifier": classifier})


def exit_places(graph: Graph, cuts: Sequence[str]) -> tuple[Place, ...]:
    """The places after each cut, in order; the last one lies before the model's own classifier.

    Channels are found by walking over the graph with a label on every unit (`ebbtide.model.coupling`), so a map
    whose axes have equal sizes is told right too.

    Args:
        graph: the model.
        cuts: names of cut points in order, the last before the head, as `choose_cuts` gives them.

    Raises:
        EbbtideError: ``model.cut_point`` for an unknown name; ``exits.channels`` where no axis holds channels.
    """
    if not cuts:
        return ()
    points = cut_points(graph)
    labelling = _labelling(graph)
    chosen = [find(points, name) for name in cuts]
    axes = {point.node: channel_axis(labelling, point.node, point.name) for point in chosen}
    lead = _lead_tokens(graph)
    last = chosen[-1]
    classifier = _classifier(split(graph, [last.name]).head, last.shape, axes[last.node])
    return tuple(
        Place(
            shape=point.shape,
            channel_axis=axes[point.node],
            classes=graph.classes,
            lead_tokens=lead.get(point.shape[0], 0) if len(point.shape) == 2 and axes[point.node] == 2 else 0,
            classifier=classifier,
        )
        for point in chosen
    )


def _labelling(graph: Graph) -> Labelling:
    if "labelling" not in graph.memory:
        graph.memory["labelling"] = label(graph)
    return cast(Labelling, graph.memory["labelling"])


def channel_axis(labelling: Labelling, node: str, name: str) -> int:
    """The axis of a node's tensor along which the units that weights compute change; the batch is axis 0.

    Args:
        labelling: of the graph.
        node: the node's name.
        name: what a message calls it.

    Raises:
        EbbtideError: ``exits.channels`` if there is none, or more than one.
    """
    found = {axis for value in labelling.values.get(node, ()) for field in value.fields for axis in varying(field)}
    if len(found) != 1:
        raise EbbtideError(
            "exits.channels",
            f"It cannot be told which axis holds the channels at cut point {name!r}",
            expected="one axis of channels",
            found=f"axes {', '.join(map(str, sorted(found)))}" if found else "none",
            hint="Leave that cut point out: name others in `stages`.",
            place="stages",
        )
    return found.pop()


def _lead_tokens(graph: Graph) -> dict[int, int]:
    """By number of tokens, how many of them come first and do not follow from the input (class token, registers)."""
    activations = depends_on_input(graph.module.graph)
    found = {}
    for node in graph.module.graph.nodes:
        if name_of(node) != "cat" or node not in activations or node.meta["val"].dim() != 3:
            continue
        parts = cast(Sequence[fx.Node], node.args[0])
        axis = int(cast(int, node.args[1])) if len(node.args) > 1 else 0
        if axis % 3 != 1:
            continue
        count = 0
        for part in parts:
            if part in activations:
                break
            count += int(part.meta["val"].shape[1])
        found[int(node.meta["val"].shape[1])] = count
    return found


def _classifier(head: fx.GraphModule, shape: tuple[int, ...], axis: int) -> Classifier:
    """Read the layers with weights off the head, in order; the last one puts out the classes."""
    channels = shape[axis - 1]
    places = math.prod(shape) // channels
    layers = [node for node in head.graph.nodes if name_of(node) == "linear" or name_of(node) in CONVOLUTIONS]
    sizes = [tuple(int(size) for size in cast(fx.Node, node.args[1]).meta["val"].shape) for node in layers]
    return Classifier(
        channels=channels,
        places=places,
        pools=not sizes or math.prod(sizes[0][1:]) != channels * places or places == 1,
        hidden=tuple(size[0] for size in sizes[:-1]),
    )
