"""The halves of the test samples in each other's place: the same road once more, up to the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from ebbtide.build.choice import Table, choose_table
from ebbtide.build.choosing import train_candidates
from ebbtide.build.evaluation import Evaluation, evaluate_on_test
from ebbtide.build.measuring import time_methods
from ebbtide.build.programs import Programs, lower_programs
from ebbtide.build.project import Project
from ebbtide.build.universal import make_universal
from ebbtide.build.widths import backbones_of


@dataclass(frozen=True)
class Swapped:
    """What was chosen on the second half and measured on the first; nothing of it ships.

    Attributes:
        programs: with temperatures of the other half.
        table: thresholds of the other half.
        evaluation: on the half that the bundle's thresholds were chosen on.
    """

    programs: Programs
    table: Table
    evaluation: Evaluation


def swap_halves(project: Project) -> Swapped | None:
    """Choose and measure again with the halves in each other's place, where the recipe says `split: test-halves`.

    What depends on train alone, the exits above all, is found stored.
    """
    recipe = project.recipe
    split = recipe.data.split
    if split.protocol != "test-halves":
        return None
    other = split.model_copy(update={"choose_on": "second" if split.choose_on == "first" else "first"})
    project.progress.say("The halves of the test samples change places")
    swapped = project.varied(data=recipe.data.model_copy(update={"split": other}), outside=None)
    backbones = backbones_of(make_universal(swapped), given=None)[0]
    programs = lower_programs(train_candidates(backbones), ())
    table = choose_table(programs, time_methods(programs, None))
    return Swapped(programs, table, evaluate_on_test(programs, table))
