"""What can be said of a recipe without building: `ebb check` and `ebb inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ebbtide.build.backbone import lay_out
from ebbtide.build.choosing import train_candidates
from ebbtide.build.outside import outside_counts
from ebbtide.build.project import Project, read_json
from ebbtide.build.sparsity_plan import check_sparsity
from ebbtide.build.universal import fresh_graph, make_universal, prepare_data
from ebbtide.build.widths import check_widths
from ebbtide.steps import storage_errors, write_bytes


def check_project(project: Project) -> dict[str, Any]:
    """Read devices, data and model; a model that arrives trained is scored on select."""
    from ebbtide.device import load_profile
    from ebbtide.model import choose_cuts, cost

    for name in project.recipe.devices:
        load_profile(name)
    facts = read_json(prepare_data(project) / "dataset.json")
    check_sparsity(project, facts)
    check_widths(project, facts)
    graph = fresh_graph(project, facts)
    found = cost(graph.module, graph.input_shape)
    accuracy = None
    if not project.recipe.trains_model:
        bare = project.varied(exits=None, widths=None, sparsity=None)
        (only,) = train_candidates([lay_out(make_universal(bare))])
        accuracy = only.whole
    return {
        "name": project.recipe.name,
        "classes": tuple(facts["class_set"]),
        "universal_classes": len(facts["universal_classes"]),
        "splits": {name: split["count"] for name, split in facts["provenance"]["splits"].items()},
        "outside": outside_counts(facts) if project.recipe.outside else None,
        "input_shape": tuple(facts["input"]["shape"]),
        "accuracy": accuracy,
        "metric": project.recipe.metric,
        "macs": found.macs,
        "parameters": found.parameters,
        "stages": choose_cuts(graph, project.recipe.stages),
        "notices": tuple(f"{n.subject}: {n.text}" for n in project.notices),
    }


def inspect_project(
    project: Project, *, groups: bool = False, svg: Path | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The model's graph, or its coupling groups, in numbers, and drawn into `svg` if that is given."""
    from ebbtide.model.inspect import Inspection, draw, inspect_graph
    from ebbtide.model.inspect_groups import GroupInspection, draw_groups, inspect_groups

    facts = read_json(prepare_data(project) / "dataset.json")
    graph = fresh_graph(project, facts)
    found: Inspection | GroupInspection
    if groups:
        found = inspect_groups(graph)
        drawing = draw_groups(found)
    else:
        found = inspect_graph(graph, stages=project.recipe.stages)
        drawing = draw(found)
    if svg is not None:
        with storage_errors(svg):
            svg.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(svg, drawing.encode())
    return found.to_json(), found.rows()
