"""Times on this machine, kept as a record: with the same record, the same bundle comes out byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.build.choice import Table
from ebbtide.build.draft import REFERENCE, rehearse
from ebbtide.build.programs import Program, Programs, open_engine
from ebbtide.build.project import LOWERING, read_json, same_json
from ebbtide.errors import EbbtideError

if TYPE_CHECKING:
    from ebbtide.device import Profile

SAMPLES = 64
ROUNDS = 7


@dataclass(frozen=True)
class Measurements:
    """The measurement record of a build.

    Attributes:
        content: the record as JSON values.
        source: "measured here" or the file it was read from.
    """

    content: dict[str, Any]
    source: str

    @property
    def date(self) -> datetime:
        """When it was measured; a bundle's creation time unless SOURCE_DATE_EPOCH is set."""
        return datetime.fromisoformat(self.content["date"]).astimezone(UTC)

    def latency(self, configuration: str) -> tuple[float, float, float] | None:
        """p50, p90 and the spread of p50 over rounds, in microseconds, of whole predictions on real samples."""
        for entry in self.content["bench"]["configurations"]:
            if entry["configuration"] == configuration:
                total = entry["total"]
                return total["p50_us"], total["p90_us"], total["iqr_us"]
        return None

    def method_latency(self, sha256: str, method: str) -> tuple[float, float] | None:
        """p50 and p90 of one method, in microseconds."""
        for entry in self.content["methods"]["measurements"]:
            if entry["program_sha256"] == sha256 and entry["method"] == method:
                return entry["timing"]["p50_us"], entry["timing"]["p90_us"]
        return None


def measure_host(
    programs: Programs,
    table: Table,
    *,
    host: Profile,
    layers: dict[str, Any] | None,
    times: dict[str, dict[str, float]] | None,
    given: Path | None,
) -> Measurements:
    """Time methods, configurations and the one-method reference of all widths in one interleaved run; or take a record.

    Args:
        programs: of all widths.
        table: configurations and tiers.
        host: this machine's profile.
        layers: times of single layers that widths were searched by; they belong to the record.
        times: those of `time_methods` that the table was limited by; they belong to it too.
        given: a record to take instead.

    Raises:
        EbbtideError: ``profiling.record`` if the given record is none, or is of other programs or configurations.
    """
    project = programs.project
    wanted = {
        "programs": sorted({program.sha256 for program in programs.all}),
        "table": {"rows": [[r.id, r.width, r.thresholds] for r in table.rows], "tiers": list(table.tiers)},
    }
    wanted = same_json(wanted)
    if given is not None:
        return _given(given, wanted)
    inputs = {**wanted, "machine": machine_identity(), "samples": SAMPLES, "rounds": ROUNDS}
    content = project.json_step(
        "measurements",
        inputs,
        lambda: {"format": 1, "of": wanted, **_measure(programs, table, host)},
        code=("ebbtide.profiling", "ebbtide.runtime", "ebbtide.engine"),
        libraries=LOWERING,
    )
    searched = {name: found for name, found in (("layers", layers), ("times", times)) if found is not None}
    return Measurements({**content, **searched}, "measured here")


def layers_given(file: Path) -> dict[str, Any] | None:
    """The times of single layers in a measurement record, if it has any.

    Raises:
        EbbtideError: ``profiling.record`` if it cannot be read; whether it fits the build is told by `measure_host`.
    """
    return _part_given(file, "layers")


def time_methods(programs: Programs, given: Path | None) -> dict[str, dict[str, float]] | None:
    """Median microseconds of every method by program digest, where the recipe limits a latency; None where not.

    Args:
        programs: of all widths.
        given: a measurement record to take them from.

    Raises:
        EbbtideError: ``profiling.record`` if the given record has no times of these programs.
    """
    project = programs.project
    constraint = project.recipe.exits.constraint if project.recipe.exits else None
    if constraint is None or (constraint.max_latency_us is None and constraint.max_worst_latency_us is None):
        return None
    wanted = [one.program.sha256 for one in programs.widths]
    if given is not None:
        known = _part_given(given, "times") or {}
        if not set(wanted) <= set(known):
            raise _unfit(given, "no times of these programs' methods")
        return {sha256: known[sha256] for sha256 in wanted}

    def compute() -> dict[str, dict[str, float]]:
        from ebbtide.profiling import Target, measure

        engine = open_engine()
        loaded = {one.program.sha256: engine.load(one.program.file) for one in programs.widths}
        found = measure(
            [Target(program, sha256) for sha256, program in loaded.items()],
            sample=programs.universal.dataset.select.tensor([0]).numpy(),
            engine=engine.name,
            progress=project.progress,
        )
        for program in loaded.values():
            program.close()
        times: dict[str, dict[str, float]] = {sha256: {} for sha256 in wanted}
        for one in found.measurements:
            times[one.program_sha256][one.method] = one.timing.p50_us
        return times

    inputs = {"programs": wanted, "machine": machine_identity()}
    value: dict[str, dict[str, float]] = project.json_step(
        "method-times", inputs, compute, code=("ebbtide.profiling", "ebbtide.engine"), libraries=LOWERING
    )
    return value


def _part_given(file: Path, part: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] | None = read_json(file).get(part)
        return found
    except (OSError, ValueError, AttributeError) as error:
        raise _unfit(file, f"{type(error).__name__}: {error}") from error


def _given(file: Path, wanted: dict[str, Any]) -> Measurements:
    try:
        content = read_json(file)
        if content["of"] == wanted:
            return Measurements(content, str(file))
        found = "a record of other programs or configurations"
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
    raise _unfit(file, found)


def _unfit(file: Path, found: str) -> EbbtideError:
    return EbbtideError(
        "profiling.record",
        "The measurement record does not fit this build",
        found=found,
        hint="Give the measurements.json that a build of the same recipe wrote, or leave --measurements out.",
        place=str(file),
    )


def machine_identity() -> dict[str, Any]:
    """What makes times comparable: processor and cores."""
    from ebbtide.profiling import machine_facts

    facts = machine_facts()
    return {"cpu": facts.cpu_model, "cores": facts.cores_usable, "architecture": facts.architecture}


def _measure(programs: Programs, table: Table, host: Profile) -> dict[str, Any]:
    from ebbtide.profiling import Plan, Target, compare, measure, method_call, path_call
    from ebbtide.runtime import Session, bench

    project, select = programs.project, programs.universal.dataset.select
    engine = open_engine()
    rehearsal = rehearse(programs, table, profile=host)
    loaded = {program.id: engine.load(program.file) for program in programs.all}
    sample = select.tensor([0]).numpy()
    methods = measure(
        [Target(loaded[p.id], p.sha256) for p in programs.all],
        sample=sample,
        engine=engine.name,
        progress=project.progress,
    )
    widest = programs.widest.program
    whole = [(loaded[widest.id], m) for m in _without_exits(widest)]
    reference = method_call(loaded[programs.dense.id], programs.dense.methods[0]["name"], sample)
    boundary = compare(path_call(whole, sample), reference, plan=Plan(10, 30, 20, 2), progress=project.progress)
    for program in loaded.values():
        program.close()
    session = Session(rehearsal, engine)
    try:
        plain = [row.id for row in table.rows if not row.thresholds]
        chosen = list(dict.fromkeys([*table.tiers, *plain, REFERENCE]))
        images = [select.pixels[i] for i in range(min(SAMPLES, len(select)))]
        timed = bench(session, images, configurations=chosen, rounds=ROUNDS, progress=project.progress)
    finally:
        session.close()
    found: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "methods": methods.model_dump(mode="json"),
        "boundary": boundary.model_dump(mode="json"),
        "bench": timed.model_dump(mode="json"),
    }
    return found


def _without_exits(program: Program) -> list[str]:
    return [method["name"] for method in program.methods if method["kind"] != "exit"]
