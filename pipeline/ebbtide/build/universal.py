"""Data and universal model: what every width of a build comes from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.build.project import TORCH, Project, read_json
from ebbtide.build.threads import fitting_threads
from ebbtide.steps import digest_json, write_bytes, write_json

if TYPE_CHECKING:
    from ebbtide.data import Dataset
    from ebbtide.model import Graph
    from ebbtide.recipe import Recipe

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
        removals: what each removal that made it smaller came to, as JSON values; none for the model as it came.
        rebuild: gives the recipe's graph the structure after those removals.
    """

    project: Project
    data: Path
    facts: dict[str, Any]
    weights: Path
    weights_digest: str
    model: dict[str, Any]
    removals: tuple[dict[str, Any], ...] = ()
    rebuild: Callable[[Graph], Graph] | None = None

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
        if self.rebuild is not None:
            graph = self.rebuild(graph)
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
        found = _structure(self.project, self.facts)
        return {**found, "removals": list(self.removals)} if self.removals else found

    def identity(self) -> dict[str, Any]:
        """What every step on this model depends on."""
        return {"data": self.facts["digest"], "weights": self.weights_digest}


def make_universal(project: Project) -> Universal:
    """Prepare the data, load or train the model.

    A model that is to be made smaller for the class set is trained on all classes, where it is trained here: it is the
    same as a build of all classes trains, and found stored after one.
    """
    data = prepare_data(project)
    facts = read_json(data / "dataset.json")
    source = project.varied(classes="all", outside=None, sparsity=None)
    if project.recipe.sparsity is None or not project.recipe.trains_model or project.recipe.classes == "all":
        folder = _make_model(project, data, facts)
    else:
        everything = prepare_data(source)
        whole = read_json(everything / "dataset.json")
        folder = _restrict(project, facts, _make_model(source, everything, whole), source, whole)
    weights = folder / "weights.safetensors"
    model = read_json(folder / "model.json")
    for note in model["notes"]:
        project.notice("choice", "model", note)
    for note in facts["provenance"]["notes"]:
        project.notice("choice", "data", note)
    return Universal(project, data, facts, weights, project.store.digest(weights), model)


def transfer_samples(recipe: Recipe) -> int:
    """How many samples of the other classes a teacher may be asked about."""
    told = None if recipe.sparsity is None else recipe.sparsity.distillation
    return told.others_samples if told is not None and told.others and told.teacher != "none" else 0


def prepare_data(project: Project) -> Path:
    """The folder of the prepared data set."""
    from ebbtide.data.sources import fingerprint

    recipe = project.recipe
    inputs = {
        **project.inputs(
            "data", "classes", "head", "outside.samples", "seed", "model.timm", "model.torchvision", "model.arguments"
        ),
        "transfer": transfer_samples(recipe),
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
            full_head=recipe.head == "full",
            outside_samples=None if recipe.outside is None else recipe.outside.samples,
            transfer_samples=transfer_samples(recipe),
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
    """The recipe's model as a graph, restricted to the class set, in eval mode; its weights as it came.

    It is captured once a build, and everybody gets a copy.
    """
    structure = digest_json(_structure(project, facts))
    if structure not in project.graphs:
        project.graphs[structure] = _capture(project, facts)
    return project.graphs[structure].copy()


def _capture(project: Project, facts: dict[str, Any]) -> Graph:
    import torch

    from ebbtide.model import load_model, restrict_head

    with torch.random.fork_rng(devices=[]):
        # A factory draws the initial weights of a model that is trained here.
        torch.manual_seed(project.recipe.training_settings.seed)
        graph = load_model(
            project.recipe.model,
            input_shape=tuple(facts["input"]["shape"]),
            universal_classes=len(facts["universal_classes"]),
            allow_code=project.allow_code,
        )
    if facts["class_indices"] != list(range(len(facts["universal_classes"]))):
        graph = restrict_head(graph, tuple(facts["class_indices"]))
    return graph.eval()


def _restrict(
    project: Project, facts: dict[str, Any], trained: Path, source: Project, source_facts: dict[str, Any]
) -> Path:
    """A model of all classes with the head of the class set."""
    file = trained / "weights.safetensors"
    inputs = {"weights": project.store.digest(file), "structure": _structure(project, facts)}

    def produce(folder: Path, _: Path) -> None:
        from safetensors.torch import load_file

        from ebbtide.model import restrict_head

        graph = fresh_graph(source, source_facts)
        graph.load(load_file(file))
        if len(facts["class_indices"]) < len(facts["universal_classes"]):
            graph = restrict_head(graph, tuple(facts["class_indices"]))
        write_model(graph, folder, notes=graph.notes)

    return project.step(
        "restricted", inputs, produce, code=("ebbtide.model",), libraries=(*TORCH, *VISION, "safetensors")
    )


def write_model(graph: Graph, folder: Path, *, notes: Iterable[str]) -> None:
    """Write a graph's weights, and what it costs, as `Universal` reads them."""
    from safetensors.torch import save

    from ebbtide.model import cost

    found = cost(graph.eval().module, graph.input_shape)
    state = save({name: t.cpu().contiguous() for name, t in graph.state().items()})
    write_bytes(folder / "weights.safetensors", state)
    write_json(folder / "model.json", {**found.to_json(), "notes": list(notes)})


def _make_model(project: Project, data: Path, facts: dict[str, Any]) -> Path:
    recipe = project.recipe
    inputs: dict[str, Any] = {"structure": _structure(project, facts), **project.inputs("seed")}
    if recipe.trains_model:
        inputs |= {"data": facts["digest"], **project.inputs("training", "metric")}

    def produce(folder: Path, scratch: Path) -> None:
        from ebbtide.data import load_prepared
        from ebbtide.model import cost, train

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
        write_model(graph, folder, notes=graph.notes)

    return project.step(
        "model",
        inputs,
        produce,
        code=("ebbtide.model", "ebbtide.data") if recipe.trains_model else ("ebbtide.model",),
        libraries=(*TORCH, *VISION, "safetensors"),
    )
