"""Figures: every number the project states, with what it takes to believe it.

A benchmark script opens one file and records each figure as soon as it is measured::

    road = FigureFile("road")
    key = {"recipe": file_digest(recipe), "images": 10_000}
    if not road.has("resnet20_accuracy", key):
        road.record("resnet20_accuracy", value=91.73, unit="%", goal="91.73 +- 0.05", key=key,
                    about="ResNet-20 on CIFAR-10 through ExecuTorch", command="python pipeline/benchmarks/road.py")

Each call writes ``results/road.json`` whole or not at all, so a benchmark killed anywhere goes on with
the figures that are missing. Two scripts may write to one file at once.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ebbtide.errors import EbbtideError, nearest
from ebbtide.steps import digest_json, write_bytes

RESULTS = Path(__file__).resolve().parent / "results"

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_LIMIT = re.compile(rf"(<=|>=|<|>|==?)\s*({_NUMBER})")
_NEAR = re.compile(rf"({_NUMBER})\s*(?:\+-|\+/-|±)\s*({_NUMBER})")


def figure_error(
    message: str,
    *,
    expected: str | None = None,
    found: str | None = None,
    hint: str | None = None,
    place: str | None = None,
) -> EbbtideError:
    return EbbtideError("report.figures", message, expected=expected, found=found, hint=hint, place=place)


@dataclass(frozen=True)
class Goal:
    """A goal as it is written (``< 60``, ``>= 97``, ``== 0``, ``91.73 +- 0.05``) and whether a value meets it."""

    text: str
    relation: Literal["<", "<=", ">", ">=", "==", "+-"]
    target: float
    tolerance: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read a goal. Raises ``report.figures`` for anything else."""
        words = text.strip()
        if found := _LIMIT.fullmatch(words):
            relation: Any = "==" if found[1] == "=" else found[1]
            return cls(words, relation, float(found[2]))
        if found := _NEAR.fullmatch(words):
            return cls(words, "+-", float(found[1]), float(found[2]))
        raise figure_error(
            f"The goal {text!r} cannot be read.",
            expected="one of '< 60', '<= 2', '> 1', '>= 97', '== 0', '91.73 +- 0.05'",
        )

    def is_met_by(self, value: float) -> bool:
        """Whether the value meets the goal; a value on the edge of ``+-`` does."""
        if self.relation == "+-":
            # 91.78 - 91.73 is a little more than 0.05 in binary.
            return abs(value - self.target) <= self.tolerance * (1 + 1e-9) + 1e-12
        return {
            "<": value < self.target,
            "<=": value <= self.target,
            ">": value > self.target,
            ">=": value >= self.target,
            "==": value == self.target,
        }[self.relation]


def _readable(text: str | None) -> str | None:
    if text is not None:
        try:
            Goal.parse(text)
        except EbbtideError as failure:
            raise ValueError(failure.message) from failure
    return text


class Figure(BaseModel):
    """One measured number. `spread` is in the value's unit: half a range, or (lowest, highest)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    about: str = ""
    value: float
    unit: str
    spread: float | tuple[float, float] | None = None
    seeds: tuple[int, ...] = ()
    goal: Annotated[str | None, AfterValidator(_readable)] = None
    anchor: float | str | None = None
    command: str
    versions: dict[str, str]
    machine: dict[str, str | int | float | None]
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    key: str | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        return None if self.goal is None else Goal.parse(self.goal).is_met_by(self.value)

    @property
    def told(self) -> str:
        """One line about it, for whoever watches a benchmark run."""
        judged = "" if self.goal is None else f" (goal {self.goal}, {'met' if self.is_met else 'NOT met'})"
        return f"{self.id}: {self.value} {self.unit}{judged}"


class Figures(BaseModel):
    """One results file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    figures: tuple[Figure, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Figures:
        ids = [figure.id for figure in self.figures]
        if twice := sorted({one for one in ids if ids.count(one) > 1}):
            raise ValueError(f"figures appear twice: {', '.join(twice)}")
        return self

    def get(self, figure_id: str, *, place: str) -> Figure:
        """The figure of that id. Raises ``report.figures`` with the nearest known id."""
        known = [figure.id for figure in self.figures]
        if figure_id not in known:
            near = nearest(figure_id, known)
            raise figure_error(
                f"There is no figure {figure_id!r}.",
                expected=f"one of {', '.join(known) or '(none measured yet)'}",
                hint=f"Did you mean {near!r}?" if near else "Run the benchmark that measures it.",
                place=place,
            )
        return self.figures[known.index(figure_id)]


def read_figures(path: Path) -> Figures:
    """Read and validate one results file. Raises ``report.figures`` with the place of the first problem."""
    try:
        return Figures.model_validate_json(path.read_bytes())
    except OSError as failure:
        raise figure_error(
            f"The results cannot be read: {failure.strerror}.", hint="Run the benchmark first.", place=path.name
        ) from failure
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise figure_error(f"Not valid at {where}: {first['msg']}.", place=path.name) from failure


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    # The folder itself is locked: no lock file is left among the results.
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _facts() -> tuple[dict[str, str], dict[str, Any]]:
    # Late: it brings torch along, which whoever measures has, and whoever only prints has not.
    from ebbtide.profiling import machine_facts

    facts = machine_facts().model_dump(mode="json")
    versions = {name: str(version) for name, version in facts.pop("versions").items()}
    versions["python"] = str(facts.pop("python"))
    return dict(sorted(versions.items())), facts


class FigureFile:
    """The figures of one benchmark, ``results/NAME.json``.

    Args:
        name: plain word; the file's name without ``.json``.
        folder: where the files lie, the project's results by default.
        now: the clock, for tests.
    """

    def __init__(self, name: str, *, folder: Path = RESULTS, now: datetime | None = None) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise figure_error(f"{name!r} is no name for a results file.", expected="lower-case letters, digits, _")
        self.path = folder / f"{name}.json"
        self._now = now

    def figures(self) -> Figures:
        """Everything recorded so far."""
        return read_figures(self.path) if self.path.exists() else Figures(figures=())

    def has(self, figure_id: str, key: Any = None) -> bool:
        """Whether the figure was measured with these inputs (any JSON value; None accepts whatever is there)."""
        wanted = None if key is None else digest_json(key)
        return any(one.id == figure_id and (wanted is None or one.key == wanted) for one in self.figures().figures)

    def record(
        self,
        figure_id: str,
        *,
        value: float,
        unit: str,
        command: str,
        about: str = "",
        spread: float | tuple[float, float] | None = None,
        seeds: Sequence[int] = (),
        goal: str | None = None,
        anchor: float | str | None = None,
        key: Any = None,
        machine: Mapping[str, str | int | float | None] | None = None,
    ) -> Figure:
        """Put a figure into the file, in the place of an older one of that id, and bring it to the disk.

        Args:
            figure_id: lower-case word, unique in the file.
            value: finite; in `unit`.
            unit: ``s``, ``%``, ``us``, ``MiB``, ``x``, ... or an empty text for a count.
            command: what measures it again.
            about: what the figure says, in a reader's words.
            spread: over `seeds` or repeats, in `unit`.
            goal: see `Goal`.
            anchor: the number or work it is held against.
            key: JSON value of the inputs it depends on, for `has`.
            machine: facts that cannot be found out here, such as the accelerator.

        Raises:
            EbbtideError: ``report.figures`` for a value that is not finite or a goal that cannot be read.
        """
        if not math.isfinite(value):
            raise figure_error(
                f"The figure {figure_id!r} is {value}.", expected="a finite number", place=self.path.name
            )
        versions, facts = _facts()
        moment = self._now or datetime.now(UTC)
        try:
            figure = Figure(
                id=figure_id,
                about=about,
                value=value,
                unit=unit,
                spread=spread,
                seeds=tuple(seeds),
                goal=goal,
                anchor=anchor,
                command=command,
                versions=versions,
                machine={**facts, **(machine or {})},
                date=moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                key=None if key is None else digest_json(key),
            )
        except ValidationError as failure:
            first = failure.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise figure_error(
                f"{figure_id!r} is not valid at {where}: {first['msg']}.", place=self.path.name
            ) from failure
        self._merge(figure)
        return figure

    def note(self, figure_id: str, value: float, *, script: str, key: Any, **facts: Any) -> None:
        """Record a figure and say so, unless it is there with the same inputs.

        Args:
            figure_id, value, key: as of `record`.
            script: the command without the figure's id.
            facts: what else `record` takes.
        """
        if not self.has(figure_id, key):
            found = self.record(figure_id, value=value, command=f"{script} {figure_id}", key=key, **facts)
            print(found.told, flush=True)

    def _merge(self, figure: Figure) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(self.path.parent):
            before = list(self.figures().figures)
            ids = [one.id for one in before]
            if figure.id in ids:
                before[ids.index(figure.id)] = figure
            else:
                before.append(figure)
            content = {"figures": [one.model_dump(mode="json") for one in before]}
            unfinished = self.path.with_name(f".{self.path.name}.new")
            write_bytes(unfinished, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
            unfinished.replace(self.path)
