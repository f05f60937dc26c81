"""Data and universal model: what every width of a build comes from."""

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


@dataclass(frozen=True)
class Universal:
    """The universal model on its class set, and where everything about it lies.

    Attributes:
        project: the build.
        data: folder of the prepared data set.
        facts: the data set's own words: classes, input, splits, digest, provenance.
        weights: .safetensors of the graph's state.
        weights_digest: SHA-256 of that file.
        model: parameters, MACs, weight bytes, notes.
    """

    project: Project
    data: Path
    facts: dict[str, Any]
    weights: Path
    weights_digest: str
    model: dict[str, Any]

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set, memory-mapped; its test split is sealed."""
        from ebbtide.data import load_prepared

        return load_prepared(self.data, opening_log=self.project.store.root / "openings" / self.data.name)

    @functools.cached_property
    def graph(self) -> Graph:
        """The trained graph in eval mode, restricted to the class set; copy it before changing anything."""
        from safetensors.torch import load_file

        graph = fresh_graph(self.project, self.facts)
        graph.load(load_file(self.weights))
        return graph.eval()

    @property
    def classes(self) -> int:
        """Size of the class set."""
        return len(self.facts["classes"])

    def samples(self, split: str) -> int:
        """How many samples a split has."""
        count: int = self.facts["provenance"]["splits"][split]["count"]
        return count

    def structure(self) -> dict[str, Any]:
        """What the graph's structure depends on, weights aside."""
        return _structure(self.project, self.facts)

    def identity(self) -> dict[str, Any]:
        """What every step on this model depends on."""
        return {"data": self.facts["digest"], "weights": self.weights_digest}


def make_universal(project: Project) -> Universal:
    """Prepare the data, load or train the model."""
    data = prepare_data(project)
    facts = read_json(data / "dataset.json")
    folder = _make_model(project, data, facts)
    weights = folder / "weights.safetensors"
    model = read_json(folder / "model.json")
    for note in model["notes"]:
        project.notice("choice", "model", note)
    for note in facts["provenance"]["notes"]:
        project.notice("choice", "data", note)
    return Universal(project, data, facts, weights, project.store.digest(weights), model)


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
