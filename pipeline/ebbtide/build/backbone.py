"""Data, universal model, cut points, and one pass of the frozen backbone over train and select."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.build.project import TORCH, Project, read_json
from ebbtide.build.threads import fitting_threads
from ebbtide.steps import write_bytes, write_json

if TYPE_CHECKING:
    from ebbtide.data import Dataset
    from ebbtide.model import Graph

VISION = ("timm", "torchvision")
BATCH = 256


@dataclass(frozen=True)
class Backbone:
    """The universal model on its class set, and where everything about it lies.

    Attributes:
        project: the build.
        data: folder of the prepared data set.
        facts: the data set's own words: classes, input, splits, digest, provenance.
        weights: .safetensors of the graph's state.
        weights_digest: SHA-256 of that file.
        model: parameters, MACs, weight bytes, notes.
        layout: cut points, the chosen cuts, cost of every stage and of the head.
    """

    project: Project
    data: Path
    facts: dict[str, Any]
    weights: Path
    weights_digest: str
    model: dict[str, Any]
    layout: dict[str, Any]

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set, memory-mapped; its test split is sealed."""
        from ebbtide.data import load_prepared

        return load_prepared(self.data, opening_log=self.project.store.root / "openings" / self.data.name)

    @functools.cached_property
    def graph(self) -> Graph:
        """The trained graph in eval mode, restricted to the class set."""
        from safetensors.torch import load_file

        graph = fresh_graph(self.project, self.facts)
        graph.load(load_file(self.weights))
        return graph.eval()

    @property
    def classes(self) -> int:
        """Size of the class set."""
        return len(self.facts["classes"])

    @property
    def cuts(self) -> tuple[str, ...]:
        """The chosen cut points, in order; the last lies before the head."""
        return tuple(self.layout["cuts"])

    def identity(self) -> dict[str, Any]:
        """What every later step depends on."""
        return {"data": self.facts["digest"], "weights": self.weights_digest, "cuts": self.layout["cuts"]}


def lay_out(project: Project) -> Backbone:
    """Prepare the data, load or train the model, choose the cuts."""
    data = prepare_data(project)
    facts = read_json(data / "dataset.json")
    folder = _make_model(project, data, facts)
    weights = folder / "weights.safetensors"
    digest = project.store.digest(weights)
    model = read_json(folder / "model.json")
    for note in model["notes"]:
        project.notice("choice", "model", note)
    for note in facts["provenance"]["notes"]:
        project.notice("choice", "data", note)
    layout = project.json_step(
        "stages",
        {"structure": _structure(project, facts), **project.inputs("stages")},
        lambda: _choose_stages(project, facts),
        code=("ebbtide.model",),
        libraries=(*TORCH, *VISION),
    )
    return Backbone(project, data, facts, weights, digest, model, layout)


def prepare_data(project: Project) -> Path:
    """The folder of the prepared data set."""
    from ebbtide.data.sources import fingerprint

    recipe = project.recipe
    inputs = {
        **project.inputs("data", "classes", "seed", "model.timm", "model.torchvision", "model.arguments"),
        "content": fingerprint(recipe.data, allow_code=project.allow_code),
    }

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.data import prepare
        from ebbtide.model import input_defaults

        prepare(
            recipe.data,
            classes=recipe.classes,
            seed=recipe.seed,
            allow_code=project.allow_code,
            input_defaults=input_defaults(recipe.model),
            folder=folder,
            progress=project.progress,
        )

    return project.step(
        "data", inputs, produce, code=("ebbtide.data", "ebbtide.model.defaults"), libraries=("numpy", "pillow", *VISION)
    )


def _structure(project: Project, facts: dict[str, Any]) -> dict[str, Any]:
    """What the graph's structure depends on, weights aside."""
    return {
        **project.inputs("model"),
        "input": facts["input"]["shape"],
        "universal_classes": len(facts["universal_classes"]),
        "class_indices": facts["class_indices"],
    }


def fresh_graph(project: Project, facts: dict[str, Any]) -> Graph:
    """The recipe's model as a graph, restricted to the class set; its weights as it came."""
    from ebbtide.model import load_model, restrict_head

    graph = load_model(
        project.recipe.model,
        input_shape=tuple(facts["input"]["shape"]),
        universal_classes=len(facts["universal_classes"]),
        allow_code=project.allow_code,
    )
    if facts["class_indices"] != list(range(len(facts["universal_classes"]))):
        graph = restrict_head(graph, tuple(facts["class_indices"]))
    return graph


def _make_model(project: Project, data: Path, facts: dict[str, Any]) -> Path:
    recipe = project.recipe
    inputs: dict[str, Any] = {"structure": _structure(project, facts), **project.inputs("seed")}
    if recipe.trains_model:
        inputs |= {"data": facts["digest"], **project.inputs("training", "metric")}

    def produce(folder: Path, scratch: Path) -> None:
        import torch
        from safetensors.torch import save

        from ebbtide.data import load_prepared
        from ebbtide.model import cost, train

        # A factory draws the initial weights of a model that is trained here.
        torch.manual_seed(recipe.training_settings.seed)
        graph = fresh_graph(project, facts)
        if recipe.trains_model:
            dataset, settings = load_prepared(data), recipe.training_settings
            with fitting_threads(cost(graph.module, graph.input_shape).macs * settings.batch_size):
                history = train(
                    graph,
                    dataset.train,
                    dataset.select,
                    settings=settings,
                    metric=recipe.metric,
                    checkpoint=scratch / "training.safetensors",
                    progress=project.progress,
                )
            write_json(folder / "history.json", history.to_json())
        found = cost(graph.eval().module, graph.input_shape)
        state = save({name: t.cpu().contiguous() for name, t in graph.state().items()})
        write_bytes(folder / "weights.safetensors", state)
        write_json(folder / "model.json", {**found.to_json(), "notes": list(graph.notes)})

    return project.step(
        "model",
        inputs,
        produce,
        code=("ebbtide.model", "ebbtide.data") if recipe.trains_model else ("ebbtide.model",),
        libraries=(*TORCH, *VISION, "safetensors"),
    )


def _choose_stages(project: Project, facts: dict[str, Any]) -> dict[str, Any]:
    from ebbtide.model import choose_cuts, cost, cut_points, split

    graph = fresh_graph(project, facts).eval()
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
        "costs": [cost(part, staged.inputs_of(i)).to_json() for i, part in enumerate(parts)],
    }


def cache_backbone(backbone: Backbone, split_name: str, positions: tuple[int, ...]) -> Path:
    """Pooled features at all candidate positions and the head's logits over one split, in a step of its own."""
    project = backbone.project
    inputs = {**backbone.identity(), "split": split_name, "positions": list(positions)}

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.exits import cache_features, exit_type
        from ebbtide.model import split, training_device

        device = training_device(project.recipe.training_settings.device)
        graph = backbone.graph.copy().to(device).eval()
        staged = split(graph, backbone.cuts)
        kind = exit_type(project.recipe.exits.type if project.recipe.exits else "pool-linear")
        pools = {}
        for position in positions:
            shape = tuple(staged.boundaries[position])
            axis = channel_axis(shape, backbone.facts["input"]["kind"])
            pools[position] = kind.build(shape[axis - 1], backbone.classes, channel_axis=axis).pool
        with fitting_threads(backbone.model["macs"] * BATCH):
            cache_features(
                getattr(backbone.dataset, split_name),
                staged.stages,
                staged.head,
                pools=pools,
                folder=folder,
                batch_size=BATCH,
                device=str(device),
                progress=project.progress,
            )

    return project.step("features", inputs, produce, code=("ebbtide.exits", "ebbtide.model", "ebbtide.data"))


def channel_axis(shape: tuple[int, ...], kind: str) -> int:
    """Which axis of a boundary (batch counted as axis 0) holds the channels.

    Images (C, H, W) and signals (C, T) have them first; tokens (N, C) of a transformer on images, and maps (H, W, C)
    as window transformers carry them, last. A map is told by its two equal sides.
    """
    if len(shape) == 3 and shape[0] == shape[1] != shape[2]:
        return 3
    if len(shape) == 2 and kind == "image":
        return 2
    return 1
