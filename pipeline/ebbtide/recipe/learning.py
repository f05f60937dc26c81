"""What every section says of learning that goes on from a trained model."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ebbtide.recipe.base import Section, conflict


class LearningSection(Section):
    """Further learning; what is left out is as in `training`."""

    epochs: int = Field(default=10, ge=0, le=100_000, description="Passes over the train split")
    batch_size: Annotated[int, Field(ge=2, le=65_536)] | None = Field(
        examples=[128], default=None, description="Samples per step; left out: that of `training`"
    )
    optimizer: Literal["sgd", "adamw"] | None = Field(
        examples=["adamw"], default=None, description="sgd or adamw; left out: that of `training`"
    )
    learning_rate: float | None = Field(
        examples=[0.01], default=None, gt=0.0, le=100.0, description="Highest learning rate"
    )
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        examples=[0.0005], default=None, description="Weight decay; left out: that of `training`"
    )
    warmup_epochs: int = Field(default=0, ge=0, description="Epochs in which the learning rate rises from 0")
    precision: Literal["auto", "float32", "bfloat16"] | None = Field(
        examples=["auto"], default=None, description="What layers compute in; left out: that of `training`"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise conflict(
                f"`warmup_epochs` is {self.warmup_epochs}, but there are only {self.epochs} epochs.",
                key="warmup_epochs",
                expected=f"less than {self.epochs}",
                hint="Lower warmup_epochs or raise epochs.",
            )
        return self
