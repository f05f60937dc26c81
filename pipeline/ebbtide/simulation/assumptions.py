"""What is assumed about power and use: a file in which every number says where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from ebbtide.errors import EbbtideError, nearest
from ebbtide.simulation.phones import Section, Text, first_problem
from ebbtide.simulation.scenario import Load

SHIPPED: Final = Path(__file__).with_name("assumptions.yaml")
_MAX_BYTES: Final = 64 * 1024

Watts = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Processor = Literal["cpu", "gpu", "npu", "server"]


class Assumed(Section):
    """A number and where it comes from."""

    value: float
    source: Text


class Power(Assumed):
    """Watts."""

    value: Watts


class Part(Assumed):
    """A share, 0 to 1."""

    value: Share


class Range(Section):
    """The least and the greatest of something drawn at random."""

    value: tuple[float, float]
    source: Text

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high = self.value
        if not 0 <= low <= high <= 86_400:
            raise ValueError("the two numbers are not in order, or out of range")
        return self


class Rate(Section):
    """Predictions per second, or null."""

    value: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] | None
    source: Text


class Powers(Section):
    """Watts of each tier, or null."""

    value: Annotated[tuple[Watts, ...], Field(min_length=1, max_length=4)] | None
    source: Text


class Speed(Assumed):
    """Multiply-accumulates per microsecond."""

    value: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class Percent(Assumed):
    """0 to 100."""

    value: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Noise(Assumed):
    """Degrees."""

    value: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)]


class ActivePower(Section):
    """Power of a processor that infers without a pause."""

    cpu: Power
    gpu: Power
    npu: Power
    server: Power

    def of(self, processor: Processor) -> float:
        """Watts of one processor."""
        found: Power = getattr(self, processor)
        return found.value


class Assumptions(Section):
    """All of them; see ``assumptions.yaml`` for what each stands for."""

    rest_w: Power
    idle_w: Power
    active_w: ActivePower
    busy: Part
    rate_per_s: Rate
    tier_w: Powers
    macs_per_us: Speed
    start_battery_percent: Percent
    duty: Range
    duty_s: Range
    foreign_w: Range
    foreign_share: Part
    foreign_s: Range
    sensor_noise_c: Noise

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if self.duty.value[1] > 1:
            raise ValueError("duty is a share, at most 1")
        if self.duty.value[1] == 0:
            raise ValueError("an application whose greatest duty is 0 asks for nothing")
        if min(self.duty_s.value[0], self.foreign_s.value[0]) < 1:
            raise ValueError("a segment lasts at least a second")
        return self

    @property
    def load(self) -> Load:
        """From what a run's use is drawn."""
        return Load(
            duty=self.duty.value,
            duty_s=_whole(self.duty_s.value),
            foreign_w=self.foreign_w.value,
            foreign_share=self.foreign_share.value,
            foreign_s=_whole(self.foreign_s.value),
            sensor_noise_c=self.sensor_noise_c.value,
        )

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and source of each, for tables."""
        return _rows(self.model_dump(mode="json"))


def _whole(value: tuple[float, float]) -> tuple[int, int]:
    return int(value[0]), int(value[1])


def _rows(fields: dict[str, Any], before: str = "") -> list[tuple[str, str, str]]:
    rows = []
    for name, held in fields.items():
        if "source" not in held:
            rows += _rows(held, f"{before}{name}.")
            continue
        value = held["value"]
        shown = "–" if value is None else " to ".join(map(_shown, value)) if name in _RANGES else _shown(value)
        rows.append((f"{before}{name}", shown, held["source"]))
    return rows


_RANGES: Final = frozenset({"duty", "duty_s", "foreign_w", "foreign_s"})


def _shown(value: Any) -> str:
    return ", ".join(map(_shown, value)) if isinstance(value, list) else f"{value:g}"


def load_assumptions(path: Path = SHIPPED) -> Assumptions:
    """Read a file of assumptions; keys that it leaves out are those of the shipped one.

    Raises:
        EbbtideError: ``simulation.power`` with the place of the first problem.
    """
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    if path == SHIPPED:
        return Assumptions.model_validate(shipped)
    document = _read(path)
    unknown = next((key for key in document if key not in shipped), None)
    if unknown is not None:
        close = nearest(str(unknown), list(shipped))
        raise _wrong(path, f"The key {unknown!a} is not known.", hint=f"Did you mean {close!r}?" if close else None)
    try:
        return Assumptions.model_validate({**shipped, **document})
    except ValidationError as error:
        where, what = first_problem(error)
        raise _wrong(path, f"{what[:1].upper()}{what[1:]}.", place=where) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise _wrong(path, f"The file has more than {_MAX_BYTES} bytes.")
        document = yaml.safe_load(data)
    except OSError as error:
        raise _wrong(path, f"The file cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _wrong(path, f"This is not YAML: {str(error).splitlines()[0]}.") from None
    if not isinstance(document, dict):
        raise _wrong(path, "The file holds no keys with values.")
    return document


def _wrong(path: Path, message: str, *, place: str = "", hint: str | None = None) -> EbbtideError:
    return EbbtideError(
        "simulation.power",
        message,
        expected="keys of the shipped assumptions, each with `value` and `source`",
        hint=hint or f"Start from a copy of {SHIPPED.name}, which comes with Ebbtide in ebbtide/simulation.",
        place=f"{path.name}: {place}" if place else path.name,
    )
