"""Nested widths on the road: a backbone for each, and the simpler ways that the report holds them against.

A build whose recipe has no `widths` has one backbone, the universal model itself; everything after this module treats
one width and several alike.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.build.backbone import Backbone, lay_out
from ebbtide.build.nesting import (
    FILE,
    Outcome,
    Variant,
    bounds_of,
    extracted,
    load_nested,
    make_variant,
    plan_variant,
    rules_of,
    shared_values,
    time_layers,
    tuned_variant,
)
from ebbtide.build.project import Project, read_json
from ebbtide.build.sparsity import Shrinking, masked_plan, shrink_universal
from ebbtide.build.universal import Universal, fresh_graph
from ebbtide.errors import EbbtideError

if TYPE_CHECKING:
    from ebbtide.model import Graph
    from ebbtide.recipe import WidthsSection

SAID = 6
"""So many names are said where more stay whole for one reason; the report lists all."""


@dataclass(frozen=True)
class Nesting:
    """The nested widths of a build, for the report.

    Attributes:
        own: what ships.
        controls: what it is held against, by name; or the reason why there is none.
        universal: metric of the universal model on select, before any of it.
        shared: private statistics only: metric of each level on select with the whole network's statistics.
        layers: measured times of single layers, where widths were searched by them.
    """

    own: Outcome
    controls: dict[str, Outcome | str]
    universal: float
    shared: dict[str, float]
    layers: dict[str, Any] | None


def backbones_of(
    universal: Universal, *, given: Path | None
) -> tuple[tuple[Backbone, ...], Nesting | None, Shrinking | None]:
    """A backbone for each width, the widest first; how the widths were found, and how a model for the class set was.

    Channels are removed before widths are nested in what is left. Masks of blocks and N:M come after: a permutation of
    channels would spoil them, so order and widths are found first, the masks serve every width, and all are tuned
    together under them.

    Args:
        universal: the model and its data.
        given: a measurement record, for widths that go by measured times.

    Raises:
        EbbtideError: ``nesting.infeasible`` with the binding reason, ``nesting.nothing_to_shrink`` with all of them,
            what `shrink_universal` raises, and what training raises.
    """
    section, sparsity = universal.project.recipe.widths, universal.project.recipe.sparsity
    shrinking = None
    masked = section is not None and sparsity is not None and sparsity.pattern == "hybrid"
    if sparsity is not None and not masked:
        shrinking = shrink_universal(universal)
        universal = shrinking.small
    if section is None:
        return (lay_out(universal),), None, shrinking
    layers = time_layers(universal, given)
    variant = Variant("own", section.order, section.search, tuned=section.tuning.epochs > 0)
    planned, masks = plan_variant(universal, variant, layers), None
    controls = {one.name: _control(universal, one, layers) for one in _controls(section)}
    if masked:
        levels = [level["widths"] for level in read_json(planned / "widths.json")["levels"][:-1]]
        shrinking = shrink_universal(universal, ordered=planned / FILE, levels=levels)
        planned, masks = masked_plan(shrinking, planned), shrinking.masks_file
        universal = shrinking.small
    own = tuned_variant(universal, variant, planned, masks=masks)
    _tell(universal, own.plan)
    nested = functools.cache(lambda: load_nested(universal, own.folder))
    digest = universal.project.store.digest(own.folder / FILE)
    backbones = [
        lay_out(
            universal,
            width=level["name"],
            channels=level["widths"],
            weights_digest=digest,
            make_graph=functools.partial(extracted, nested, level["name"]),
        )
        for level in reversed(own.plan["levels"])
    ]
    shared = shared_values(universal, own) if section.norm == "private" else {}
    return tuple(backbones), Nesting(own, controls, own.plan["universal"], shared, layers), shrinking


def check_widths(project: Project, facts: dict[str, Any]) -> None:
    """Refuse widths that no network of this structure meets, before anything is trained for them.

    Args:
        project: the build.
        facts: the data set's own words.

    Raises:
        EbbtideError: ``nesting.infeasible``, ``nesting.nothing_to_shrink``.
    """
    import numpy as np

    from ebbtide.model import coupling_groups
    from ebbtide.nesting import choose_levels

    section = project.recipe.widths
    if section is None or section.cost == "latency" or project.recipe.sparsity is not None:
        # What is left of a model for the class set is not known before it is made.
        return
    graph = fresh_graph(project, facts)
    coupling = coupling_groups(graph)
    # What is feasible does not depend on what units are worth.
    worth = {group.name: np.ones(group.size) for group in coupling.groups}
    choose_levels(
        graph, coupling, worth, section.shares[:1], rules=rules_of(bounds_of(project, section), graph, coupling)
    )


def _controls(section: WidthsSection) -> Iterable[Variant]:
    if section.search != "uniform":
        yield Variant("uniform", section.order, "uniform", tuned="uniform" in section.controls)
    for order in ("magnitude", "random"):
        if section.order != order:
            yield Variant(order, order, section.search, tuned=order in section.controls)


def _control(universal: Universal, variant: Variant, layers: dict[str, Any] | None) -> Outcome | str:
    try:
        return make_variant(universal, variant, layers)
    except EbbtideError as error:
        if error.code != "nesting.infeasible":
            raise
        return error.found or error.message


def with_shared_statistics(own: Outcome, backbone: Backbone) -> Backbone:
    """A width with the whole network's batch norm statistics in place of its own."""

    def make_graph() -> Graph:
        nested = load_nested(backbone.universal, own.folder)
        nested.statistics.clear()
        return extracted(lambda: nested, backbone.width)

    return replace(backbone, weights_digest=f"{backbone.weights_digest}, shared statistics", make_graph=make_graph)


def _tell(universal: Universal, plan: dict[str, Any]) -> None:
    """Say what stays whole and why, one notice a reason, and what else a reader must know of the search."""
    project = universal.project
    name, count = project.recipe.metric.replace("_", " "), universal.samples("select")
    model = "Universal model" if project.recipe.sparsity is None else "Model for the class set"
    project.progress.say(f"{model}: {name} {100 * plan['universal']:.2f} % on {count} select samples")
    reasons: dict[str, list[str]] = {}
    for one in plan["whole"]:
        reasons.setdefault(one["reason"], []).append(one["subject"])
    for reason, subjects in reasons.items():
        more = f" and {len(subjects) - SAID} more" if len(subjects) > SAID else ""
        project.notice("choice", "widths", f"{', '.join(subjects[:SAID])}{more} stay whole: {reason}")
    for name in plan["same"]:
        project.notice("choice", "widths", f"{name} is the same network as the next wider one, so one of them is built")
    if not plan["exact"]:
        project.notice(
            "fallback",
            "widths",
            f"the search is not exact: {plan['note']}; at most {100 * plan['gap']:.2f} % of the importance is missed",
        )
