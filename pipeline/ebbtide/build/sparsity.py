"""A smaller model for the class set on the road: what is tried, which one is taken, and what the build goes on with."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.build.project import Project, read_json
from ebbtide.build.sparsity_plan import check_sparsity
from ebbtide.build.sparsity_trials import CODE, LIBRARIES, Made, Workshop
from ebbtide.build.universal import Universal
from ebbtide.errors import EbbtideError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ebbtide.model import Graph
    from ebbtide.sparsity.masks import Masks

SAID = 6
"""So many names are said where more stay whole for one reason; the report lists all."""


@dataclass(frozen=True)
class Shrinking:
    """How the model for the class set came about, for the road and the report.

    Attributes:
        workshop: what made it.
        plan: budgets, what stays whole, the pattern's settings.
        untouched: the universal model with the head of the class set.
        tuned: the same fine-tuned whole; None where losses count from the universal model.
        trials: every budget that was tried, in order.
        verdicts: of each trial ``within`` and ``drop`` against the reference, where a budget was looked for.
        chosen: index of the trial that is taken.
    """

    workshop: Workshop
    plan: dict[str, Any]
    untouched: Made
    tuned: Made | None
    trials: tuple[Made, ...]
    verdicts: tuple[dict[str, Any], ...]
    chosen: int

    @property
    def taken(self) -> Made:
        """The trial that the build goes on with."""
        return self.trials[self.chosen]

    @property
    def reference(self) -> Made:
        """What losses count from."""
        return self.tuned or self.untouched

    @functools.cached_property
    def masks(self) -> Masks | None:
        """Which weights of the model count; None where it is a plain smaller one."""
        from ebbtide.sparsity.masks import Masks

        return Masks.load(self.masks_file) if self.workshop.section.pattern == "hybrid" else None

    @property
    def masks_file(self) -> Path:
        """The file of the masks, of a pattern that has any."""
        return self.taken.folder / "personalised" / "masks.safetensors"

    @functools.cached_property
    def small(self) -> Universal:
        """What every later step takes for the model: the smaller one."""
        made, before = self.taken, self.workshop.universal
        removals = tuple(made.facts["trail"]) if self.workshop.section.pattern == "channels" else ()

        def rebuild(graph: Graph) -> Graph:
            for removal in removals:
                graph = self.workshop.pattern.rebuild(graph, removal)
            return graph

        return replace(
            before,
            weights=made.weights,
            weights_digest=before.project.store.digest(made.weights),
            model=made.model,
            removals=removals,
            rebuild=rebuild if removals else None,
        )


def shrink_universal(
    universal: Universal, *, ordered: Path | None = None, levels: Sequence[dict[str, int]] = ()
) -> Shrinking:
    """Make the model for the class set as the recipe asks: to a target, or as small as its accuracy allows.

    Args:
        universal: with the head of the class set.
        ordered: hybrid with widths: file of the network in its final order.
        levels: widths of its narrower levels, ascending.

    Raises:
        EbbtideError: ``sparsity.none_within`` where no budget is within the limit; ``pruning.floor``,
            ``pruning.scores``, ``sparsity.nothing_to_prune``, ``model.training_diverged``.
    """
    project = universal.project
    section = project.recipe.sparsity
    assert section is not None
    check_sparsity(project, universal.facts)
    workshop = Workshop(universal, section, ordered=ordered, levels=levels)
    plan = workshop.plan()
    untouched = workshop.untouched()
    _say_reference(project, "Universal model", untouched)
    tuned = None
    if section.reference == "tuned":
        tuned = workshop.tune_whole()
        _say_reference(project, "Universal model, fine-tuned whole", tuned)
    if section.target is not None:
        found: dict[str, Any] = {
            "trials": [workshop.trial(section.target.kept).inputs],
            "verdicts": [],
            "chosen": 0,
        }
    else:
        found = _look(workshop, plan["budgets"], (tuned or untouched).right)
    trials = tuple(workshop.again(inputs) for inputs in found["trials"])
    shrinking = Shrinking(workshop, plan, untouched, tuned, trials, tuple(found["verdicts"]), found["chosen"])
    _tell(shrinking)
    return shrinking


def _look(workshop: Workshop, budgets: list[float], reference: NDArray[np.bool_]) -> dict[str, Any]:
    """Try budgets until the smallest that is within the limit is known; which, is a step of its own."""
    project, section = workshop.universal.project, workshop.section
    assert section.max_drop_points is not None
    inputs = {
        "of": workshop.identity(),
        "budgets": budgets,
        "reference": "".join("01"[bool(one)] for one in reference),
        **project.inputs("sparsity.max_drop_points", "sparsity.confidence"),
    }

    def compute() -> dict[str, Any]:
        from ebbtide.sparsity.budget import Attempt, cheapest_within

        assert section.max_drop_points is not None

        def run(budget: float, larger: Sequence[float]) -> Attempt[Made]:
            made = workshop.trial(budget, larger, least=budgets[0])
            return Attempt(made, made.right, made.facts["kept"], made.facts["stopped"])

        found = cheapest_within(
            run,
            reference,
            max_drop_points=section.max_drop_points,
            budgets=budgets,
            confidence=section.confidence,
            progress=project.progress,
        )
        return {
            "trials": [trial.attempt.made.inputs for trial in found.trials],
            "verdicts": [{"within": trial.within, "drop": trial.drop.to_json()} for trial in found.trials],
            "chosen": None if found.found is None else found.trials.index(found.found),
            "reason": found.reason,
        }

    found: dict[str, Any] = project.json_step("sparsity", inputs, compute, code=CODE, libraries=LIBRARIES)
    if found["chosen"] is None:
        raise EbbtideError(
            "sparsity.none_within",
            f"No smaller model loses at most {section.max_drop_points:g} points on select",
            expected=f"at most {section.max_drop_points:g} points, with {100 * section.confidence:g} % confidence",
            found=found["reason"],
            place="sparsity.max_drop_points",
            hint="Raise max_drop_points, train for longer (sparsity.tuning.epochs), give more samples to select, or "
            "give a target.",
        )
    return found


def _say_reference(project: Project, name: str, made: Made) -> None:
    metric = project.recipe.metric.replace("_", " ")
    project.progress.say(f"{name}: {metric} {100 * made.facts['select']:.2f} % on select")


def _tell(shrinking: Shrinking) -> None:
    """What a reader must know: all classes, what stays whole, where it stopped, and what a mask does not do."""
    project, section = shrinking.workshop.universal.project, shrinking.workshop.section
    facts = shrinking.workshop.universal.facts
    if len(facts["class_set"]) == len(facts["universal_classes"]):
        project.notice("choice", "sparsity", "the class set is all classes: nothing is won from leaving any out")
    reasons: dict[str, list[str]] = {}
    for one in shrinking.plan["whole"]:
        reasons.setdefault(one["reason"], []).append(one["subject"])
    for reason, subjects in reasons.items():
        more = f" and {len(subjects) - SAID} more" if len(subjects) > SAID else ""
        project.notice("choice", "sparsity", f"{', '.join(subjects[:SAID])}{more} stay as they are: {reason}")
    stopped = shrinking.taken.facts["stopped"]
    if stopped is not None:
        kept = f"{100 * shrinking.taken.facts['kept']:.3g} %"
        project.notice("warning", "sparsity", f"the last good step is shipped, with {kept} left: {stopped}")
    if section.pattern == "hybrid":
        project.notice(
            "fallback",
            "sparsity",
            "the runtime computes masked zeros as any other weight: every latency here is that of the dense network",
        )


def masked_plan(shrinking: Shrinking, planned: Path) -> Path:
    """The plan of nested widths with the masked network's weights; every level is checked to keep the pattern.

    Args:
        shrinking: made from the ordered network of the plan.
        planned: folder of the plan.
    """
    from ebbtide.build.nesting import FILE

    universal = shrinking.small
    project = universal.project
    inputs = {
        **universal.identity(),
        "structure": universal.structure(),
        "nested": project.store.digest(planned / FILE),
        "masks": project.store.digest(shrinking.masks_file),
        **project.inputs("metric"),
    }

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.build.nesting import evaluated, load_nested
        from ebbtide.steps import write_json

        nested = load_nested(universal, planned)
        nested.graph.load(universal.graph.state())
        check_levels(shrinking, nested)
        nested.save(folder)
        plan = read_json(planned / "widths.json")
        plan |= {"untuned": evaluated(universal, nested), "universal": shrinking.taken.facts["select"]}
        write_json(folder / "widths.json", plan)

    return project.step("masked-widths", inputs, produce, code=CODE, libraries=LIBRARIES)


def check_levels(shrinking: Shrinking, nested: Any) -> None:
    """Hold the masks of every level against the pattern, and its weights against the masks.

    Raises:
        EbbtideError: ``sparsity.masks`` or ``sparsity.packed`` for what is no mask of the pattern at some level.
    """
    from ebbtide.nesting import extract
    from ebbtide.sparsity.packed import packed_size

    masks = shrinking.masks
    assert masks is not None
    for level in nested.levels:
        small = extract(nested, level.name)
        own = masks.at(nested.coupling, level.widths, small)
        packed_size(own)
        state = small.state()
        loose = [name for name, kept in own.weight_masks().items() if bool(state[name][~kept].any())]
        if loose:
            raise EbbtideError(
                "sparsity.masks",
                "A width has weights where its masks leave none",
                found=", ".join(loose[:SAID]),
                place=level.name,
                hint="Build again from an empty --cache; if it happens still, report it.",
            )
