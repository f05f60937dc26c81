"""Measured times as data: a stored step of a build like any other, so that a bundle can be made again byte for byte."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ebbtide.errors import EbbtideError
from ebbtide.profiling.machine import MachineFacts
from ebbtide.profiling.timing import Timing
from ebbtide.steps import canonical_json

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Measurement(BaseModel):
    """The time of one method of one program.

    `threads` is how many threads the engine was told to use, None if it was left to the engine; the program is known
    by the SHA-256 of its file, so that a measurement outlives file names and is shared by devices that share a program.
    """

    model_config = _STRICT

    program_sha256: Sha256
    method: str = Field(min_length=1)
    engine: str
    threads: int | None = Field(default=None, ge=1)
    input_shape: tuple[int, ...]
    timing: Timing


class PathMeasurement(BaseModel):
    """The time of several methods run one after the other, none left out: a path up to one of its exits, or a model.

    `steps` are ``(program sha256, method)`` in order.
    """

    model_config = _STRICT

    id: str = Field(min_length=1)
    steps: tuple[tuple[Sha256, str], ...] = Field(min_length=1)
    engine: str
    threads: int | None = Field(default=None, ge=1)
    timing: Timing


class MeasurementRecord(BaseModel):
    """Everything that was timed in one run on one machine."""

    model_config = _STRICT

    format: Literal[1] = 1
    machine: MachineFacts
    measurements: tuple[Measurement, ...] = ()
    paths: tuple[PathMeasurement, ...] = ()

    def find(self, program_sha256: str, method: str) -> Measurement | None:
        """The measurement of a method, or None if it was not timed."""
        for entry in self.measurements:
            if entry.program_sha256 == program_sha256 and entry.method == method:
                return entry
        return None

    def find_path(self, path_id: str) -> PathMeasurement | None:
        """The measurement of a whole path, or None if it was not timed."""
        return next((entry for entry in self.paths if entry.id == path_id), None)

    def sum_p50_us(self, steps: Iterable[tuple[str, str]]) -> float | None:
        """The sum of the medians of ``(program sha256, method)`` steps; None if one was not timed.

        What leaving at an exit costs, in microseconds: the sum of the steps up to it.
        """
        total = 0.0
        for program_sha256, method in steps:
            entry = self.find(program_sha256, method)
            if entry is None:
                return None
            total += entry.timing.p50_us
        return total

    def to_bytes(self) -> bytes:
        """The record's one JSON spelling."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"


def parse_record(data: bytes, *, place: str | None = None) -> MeasurementRecord:
    """Read what `MeasurementRecord.to_bytes` wrote.

    Args:
        data: UTF-8 JSON.
        place: the file, for the message.

    Raises:
        EbbtideError: ``profiling.record`` if it is not such a record.
    """
    try:
        return MeasurementRecord.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise EbbtideError(
            "profiling.record",
            f"This is not a record of measurements: {first['msg']}.",
            place=f"{place or 'record'}: $.{where}" if where else place,
            hint="measure again; the file may come from another version or be damaged",
        ) from error
