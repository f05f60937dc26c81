"""Phones and operating systems as data: bodies, batteries and thresholds, each with where it comes from.

A phone is a file in ``simulation/phones``; the ways in which a system reports heat and takes power away are in
``simulation/systems.yaml``. What was not looked up in a document says ``verified: false``.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ebbtide.errors import EbbtideError, nearest
from ebbtide.simulation.heat import HeatModel
from ebbtide.simulation.throttling import CapModel

PHONES: Final = Path(__file__).with_name("phones")
SYSTEMS: Final = Path(__file__).with_name("systems.yaml")

Value = TypeVar("Value")
Text = Annotated[str, Field(min_length=1, max_length=400)]
Celsius = Annotated[float, Field(ge=-60, le=150, allow_inf_nan=False)]
SystemName = Literal["pixel", "qcom40", "qcom55", "stuck", "nan", "apple"]


class Section(BaseModel):
    """What all parts share: no unknown key, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stated(Section, Generic[Value]):
    """A value, where it comes from, and whether somebody looked it up there."""

    value: Value
    source: Text
    verified: bool


class Phone(Section):
    """A body, a battery and a system."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
    title: Text
    surface_cm2: Stated[Annotated[float, Field(gt=0, le=10_000)]]
    mass_g: Stated[Annotated[float, Field(gt=0, le=10_000)]]
    battery_mah: Stated[Annotated[float, Field(gt=0, le=100_000)]]
    system: Stated[SystemName]

    @property
    def heat(self) -> HeatModel:
        """The constants of heat that follow from surface and mass."""
        return HeatModel.of_body(self.surface_cm2.value, self.mass_g.value)


class PowerControl(Section):
    """The power cap of a system; see `ebbtide.simulation.throttling.CapModel`."""

    set_c: Stated[Celsius]
    sustained_w: Stated[Annotated[float, Field(gt=0, le=100)]]


class System(Section):
    """How a system tells of heat and acts on it.

    Attributes:
        platform: android reports a status and headroom, ios a thermal state.
        thresholds_c: of the levels 1, 2, ...; null for one that the vendor does not define.
        hysteresis_c: for each level; it is left that much below its threshold.
        reports_status: false where the status stays at NONE whatever the heat.
        reports_headroom: false where every headroom is NaN.
    """

    platform: Literal["android", "ios"]
    thresholds_c: Stated[tuple[Celsius | None, ...]]
    hysteresis_c: Stated[tuple[Annotated[float, Field(ge=0, le=20)], ...]]
    reports_status: bool = True
    reports_headroom: bool = True
    power_control: PowerControl

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds with NaN for what is not defined."""
        return tuple(math.nan if one is None else one for one in self.thresholds_c.value)

    @property
    def severe_c(self) -> float:
        """The SEVERE threshold, which pins headroom; NaN where no headroom can be had."""
        return self.thresholds[2] if self.platform == "android" and self.reports_headroom else math.nan

    @property
    def cap(self) -> CapModel:
        """The power cap."""
        return CapModel(self.power_control.set_c.value, self.power_control.sustained_w.value)

    @property
    def light_mh(self) -> int | None:
        """What Android 15 and later state as the headroom of LIGHT, in thousandths; None where it is not defined."""
        return self._threshold_mh(0)

    @property
    def moderate_mh(self) -> int | None:
        """The same for MODERATE."""
        return self._threshold_mh(1)

    def _threshold_mh(self, index: int) -> int | None:
        if math.isnan(self.severe_c) or math.isnan(self.thresholds[index]):
            return None
        return math.floor(1000 * (1 - (self.severe_c - self.thresholds[index]) / 30) + 0.5)


def phone_names() -> tuple[str, ...]:
    """The names of all phones that come with Ebbtide, sorted."""
    return tuple(sorted(path.stem for path in PHONES.glob("*.yaml")))


def load_phone(name: str) -> Phone:
    """Read a phone by name.

    Raises:
        EbbtideError: ``simulation.phone`` with the nearest name.
    """
    known = phone_names()
    if name not in known:
        close = nearest(name, list(known))
        raise EbbtideError(
            "simulation.phone",
            f"There is no phone {name!a} to simulate.",
            expected=", ".join(known),
            hint=f"Did you mean {close!r}?" if close else "Name one of these.",
            place="--phone",
        )
    return Phone.model_validate(_document(PHONES / f"{name}.yaml"))


@cache
def load_system(name: SystemName) -> System:
    """The system of that name."""
    return System.model_validate(_document(SYSTEMS)[name])


def _document(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Where the first thing is wrong in a document, as a dotted path, and what."""
    first = error.errors(include_url=False)[0]
    return ".".join(map(str, first["loc"])), str(first["msg"]).removeprefix("Value error, ")
