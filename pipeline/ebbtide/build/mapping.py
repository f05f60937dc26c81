"""Where the parts of every configuration run on a device with several processors, or with a server near it.

Exits and thresholds are those of the table; what is chosen here is the processor of every part between two boundaries
that the program has. A sample's answer is the same wherever its parts run, so what is promised of a configuration
stays, and of all mappings that keep the limits the one with the least expected time is the best. That time is exact:
where every sample of select leaves is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebbtide.build.choice import Row, Table
from ebbtide.build.programs import Programs, WidthProgram

if TYPE_CHECKING:
    from ebbtide.device import Profile
    from ebbtide.exits import ExitKey, Records
    from ebbtide.search import MappedConfiguration, MappingProblem, Placement


@dataclass(frozen=True)
class DeviceMapping:
    """The mappings of a table to one device.

    Attributes:
        profile: the device's name.
        rows: by configuration id: ``drawing`` (`ebbtide.search.mapping_drawing`), ``first_us`` with everything on the
            first processor (None if that is not possible), and ``server_from``, the first method that a server runs
            (None: none does). Without a drawing no mapping keeps the limits, and ``binding`` says why.
        why_not: by width, why other mappings are not possible (`ebbtide.search.rejects_drawing`).
    """

    profile: str
    rows: dict[str, dict[str, Any]]
    why_not: dict[str, dict[str, Any]]

    def server_from(self, row: Row) -> str | None:
        """The first method of a configuration that a server runs."""
        found: str | None = self.rows.get(row.id, {}).get("server_from")
        return found


def map_devices(programs: Programs, table: Table, profiles: Iterable[Profile]) -> dict[str, DeviceMapping]:
    """The mappings for every profile that names its processors, by profile.

    Raises:
        EbbtideError: ``search.mapping_times`` if nothing says how fast a processor is.
    """
    return {one.id: _map_device(programs, table, one) for one in profiles if one.processing is not None}


def _map_device(programs: Programs, table: Table, profile: Profile) -> DeviceMapping:
    project = programs.project
    assert profile.processing is not None
    inputs = {
        "processing": profile.processing.to_json(),
        "table": table.content,
        "widths": [[one.program.sha256, project.store.digest(one.records_file)] for one in programs.widths],
        **project.inputs("name", "metric", "exits.constraint"),
    }

    def compute() -> dict[str, Any]:
        rows: dict[str, Any] = {}
        why_not: dict[str, Any] = {}
        for one in programs.widths:
            own = [row for row in table.rows if row.width == one.width]
            found = _map_width(one, own, profile, classes=programs.universal.classes)
            rows |= found["rows"]
            why_not[one.width] = found["why_not"]
        return {"rows": rows, "why_not": why_not}

    content = project.json_step(
        "mapping", inputs, compute, code=("ebbtide.search", "ebbtide.exits", "ebbtide.device", "ebbtide.model")
    )
    found = DeviceMapping(profile.id, content["rows"], content["why_not"])
    for row in table.rows:
        binding = found.rows[row.id].get("binding")
        if binding is not None:
            project.notice("warning", f"{profile.id}, {row.id}", f"it runs where it lies, unmapped: {binding}")
    return found


def _problem(one: WidthProgram, profile: Profile) -> MappingProblem:
    """The width's parts between the boundaries of its program, the exits there, and the device."""
    from ebbtide.exits import ExitKey
    from ebbtide.search import block_graph, exit_block, mapping_problem

    candidates, backbone = one.candidates, one.candidates.backbone
    assert profile.processing is not None
    # The program's head is the rest of the stages and the head; they are told apart only in what is drawn.
    blocks = block_graph(
        backbone.graph, [*(backbone.cuts[position] for position, _ in candidates.chosen), backbone.cuts[-1]]
    )
    exits = {}
    for index, key in enumerate(candidates.chosen):
        named = ExitKey(index, key[1])
        if index in blocks.candidates:
            exits[named] = exit_block(named, candidates.load_exit(key), backbone.places[key[0]].shape)
    return mapping_problem(blocks, exits, profile.processing, model=backbone.project.recipe.name)


def _map_width(one: WidthProgram, rows: Iterable[Row], profile: Profile, *, classes: int) -> dict[str, Any]:
    project = one.candidates.backbone.project
    constraint = project.recipe.exits.constraint if project.recipe.exits else None
    return map_rows(
        _problem(one, profile),
        one.records().first(one.candidates.selected),
        rows,
        limit_us=constraint.max_worst_latency_us if constraint else None,
        classes=classes,
    )


def map_rows(
    problem: MappingProblem, records: Records, rows: Iterable[Row], *, limit_us: float | None, classes: int
) -> dict[str, Any]:
    """The mapping of every row that has the least expected time, as JSON values.

    Args:
        problem: the parts of the rows' program and its exits, by position in it, and the device.
        records: the program's of select.
        rows: of its width.
        limit_us: most microseconds of a sample that passes every exit; None for no limit.
        classes: number of classes.

    Returns:
        ``rows`` and ``why_not`` as `DeviceMapping` has them.
    """
    from ebbtide.search import enumerate_placements, mapping_drawing, rejects_drawing

    enumeration = enumerate_placements(problem, limit_us=limit_us, most_exits=0)
    mapped: dict[str, Any] = {}
    for row in rows:
        scored = _scored(problem, enumeration.feasible, records, row, limit_us=limit_us, classes=classes)
        if not scored:
            reason = enumeration.binding() or "with its exits no mapping keeps the limits"
            mapped[row.id] = {"drawing": None, "first_us": None, "server_from": None, "binding": reason}
            continue
        best = min(scored, key=lambda found: (found.objective, len(found.placement.segments)))
        first = [found.objective for found in scored if _on_first(found.placement)]
        mapped[row.id] = {
            "drawing": mapping_drawing(problem, best.placement, best),
            "first_us": first[0] if first else None,
            "server_from": _server_from(problem, best.placement),
        }
    most = sorted(enumeration.rejects, key=lambda one: -one.times)
    sentences = list(dict.fromkeys(one.sentence() for one in most))
    return {"rows": mapped, "why_not": {**rejects_drawing(problem, enumeration), "sentences": sentences}}


def _scored(
    problem: MappingProblem,
    feasible: Iterable[Placement],
    records: Records,
    row: Row,
    *,
    limit_us: float | None,
    classes: int,
) -> list[MappedConfiguration]:
    """Every mapping of a configuration with its exact expected time as objective."""
    from ebbtide.search import MappedConfiguration, Placement, mapped_costs, scored_candidate
    from ebbtide.search.mapping import keeps_limits

    on: tuple[ExitKey, ...] = tuple(key for key in records.keys if key.position in row.thresholds)
    if any(key not in problem.exits for key in on):
        return []
    own = records.only(on)
    found = []
    for segments in feasible:
        placement = Placement(segments.segments, on)
        if not _at_boundaries(problem, placement) or not keeps_limits(problem, placement, limit_us=limit_us):
            continue
        costs = mapped_costs(problem, placement)
        candidate = scored_candidate(own, costs, row.row(own.positions), metric="accuracy", classes=classes)
        found.append(MappedConfiguration(placement, candidate, candidate.score.mean_cost))
    return found


def _at_boundaries(problem: MappingProblem, placement: Placement) -> bool:
    """Whether parts change processor only where the program has a boundary: its last stages and the head are one."""
    head = len(problem.blocks.stages)
    return placement.processor_of(head) == placement.processor_of(head - 1)


def _on_first(placement: Placement) -> bool:
    return all(segment.processor == 0 for segment in placement.segments)


def _server_from(problem: MappingProblem, placement: Placement) -> str | None:
    """The first method on a server: a stage of the program, or the head, which holds all that follows the last exit."""
    last = placement.segments[-1]
    if problem.processing.processors[last.processor].kind != "server":
        return None
    return f"stage{last.first}" if last.first < len(problem.blocks.stages) - 1 else "head"
