"""The ``policy`` section: the numbers by which a phone chooses among the tiers."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from ebbtide.recipe.base import Section, conflict

MilliHeadroom = Annotated[int, Field(ge=0, le=10_000)]
DeciCelsius = Annotated[int, Field(ge=-400, le=1500)]
Percent = Annotated[int, Field(ge=0, le=100)]
Demand = Annotated[int, Field(ge=0, le=3)]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]
Three = Field(min_length=3, max_length=3)


class PolicySection(Section):
    """When a phone goes to a cheaper tier and back; docs/deciding.md has the rule.

    All numbers are integers: mh is thermal headroom x 1000, dc a tenth of a degree Celsius. Lists of three are the
    entries of tiers 1, 2 and 3.
    """

    enter_mh: Annotated[list[MilliHeadroom], Three] = Field(
        default=[750, 850, 950],
        description="Thermal headroom x 1000 at which tiers 1, 2 and 3 begin; lower: less heat, less quality",
    )
    hysteresis_mh: MilliHeadroom = Field(default=65, description="How far below its entry a tier is left again")
    status_floor: Annotated[list[Demand], Field(min_length=7, max_length=7)] = Field(
        default=[0, 1, 2, 3, 3, 3, 3], description="Tier for each Android thermal status, NONE to SHUTDOWN"
    )
    apple_floor: Annotated[list[Demand], Field(min_length=4, max_length=4)] = Field(
        default=[0, 1, 2, 3], description="Tier for each iOS thermal state, nominal to critical"
    )
    battery_enter_percent: Annotated[list[Percent], Three] = Field(
        default=[20, 10, 5], description="Battery, off the charger, at which tiers 1, 2 and 3 begin"
    )
    battery_hysteresis: Percent = Field(default=5, description="Points above its entry at which a tier is left again")
    battery_temperature_enter_dc: Annotated[list[DeciCelsius], Three] = Field(
        default=[390, 410, 430], description="Battery temperature x 10, used only where nothing else tells of heat"
    )
    battery_temperature_hysteresis_dc: Annotated[int, Field(ge=0, le=500)] = Field(
        default=20, description="How far below its entry a tier is left again"
    )
    saver_floor: Demand = Field(default=1, description="Tier while the power saver is on")
    up_hold_ms: Milliseconds = Field(
        default=60_000, description="How long the demand must have been lower before each single step up"
    )
    stale_ms: Milliseconds = Field(default=15_000, description="A headroom older than this does not count")
    gap_ms: Milliseconds = Field(
        default=60_000, description="A longer time without a look, as in sleep, begins the hold anew"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("enter_mh", "battery_temperature_enter_dc", "status_floor", "apple_floor"):
            self._refuse(name, falling=False)
        self._refuse("battery_enter_percent", falling=True)
        return self

    def _refuse(self, name: str, *, falling: bool) -> None:
        numbers = getattr(self, name)
        ordered = sorted(numbers, reverse=falling)
        if numbers != ordered:
            raise conflict(
                f"The numbers of `{name}` {'rise' if falling else 'fall'}: {numbers}.",
                key=name,
                expected=str(ordered),
                hint="Write the number of the better tier first.",
            )
