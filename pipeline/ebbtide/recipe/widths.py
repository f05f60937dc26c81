"""The `widths` section: smaller networks nested in the model, each a prefix of the channels of the next."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ebbtide.recipe.base import Section, conflict, out_of_range
from ebbtide.recipe.learning import LearningSection

MAX_LEVELS = 16
Control = Literal["uniform", "magnitude", "random"]


class TuningSection(LearningSection):
    """Joint tuning: every width learns on the same batches; what is left out is as in `training`."""

    epochs: int = Field(
        default=10, ge=0, le=100_000, description="Passes over the train split; 0: the widths are cut out and left so"
    )
    learning_rate: float = Field(
        default=0.005,
        gt=0.0,
        le=100.0,
        description="Highest learning rate; shared batch norm statistics do not follow the weights, so keep it well "
        "below that of `training`",
    )
    distill: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="How much of the narrower widths' loss is to agree with the widest instead of the labels",
    )
    sandwich: bool = Field(
        default=False,
        description="true: each batch trains the widest, the narrowest and one width between, drawn anew; false: all",
    )


class WidthsSection(Section):
    """Nested widths: one set of weights, and a program for each share of its multiply-accumulates."""

    levels: (
        Annotated[int, Field(ge=2, le=MAX_LEVELS)] | Annotated[list[float], Field(min_length=2, max_length=MAX_LEVELS)]
    ) = Field(
        default=4,
        description="How many, in equal steps up to the whole; or the shares of the model's multiply-accumulates that "
        "each may cost at most, ascending, the last 1.0",
    )
    order: Literal["importance", "saliency", "magnitude", "random", "none"] = Field(
        default="importance",
        description="Which channels come first. importance: weight times summed gradient; saliency: weight times mean "
        "absolute gradient; magnitude, random and none are controls",
    )
    search: Literal["bottom-up", "top-down", "joint", "uniform"] = Field(
        default="bottom-up",
        description="How channels are shared out, exactly: smallest width first, largest first, all at once; uniform "
        "gives every group the same share",
    )
    norm: Literal["shared", "private"] = Field(
        default="shared",
        description="Batch norm statistics. shared: the whole network's for every width, so that all widths are slices "
        "of the same bytes; private: each width its own",
    )
    multiple: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        default="auto",
        description="Kept channels are a multiple of this (or all); auto: the largest that a device profile asks for",
    )
    floor: int = Field(default=1, ge=1, description="Fewest channels that a group keeps")
    memory_limit_kib: Annotated[float, Field(gt=0.0)] | None = Field(
        examples=[256],
        default=None,
        description="Largest input and output together of any layer, in KiB, for every width, the widest too; left "
        "out: no limit",
    )
    cost: Literal["macs", "latency"] = Field(
        default="macs",
        description="What the shares are shares of: multiply-accumulates, or times measured here layer by layer",
    )
    images: Literal["user", "all"] = Field(
        default="user", description="Which images importance is measured on: those of the class set, or of all classes"
    )
    batches: int = Field(
        default=100, ge=1, le=100_000, description="Batches of 100 train samples that importance is measured on"
    )
    controls: list[Control] = Field(
        default=[],
        description="What the report also tunes and shows beside these widths (uniform, magnitude, random); each "
        "costs a whole tuning run",
    )
    tuning: TuningSection = Field(default_factory=TuningSection, description="Joint tuning of all widths")

    @property
    def shares(self) -> tuple[float, ...]:
        """The levels as shares, ascending; the last is 1."""
        if isinstance(self.levels, int):
            return tuple((index + 1) / self.levels for index in range(self.levels))
        return tuple(self.levels)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.levels, list):
            _check_shares(self.levels)
        repeated = [name for index, name in enumerate(self.controls) if name in self.controls[:index]]
        if repeated:
            raise conflict(f"`controls` names {repeated[0]} twice.", key="controls", hint="Write each one once.")
        if self.norm == "private" and self.tuning.epochs == 0:
            raise conflict(
                "Private batch norm statistics are collected while tuning, and there is no epoch of it.",
                key="tuning.epochs",
                expected="at least 1",
                hint="Raise tuning.epochs, or say norm: shared.",
            )
        return self


def _check_shares(shares: list[float]) -> None:
    wrong = [share for share in shares if not 0.0 < share <= 1.0]
    if wrong:
        raise out_of_range(
            f"A width cannot cost {wrong[0]:g} of the whole.",
            key="levels",
            expected="shares above 0 and at most 1 (0.25 is a quarter of the multiply-accumulates)",
            hint="Write shares of 1, not percents.",
        )
    ascending = sorted(set(shares))
    if ascending != shares:
        what = "stand once each" if len(ascending) < len(shares) else "ascend"
        raise conflict(
            f"Width levels must {what}, found {shares}.",
            key="levels",
            expected=str(ascending),
            hint="Write each level once, smallest first.",
        )
    if shares[-1] != 1.0:
        raise conflict(
            "The levels do not name the whole network.",
            key="levels",
            expected=str([*shares, 1.0]),
            hint="Add 1.0 as the last level; it always ships.",
        )
    names = [round(100 * share) for share in shares]
    same = [index for index in range(1, len(names)) if names[index] == names[index - 1]]
    if same or names[0] == 0:
        at = same[0] if same else 0
        raise conflict(
            f"Level {shares[at]:g} is too near to {shares[at - 1] if at else 0:g}: whole percents name a width.",
            key="levels",
            expected="levels of at least one percent, and a percent apart",
            hint="Leave one of them out.",
        )


def _short_widths(value: Any) -> Any:
    short = isinstance(value, list) or (isinstance(value, int) and not isinstance(value, bool))
    return {"levels": value} if short else value


Widths = Annotated[
    WidthsSection,
    BeforeValidator(
        _short_widths,
        json_schema_input_type=Annotated[int, Field(ge=2, le=MAX_LEVELS)]
        | Annotated[list[float], Field(min_length=2, max_length=MAX_LEVELS)]
        | WidthsSection,
    ),
]
