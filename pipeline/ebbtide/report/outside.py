"""What a report shows of outside detection."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.report.facts import Count, Facts, Numbers, Share


class OutsideRates(Facts):
    """How outside and inside are told apart on one split."""

    inside: Annotated[int, Field(ge=1)]
    """Samples of the class set."""
    outside: Count
    """Samples of other classes."""
    false_outside: Share
    """Share of the class set's samples that are answered outside."""
    false_inside: Share | None = None
    """Share of the other classes' samples that are answered with a class; None where there are none."""
    auroc: Share | None = None
    """Probability that a sample of another class looks stranger than one of the class set; 0.5 is chance."""
    right_and_inside: Share
    """Share of the class set's samples that get their own class and are not answered outside."""


class OutsideRow(Facts):
    """One configuration's thresholds, by exit and head, and what they do."""

    configuration: str
    thresholds: dict[str, float]
    select: OutsideRates
    test: OutsideRates | None = None


class Outside(Facts):
    """When a bundle answers that an input belongs to none of its classes."""

    score: Literal["energy", "confidence"]
    allowed: Share
    """Share of the class set's samples of select that may be answered outside by mistake."""
    fallback: str | None = None
    """The bundle to ask instead."""
    other_classes: Count
    """How many classes the universal model has beside the class set."""
    samples: Numbers = Field(default_factory=dict)
    """Samples of other classes by split."""
    rows: Annotated[tuple[OutsideRow, ...], Field(min_length=1)]

    def row(self, configuration: str) -> OutsideRow:
        """The row of a configuration, by id."""
        return next(row for row in self.rows if row.configuration == configuration)
