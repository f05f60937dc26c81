"""The decision log: JSON lines, one for every decision, so that what a phone did can be read, drawn and replayed.

Each line is one object of the classes below, told apart by ``event``; `line_schema` is their JSON Schema. Lines are
appended, each by one write, and never changed. A full disk costs lines, not predictions: it is said once.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ebbtide.errors import EbbtideError

_LOG = logging.getLogger(__name__)

Tier = Annotated[int, Field(ge=0, le=3)]


class Line(BaseModel):
    """What every line says.

    Attributes:
        format: of this file.
        time: wall clock, UTC, ISO 8601 with milliseconds; it may be set back, `t_ms` cannot.
        t_ms: the session's monotonic clock, milliseconds.
        configuration: in force from now on.
        configuration_tier: its tier; None if no tier names it. It differs from a decision's tier under the
            application's accuracy floor, under an override, and after a switch that failed.
        configuration_reason: why it is in force, as predictions report it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    time: Annotated[str, Field(pattern=r"^\d{4}(-\d\d){2}T\d\d(:\d\d){2}\.\d{3}Z$")]
    t_ms: int
    configuration: str
    configuration_tier: Tier | None
    configuration_reason: str


class DecisionLine(Line):
    """The policy decided.

    Attributes:
        tier: what it decided.
        reason: why, see `ebbtide.runtime.policy`.
        used: the signals that decided, by their names, which carry the units.
        signals: the whole reading, its own `t_ms` included, as recordings have it: what is absent is left out.
        minimum_tier, maximum_tier: the application's limits.
        override_tier: the tier that the application holds in force instead, None if none.
        switched: whether this decision put another configuration in force.
        should_stop: whether the phone is about to shut down or to stop the application.
        xi_q10: the slow-down factor x 1024, recorded and not acted on; see `ebbtide.runtime.slowdown`.
        profiled_us: what a prediction of the configuration is held against, microseconds; None while it is not known.
        profiled_from: ``expected`` by the bundle, or the median of the first predictions (``warm_up``).
        predictions: made since the session began.
    """

    event: Literal["decision"] = "decision"
    tier: Tier
    reason: str
    used: dict[str, int | bool]
    signals: dict[str, int | bool]
    minimum_tier: Tier
    maximum_tier: Tier
    override_tier: Tier | None
    switched: bool
    should_stop: bool
    xi_q10: Annotated[int, Field(ge=0)]
    profiled_us: Annotated[int, Field(ge=1)] | None
    profiled_from: Literal["expected", "warm_up"] | None
    predictions: Annotated[int, Field(ge=0)]


class OverrideLine(Line):
    """The application held a tier in force, or let go of it (`override_tier` None)."""

    event: Literal["override"] = "override"
    override_tier: Tier | None


class ProblemLine(Line):
    """Something failed and the session went on: a reading, a switch, or a callback of the application.

    Attributes:
        code: of the error.
        message: what is wrong.
        place: the signal, program or file, None if there is none.
    """

    event: Literal["problem"] = "problem"
    code: str
    message: str
    place: str | None


AnyLine = Annotated[DecisionLine | OverrideLine | ProblemLine, Field(discriminator="event")]
_ADAPTER: TypeAdapter[DecisionLine | OverrideLine | ProblemLine] = TypeAdapter(AnyLine)


def line_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one line."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_ADAPTER.json_schema(mode="serialization")}


def wall_time() -> str:
    """Now, as lines write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def problem_of(error: Exception, code: str) -> EbbtideError:
    """An error as lines tell it: an `EbbtideError` as it is, anything else under a code."""
    if isinstance(error, EbbtideError):
        return error
    return EbbtideError(code, f"{type(error).__name__}: {error}")


class DecisionLog:
    """Appends lines to a file. For one thread at a time.

    Args:
        path: made with its folder if need be; what is there already stays.

    Raises:
        EbbtideError: ``runtime.log`` if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lost = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a buffer would keep what a full disk refused, and write it twice or in pieces later.
            self._stream = path.open("ab", buffering=0)
        except OSError as error:
            raise EbbtideError(
                "runtime.log",
                "The decision log cannot be opened.",
                found=error.strerror,
                hint="name a file in a folder that can be written",
                place=str(path),
            ) from error

    @property
    def lost(self) -> int:
        """How many lines could not be written."""
        return self._lost

    def write(self, line: Line) -> None:
        """Append a line; what the disk refuses is lost, which is said once. Does nothing once closed."""
        if self._stream.closed:
            return
        try:
            self._append(line.model_dump_json().encode() + b"\n")
        except OSError as error:
            self._lost += 1
            if self._lost == 1:
                _LOG.warning("[runtime.log] %s: decisions are not recorded: %s", self._path, error.strerror)

    def close(self) -> None:
        """Close the file; a second close does nothing."""
        self._stream.close()

    def __enter__(self) -> DecisionLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        begin = os.fstat(self._stream.fileno()).st_size
        written = self._stream.write(data)
        if written != len(data):
            # The disk took a part: take it back, so that the file stays one of whole lines.
            os.ftruncate(self._stream.fileno(), begin)
            raise OSError(0, f"only {written} of {len(data)} bytes were taken")


def read_decisions(path: Path) -> Iterator[DecisionLine | OverrideLine | ProblemLine]:
    """The lines of a log, in order; a last line that was cut off by a crash is left out.

    Raises:
        EbbtideError: ``runtime.log`` for a file that is not there or a line that is not one of a log.
    """
    try:
        with path.open("rb") as stream:
            for number, data in enumerate(stream, 1):
                if not data.endswith(b"\n"):
                    return
                try:
                    yield _ADAPTER.validate_python(json.loads(data))
                except (ValueError, ValidationError) as error:
                    raise EbbtideError(
                        "runtime.log",
                        "A line is not one of a decision log.",
                        found=str(error).splitlines()[0],
                        place=f"{path}:{number}",
                    ) from error
    except OSError as error:
        raise EbbtideError(
            "runtime.log", "The decision log cannot be read.", found=error.strerror, place=str(path)
        ) from error
