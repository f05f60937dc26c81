"""What a report shows of outside detection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.build.choice import Table
from ebbtide.build.evaluation import Evaluation
from ebbtide.build.outside import OutsideRule, outside_counts
from ebbtide.build.programs import Programs

if TYPE_CHECKING:
    from ebbtide.report.outside import Outside


def summarise_outside(programs: Programs, table: Table, rule: OutsideRule, evaluation: Evaluation) -> Outside:
    """The rule, and what it does to every configuration on select and on test."""
    from ebbtide.report.outside import Outside, OutsideRates, OutsideRow

    facts, section = programs.universal.facts, programs.project.recipe.outside
    assert section is not None
    return Outside(
        score=section.score,
        allowed=section.false_outside,
        fallback=rule.fallback,
        other_classes=len(facts["universal_classes"]) - len(facts["class_set"]),
        samples=outside_counts(facts),
        rows=tuple(
            OutsideRow(
                configuration=row.id,
                thresholds=rule.thresholds(row),
                select=OutsideRates(**rule.select(row)),
                test=OutsideRates(**evaluation.outside[row.id]),
            )
            for row in table.rows
        ),
    )
