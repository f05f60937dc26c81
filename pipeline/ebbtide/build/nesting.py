"""The steps that nest widths in a model: importance, order and search, joint tuning."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ebbtide.build.measuring import layers_given, machine_identity
from ebbtide.build.project import LOWERING, TORCH, Project, read_json
from ebbtide.build.threads import fitting_threads
from ebbtide.build.universal import VISION, Universal, fresh_graph, prepare_data
from ebbtide.steps import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from ebbtide.model import Coupling, Graph
    from ebbtide.nesting import Level, Nested, Rules
    from ebbtide.nesting.problem import Scores
    from ebbtide.recipe import WidthsSection

FILE = "nested.safetensors"
IMPORTANCE_BATCH = 100
SCORES = {
    "importance": "signed",
    "saliency": "absolute",
    "magnitude": "magnitude",
    "random": "random",
    "none": "signed",
}
"""The kind of score that each order of the recipe goes by; "none" keeps the order and searches by importance."""


@dataclass(frozen=True)
class Variant:
    """One way to nest widths: the recipe's own, or a control.

    Attributes:
        name: ``own``, ``uniform``, ``magnitude`` or ``random``.
        order: which units come first.
        search: how units are shared out.
        tuned: whether it is tuned.
    """

    name: str
    order: str
    search: str
    tuned: bool


@dataclass(frozen=True)
class Outcome:
    """What came of a variant.

    Attributes:
        variant: which.
        plan: levels, groups, what stays whole, accuracy before tuning; see `plan_variant`.
        folder: of the nested network, tuned where the variant is.
        tuned: metric of each level on select after tuning; empty without.
    """

    variant: Variant
    plan: dict[str, Any]
    folder: Path
    tuned: dict[str, float]


def bounds_of(project: Project, section: WidthsSection) -> dict[str, Any]:
    """What widths are allowed, as JSON values."""
    limit, sparsity = section.memory_limit_kib, project.recipe.sparsity
    multiple = channel_multiple(project, section.multiple)
    if sparsity is not None and sparsity.pattern == "hybrid":
        # No block may lie on both sides of a width's edge.
        multiple = math.lcm(multiple, sparsity.block)
    return {
        "multiple": multiple,
        "floor": section.floor,
        "memory_limit_bytes": None if limit is None else int(1024 * limit),
    }


def channel_multiple(project: Project, wanted: int | Literal["auto"]) -> int:
    """What kept channels are a multiple of; auto: the largest that a device of the recipe asks for."""
    from ebbtide.device import load_profile

    if wanted != "auto":
        return wanted
    return max(load_profile(name).lowering.channel_multiple for name in project.recipe.devices)


def rules_of(bounds: dict[str, Any], graph: Graph, coupling: Coupling, layers: dict[str, Any] | None = None) -> Rules:
    """What widths are allowed, and what they cost: MACs, or the measured times of layers."""
    from ebbtide.nesting import Rules

    if layers is None:
        return Rules(**bounds)
    from ebbtide.build.layer_times import LayerCosts
    from ebbtide.model.coupling import macs_by_node

    return Rules(**bounds, cost=LayerCosts.from_json(layers, macs_by_node(graph, coupling)))


def time_layers(universal: Universal, given: Path | None) -> dict[str, Any] | None:
    """Times of the model's layers at several widths on this machine, if the recipe's widths go by latency.

    Args:
        universal: the model.
        given: a measurement record to take them from.
    """
    project = universal.project
    section = project.recipe.widths
    if section is None or section.cost != "latency":
        return None
    found = layers_given(given) if given is not None else None
    if found is not None:
        return found
    multiple = bounds_of(project, section)["multiple"]
    inputs = {"structure": universal.structure(), "multiple": multiple, "machine": machine_identity()}

    def produce(folder: Path, scratch: Path) -> None:
        from ebbtide.build.layer_times import measure_layers
        from ebbtide.model.coupling import coupling_groups, macs_by_node

        operators = macs_by_node(universal.graph, coupling_groups(universal.graph))
        found = measure_layers(operators, scratch / "layers.json", multiple=multiple, progress=project.progress)
        write_json(folder / "layers.json", found.to_json())

    folder = project.step(
        "layer-times", inputs, produce, code=("ebbtide.profiling", "ebbtide.lowering"), libraries=LOWERING
    )
    value: dict[str, Any] = read_json(folder / "layers.json")
    return value


def make_variant(universal: Universal, variant: Variant, layers: dict[str, Any] | None) -> Outcome:
    """Order, search and, if it is to be, tune; each in a step of its own.

    Raises:
        EbbtideError: ``nesting.infeasible``, ``nesting.nothing_to_shrink``, and what training raises.
    """
    return tuned_variant(universal, variant, plan_variant(universal, variant, layers))


def tuned_variant(universal: Universal, variant: Variant, folder: Path, *, masks: Path | None = None) -> Outcome:
    """Tune a planned variant, if it is to be.

    Args:
        universal: the model whose weights the levels have.
        variant: which.
        folder: of the plan.
        masks: file of those that hold at every level; None without.
    """
    plan = read_json(folder / "widths.json")
    if not variant.tuned:
        return Outcome(variant, plan, folder, {})
    tuned = _tune(universal, variant, folder, masks)
    return Outcome(variant, plan, tuned, read_json(tuned / "tuning.json")["select"])


def _statistics(universal: Universal) -> Path:
    """Gradients of every weight, collected in one pass over train with frozen weights."""
    project = universal.project
    section = project.recipe.widths
    assert section is not None
    everything = section.images == "all" and project.recipe.classes != "all"
    source = project.varied(classes="all", outside=None)
    data = prepare_data(source) if everything else universal.data
    facts = read_json(data / "dataset.json") if everything else universal.facts
    inputs = {
        **universal.identity(),
        "images": facts["digest"],
        "structure": universal.structure(),
        **project.inputs("widths.batches", "seed"),
    }

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.data import load_prepared
        from ebbtide.saliency import collect

        graph = fresh_graph(source, facts) if everything else universal.graph
        train = load_prepared(data).train if everything else universal.dataset.train
        size = min(IMPORTANCE_BATCH, len(train))
        # A backward pass costs about twice the forward one.
        with fitting_threads(3 * universal.model["macs"] * size):
            found = collect(
                graph,
                train,
                batches=section.batches,
                batch_size=size,
                seed=project.recipe.seed,
                progress=project.progress,
            )
        found.save(folder / "statistics.safetensors")

    folder = project.step(
        "importance", inputs, produce, code=("ebbtide.saliency", "ebbtide.model", "ebbtide.data"), libraries=TORCH
    )
    return folder / "statistics.safetensors"


def plan_variant(universal: Universal, variant: Variant, layers: dict[str, Any] | None) -> Path:
    """Order the units, search the levels, and score each before any tuning."""
    project = universal.project
    section = project.recipe.widths
    assert section is not None
    kind = SCORES[variant.order]
    statistics = _statistics(universal) if kind in ("signed", "absolute") else None
    bounds = bounds_of(project, section)
    inputs = {
        **universal.identity(),
        "structure": universal.structure(),
        "statistics": project.store.digest(statistics) if statistics else None,
        "order": variant.order,
        "search": variant.search,
        "bounds": bounds,
        "layers": layers,
        "shares": list(section.shares),
        "norm": section.norm,
        **project.inputs("seed", "metric"),
    }

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.model import coupling_groups, evaluate
        from ebbtide.nesting import Nested, choose_levels, order_units

        graph = universal.graph.copy()
        coupling = coupling_groups(graph)
        scores: Scores = _scores(universal, graph, coupling, kind, statistics)
        if variant.order != "none":
            scores = order_units(graph, coupling, scores)
        search: Any = variant.search
        rules = rules_of(bounds, graph, coupling, layers)
        ladder = choose_levels(
            graph, coupling, scores, section.shares, rules=rules, order=search, progress=project.progress
        )
        levels, same = _distinct(ladder.levels)
        nested = Nested(graph, coupling, levels, section.norm)
        values = evaluated(universal, nested)
        whole = evaluate(universal.graph, universal.dataset.select, metric=project.recipe.metric)
        nested.save(folder)
        found = {
            "levels": [level.to_json() for level in levels],
            "same": same,
            "groups": [
                {"name": g.name, "size": g.size, "channels": g.channels, "members": len(g.members)}
                for g in coupling.groups
            ],
            "whole": [{"subject": w.subject, "channels": w.channels, "reason": w.reason} for w in coupling.whole],
            "exact": ladder.exact,
            "gap": ladder.gap,
            "note": ladder.note,
            "untuned": values,
            "universal": whole,
            "multiple": bounds["multiple"],
        }
        write_json(folder / "widths.json", found)

    code = ("ebbtide.nesting", "ebbtide.saliency", "ebbtide.model", "ebbtide.data")
    return project.step("widths", inputs, produce, code=code, libraries=(*TORCH, *VISION, "safetensors", "scipy"))


def _scores(universal: Universal, graph: Graph, coupling: Coupling, kind: Any, statistics: Path | None) -> Any:
    from ebbtide.saliency import Statistics, unit_scores

    found = Statistics.load(statistics) if statistics else None
    return unit_scores(graph, coupling, kind, statistics=found, seed=universal.project.recipe.seed)


def _distinct(levels: tuple[Level, ...]) -> tuple[tuple[Level, ...], list[str]]:
    """Levels that differ; and those that are the same network as the next one, by name."""
    pairs = list(zip(levels, [*levels[1:], None], strict=True))
    same = [level.name for level, above in pairs if above is not None and level.widths == above.widths]
    return tuple(level for level in levels if level.name not in same), same


def _tune(universal: Universal, variant: Variant, planned: Path, masks: Path | None) -> Path:
    """All levels learn together on train; what masks leave out stays zero in all of them."""
    project = universal.project
    section, settings = project.recipe.widths, project.recipe.tuning_settings
    assert section is not None
    inputs = {
        **universal.identity(),
        "structure": universal.structure(),
        "nested": project.store.digest(planned / FILE),
        "settings": settings.model_dump(mode="json"),
        "options": section.tuning.model_dump(mode="json"),
        **project.inputs("metric"),
    }
    if masks is not None:
        inputs["masks"] = project.store.digest(masks)

    def produce(folder: Path, scratch: Path) -> None:
        from ebbtide.nesting import TuningOptions, tune

        nested = load_nested(universal, planned)
        passes = sum(level.macs for level in nested.levels)
        dataset = universal.dataset
        if variant.name != "own":
            project.progress.say(f"Tuning the control {variant.name}, for the report alone")
        with fitting_threads(passes * settings.batch_size):
            history = tune(
                nested,
                dataset.train,
                dataset.select,
                settings=settings,
                options=TuningOptions(distill=section.tuning.distill, sandwich=section.tuning.sandwich),
                metric=project.recipe.metric,
                kept=None if masks is None else _weight_masks(masks),
                checkpoint=scratch / "tuning.safetensors",
                progress=project.progress,
            )
        values = evaluated(universal, nested)
        nested.save(folder)
        write_json(folder / "tuning.json", {"select": values, "history": history.to_json()})

    code = ("ebbtide.nesting", "ebbtide.model", "ebbtide.data", *(() if masks is None else ("ebbtide.sparsity",)))
    return project.step("tuning", inputs, produce, code=code, libraries=(*TORCH, *VISION, "safetensors"))


def _weight_masks(file: Path) -> dict[str, Tensor]:
    from ebbtide.sparsity.masks import Masks

    return Masks.load(file).weight_masks()


def shared_values(universal: Universal, own: Outcome) -> dict[str, float]:
    """What each level would score with the whole network's batch norm statistics instead of its own."""
    project = universal.project
    inputs = {
        **universal.identity(),
        "nested": project.store.digest(own.folder / FILE),
        **project.inputs("metric"),
    }

    def compute() -> dict[str, float]:
        nested = load_nested(universal, own.folder)
        nested.statistics.clear()
        return evaluated(universal, nested)

    found: dict[str, float] = project.json_step(
        "shared-norm", inputs, compute, code=("ebbtide.nesting", "ebbtide.model")
    )
    return found


def evaluated(universal: Universal, nested: Nested) -> dict[str, float]:
    """Metric of every level on select."""
    from ebbtide.model import evaluate

    select, metric = universal.dataset.select, universal.project.recipe.metric
    with fitting_threads(universal.model["macs"] * IMPORTANCE_BATCH):
        return {
            level.name: evaluate(extracted(lambda: nested, level.name), select, metric=metric)
            for level in nested.levels
        }


def load_nested(universal: Universal, folder: Path) -> Nested:
    """The nested network that a step left in its folder."""
    from ebbtide.nesting import Nested

    return Nested.load(universal.graph.copy(), folder)


def extracted(nested: Callable[[], Nested], name: str) -> Graph:
    """One level as a plain graph in eval mode."""
    from ebbtide.nesting import extract

    return extract(nested(), name)
