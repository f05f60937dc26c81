"""What the parts of a build record are made of."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ebbtide.report.statistics import wilson_interval

Value = TypeVar("Value")


def _sorted(mapping: dict[str, Value]) -> dict[str, Value]:
    return {key: mapping[key] for key in sorted(mapping)}


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0.0)]
Texts = Annotated[dict[str, str], AfterValidator(_sorted)]
Numbers = Annotated[dict[str, int], AfterValidator(_sorted)]
Shares = Annotated[dict[str, Share], AfterValidator(_sorted)]


class Facts(BaseModel):
    """A part of a record."""

    # A misspelt fact would silently vanish from the report, so unknown names are refused.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Scored(Facts):
    """A share of right answers (or another metric in 0..1) over `n` samples."""

    accuracy: Share
    n: Annotated[int, Field(ge=1)]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval; it means something only where the metric is plain accuracy."""
        return wilson_interval(self.accuracy, self.n)


class Latency(Facts):
    """Measured time of one prediction or one method, and under which conditions."""

    p50_us: Amount
    p90_us: Amount
    spread_us: Amount | None = None
    """How far p50 moved between rounds of the same run."""
    measured_on: str = "host"
    threads: Annotated[int, Field(ge=1)] | None = None


class Stage(Facts):
    """One method of a program: what it costs and what it hands on."""

    name: str
    kind: Literal["stage", "exit", "head", "model"] = "stage"
    macs: Count
    parameters: Count
    weight_bytes: Count
    output_shape: tuple[int, ...] = ()
    """Shape at its end without the batch dimension."""
    latency: Latency | None = None
    delegated_share: Share | None = None
    """Share of its nodes that the back end took over; None where it was not counted."""
