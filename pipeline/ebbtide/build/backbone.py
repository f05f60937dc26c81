"""One width of the model: its graph, its cut points, and one pass of it, frozen, over train and select."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.build.project import TORCH, Project
from ebbtide.build.threads import fitting_threads
from ebbtide.build.universal import VISION, Universal

if TYPE_CHECKING:
    from ebbtide.data import Dataset
    from ebbtide.exits import Place
    from ebbtide.model import Graph

FULL = "w100"
"""The name of the whole network's width, as it came or as nested widths made it."""

BATCH = 256


@dataclass(frozen=True)
class Backbone:
    """A width of the model on its class set, cut into stages; a build without nested widths has one.

    Attributes:
        universal: the model it comes from, and the data.
        width: ``w100`` is the widest.
        weights_digest: SHA-256 of what its weights are made from.
        layout: cut points, the chosen cuts, cost of every stage and of the head, and of the whole.
        make_graph: the graph of this width with its weights, in eval mode; asked for once.
        is_joint: whether its weights learned on together with exits, so that it is a new backbone.
    """

    universal: Universal
    width: str
    weights_digest: str
    layout: dict[str, Any]
    make_graph: Callable[[], Graph]
    is_joint: bool = False

    @functools.cached_property
    def graph(self) -> Graph:
        """The graph of this width in eval mode."""
        return self.make_graph()

    @property
    def project(self) -> Project:
        """The build."""
        return self.universal.project

    @property
    def facts(self) -> dict[str, Any]:
        """The data set's own words."""
        return self.universal.facts

    @property
    def dataset(self) -> Dataset:
        """The data set, one for all widths."""
        return self.universal.dataset

    @property
    def classes(self) -> int:
        """Size of the class set."""
        return self.universal.classes

    @property
    def is_widest(self) -> bool:
        """Whether this is the whole network."""
        return self.width == FULL

    @property
    def model(self) -> dict[str, Any]:
        """Parameters, MACs and weight bytes of this width."""
        found: dict[str, Any] = self.layout["whole"]
        return found

    @property
    def cuts(self) -> tuple[str, ...]:
        """The chosen cut points, in order; the last lies before the head."""
        return tuple(self.layout["cuts"])

    @property
    def places(self) -> dict[int, Place]:
        """Where exits can stand, by position: after every stage but the last, before which the head does the same."""
        from ebbtide.exits import Place

        return {position: Place.from_json(found) for position, found in enumerate(self.layout["places"][:-1])}

    def identity(self, split_name: str | None = None) -> dict[str, Any]:
        """What every later step on this width depends on; of a step that reads one split, no other split counts."""
        facts = self.facts
        split = None if split_name is None else facts["splits"][split_name]
        return {
            "data": facts["digest"]
            if split is None
            else [split["pixels_sha256"], split["labels_sha256"], facts["input"]],
            "width": self.width,
            "weights": self.weights_digest,
            "cuts": self.layout["cuts"],
        }


def lay_out(
    universal: Universal,
    *,
    width: str = FULL,
    channels: dict[str, int] | None = None,
    weights_digest: str | None = None,
    make_graph: Callable[[], Graph] | None = None,
) -> Backbone:
    """Choose the cuts of one width, on its own graph.

    Args:
        universal: the model and its data.
        width: its name.
        channels: how many units each group keeps; None for the whole network.
        weights_digest: of its weights; left out, the universal model's own.
        make_graph: gives its graph with weights; left out, the universal model's own.
    """
    project = universal.project
    make = functools.cache(make_graph or (lambda: universal.graph))
    layout = project.json_step(
        "stages",
        {"structure": universal.structure(), "channels": channels, **project.inputs("stages")},
        lambda: _choose_stages(project, make()),
        code=("ebbtide.model", "ebbtide.exits.place"),
        libraries=(*TORCH, *VISION),
    )
    return Backbone(universal, width, weights_digest or universal.weights_digest, layout, make)


def _choose_stages(project: Project, graph: Graph) -> dict[str, Any]:
    from ebbtide.exits import exit_places
    from ebbtide.model import choose_cuts, cost, cut_points, split

    points = {point.name: point for point in cut_points(graph)}
    cuts = choose_cuts(graph, project.recipe.stages)
    staged = split(graph, cuts)
    parts = [*staged.stages, staged.head]
    return {
        "cuts": list(cuts),
        "points": [
            {"name": p.name, "shape": list(p.shape), "share": p.share, "layout": p.layout} for p in points.values()
        ],
        "boundaries": [list(shape) for shape in staged.boundaries],
        "places": [place.to_json() for place in exit_places(graph, cuts)],
        "costs": [cost(part, staged.inputs_of(i)).to_json() for i, part in enumerate(parts)],
        "whole": cost(graph.module, graph.input_shape).to_json(),
    }


def cache_backbone(backbone: Backbone, split_name: str, exits: Sequence[tuple[int, str]]) -> Path:
    """Pooled features of all candidates and the head's logits over one split, in a step of its own.

    Over train there are as many passes as `exits.passes` says, over samples changed at random.

    Args:
        backbone: the width.
        split_name: train or select.
        exits: position and type of each candidate.
    """
    project = backbone.project
    section, settings = project.recipe.exits, project.recipe.training_settings
    passes = section.passes if section and split_name == "train" else 1
    inputs: dict[str, Any] = {
        **backbone.identity(split_name),
        "split": split_name,
        "exits": [list(one) for one in exits],
        "passes": passes,
    }
    if passes > 1:
        inputs |= {**project.inputs("training.augmentation"), "seed": settings.seed}

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.data import Augmentation
        from ebbtide.exits import ExitKey, cache_features, pools_of
        from ebbtide.model import split, training_device

        device = training_device(project.recipe.training_settings.device)
        graph = backbone.graph.copy().to(device).eval()
        staged = split(graph, backbone.cuts)
        changes = Augmentation.from_section(settings.augmentation, seed=settings.seed) if passes > 1 else None
        with fitting_threads(backbone.model["macs"] * BATCH):
            cache_features(
                getattr(backbone.dataset, split_name),
                staged.stages,
                staged.head,
                pools=pools_of([ExitKey(*one) for one in exits], backbone.places),
                folder=folder,
                passes=passes,
                augmentation=changes,
                batch_size=BATCH,
                device=str(device),
                progress=project.progress,
            )

    return project.step("features", inputs, produce, code=("ebbtide.exits", "ebbtide.model", "ebbtide.data"))
