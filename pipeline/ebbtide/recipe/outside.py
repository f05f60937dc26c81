"""The ``outside`` section: when a bundle answers that an input belongs to none of its classes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ebbtide.recipe.base import Name, Section

ScoreName = Literal["energy", "confidence"]


class OutsideSection(Section):
    """Outside detection: images of other classes are answered "outside", by a threshold chosen on select."""

    score: ScoreName = Field(
        default="energy",
        description="What tells: the energy of the logits, or the confidence of the answer",
    )
    false_outside: float = Field(
        default=0.05,
        ge=0.0,
        le=0.5,
        description="Share of the class set's own samples that each configuration may answer outside by mistake, on "
        "select",
    )
    fallback: Name | None = Field(
        examples=["universal"],
        default=None,
        description="Name of the bundle to ask instead, as a rule the universal one; left out: none",
    )
    samples: int = Field(
        default=2000,
        ge=1,
        le=1_000_000,
        description="Most samples of other classes to measure with, in each of select and test; spread evenly over the "
        "classes",
    )


def _short_outside(value: Any) -> Any:
    return {"score": value} if isinstance(value, str) else value


Outside = Annotated[OutsideSection, BeforeValidator(_short_outside, json_schema_input_type=ScoreName | OutsideSection)]
