"""What a recipe's `sparsity` section asks for: its pattern, the budgets it looks among, and what rules them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ebbtide.build.nesting import channel_multiple
from ebbtide.build.project import Project
from ebbtide.build.universal import fresh_graph
from ebbtide.errors import EbbtideError

if TYPE_CHECKING:
    from ebbtide.model import Graph
    from ebbtide.recipe import SparsitySection
    from ebbtide.sparsity.protocol import Pattern
    from ebbtide.sparsity.schedule import Schedule


def pattern_of(project: Project, section: SparsitySection, levels: Sequence[dict[str, int]] = ()) -> Pattern:
    """The section's pattern with its settings.

    Args:
        project: the build, whose devices say what channels are a multiple of.
        section: of its recipe.
        levels: hybrid: widths of the narrower levels, ascending, by coupling group.
    """
    from ebbtide.sparsity.protocol import pattern_type

    settings: dict[str, Any] = {"kind": section.scores, "floor": section.floor}
    if section.pattern == "hybrid":
        settings |= {name: getattr(section, name) for name in ("block", "n", "m", "unit", "weighing")}
        settings["levels"] = levels
    else:
        settings |= {name: getattr(section, name) for name in ("scale", "allocation")}
        settings["multiple"] = channel_multiple(project, section.multiple)
    return pattern_type(section.pattern)(**settings)


def schedule_of(section: SparsitySection) -> Schedule:
    """How the section approaches a budget."""
    from ebbtide.sparsity.schedule import Schedule

    return Schedule(**section.schedule.model_dump(), views=section.tuning.views)


def passes_of(section: SparsitySection) -> int:
    """How many passes over train a model makes that goes from the universal one to its budget."""
    schedule = section.schedule
    return schedule.epochs_before + (schedule.steps - 1) * schedule.epochs_between + section.tuning.epochs


def check_sparsity(project: Project, facts: dict[str, Any]) -> None:
    """Refuse budgets that nothing meets, before anything is trained for them.

    Args:
        project: the build.
        facts: the data set's own words.

    Raises:
        EbbtideError: ``pruning.floor`` with the reason, ``sparsity.nothing_to_prune``, ``sparsity.few_samples`` where
            select cannot show a loss as small as the limit.
    """
    section = project.recipe.sparsity
    if section is None:
        return
    if section.max_drop_points is not None:
        _check_samples(section, facts["provenance"]["splits"]["select"]["count"])
    graph = fresh_graph(project, facts)
    pattern = pattern_of(project, section)
    if section.target is not None:
        pattern.check(graph, kept=section.target.kept)
    elif isinstance(section.budgets, list):
        pattern.check(graph, kept=section.budgets[0])


def _check_samples(section: SparsitySection, count: int) -> None:
    """A model that decides as the reference does has to be within the limit, or none can be."""
    from ebbtide.sparsity.paired import upper_bound

    assert section.max_drop_points is not None
    bound = 100.0 * upper_bound(0, 0, count, confidence=section.confidence)
    if bound > section.max_drop_points:
        raise EbbtideError(
            "sparsity.few_samples",
            f"With {count} select samples no model can be shown to lose at most {section.max_drop_points:g} points",
            expected=f"a limit of {bound:.2f} points or more, which one that decides the same has",
            found=f"{section.max_drop_points:g}",
            place="sparsity.max_drop_points",
            hint="Give more samples to select, raise max_drop_points, lower confidence, or give a target.",
        )


def plan_removal(project: Project, section: SparsitySection, pattern: Pattern, graph: Graph) -> dict[str, Any]:
    """What can be removed at all: the budgets to look among, and what stays whole, each with its reason.

    Args:
        project: the build.
        section: of its recipe.
        pattern: made of it.
        graph: the universal model, in its final order.
    """
    from ebbtide.sparsity.budget import budget_grid

    if section.target is not None:
        budgets: tuple[float, ...] = (section.target.kept,)
    elif isinstance(section.budgets, list):
        budgets = tuple(section.budgets)
    else:
        budgets = budget_grid(pattern.least(graph), count=section.budgets)
    pattern.check(graph, kept=budgets[0])
    return {
        "budgets": list(budgets),
        "least": pattern.least(graph),
        "whole": _whole(pattern, graph),
        "pattern": pattern.describe(),
        "size": pattern.size(graph),
    }


def _whole(pattern: Pattern, graph: Graph) -> list[dict[str, str]]:
    """What keeps its size, or carries only some of the pattern."""
    if pattern.name == "channels":
        from ebbtide.model import coupling_groups

        return [{"subject": one.subject, "reason": one.reason} for one in coupling_groups(graph).whole]
    from ebbtide.sparsity.layout import Shape
    from ebbtide.sparsity.masks import Masks

    told = pattern.describe()
    shape = Shape(told["block"], told["n"], told["m"])
    left = {"groups": "N:M without blocks", "nothing": "dense"}
    return [
        {"subject": layer.name, "reason": f"{left[layer.carries]}: {layer.reason}"}
        for layer in Masks.whole(graph, shape, tuple(told["levels"])).excluded
    ]
