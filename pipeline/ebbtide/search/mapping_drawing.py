"""A mapping as data, for a report to draw: segments on processors, transfers between them, exits."""

from __future__ import annotations

from typing import Any

from ebbtide.search.mapping import Enumeration, Placement, memory_bytes, transfers, worst_latency_us
from ebbtide.search.mapping_problem import MappingProblem
from ebbtide.search.mapping_score import MappedConfiguration

MOST_REJECTS = 20


def mapping_drawing(
    problem: MappingProblem, placement: Placement, configuration: MappedConfiguration | None = None
) -> dict[str, Any]:
    """A mapping as JSON values.

    ``segments`` in order, each with its ``processor``, ``kind``, ``origin`` of its times (``measured`` or
    ``throughput``), ``stages`` (names; ``head`` last), ``macs``, ``us``, ``memory_bytes`` with ``memory_limit_bytes``
    (null: not known, not checked) and ``exits`` (``position``, ``type``, ``us``, and with a configuration
    ``threshold`` and ``share`` that leaves); ``transfers`` (``from``, ``to``, ``before`` which part, ``bytes``,
    ``us``); ``worst_us``; and with a configuration ``mean_us``, ``value`` and ``head_share`` on *select*.

    Args:
        problem: model, exits and device.
        placement: the mapping.
        configuration: its thresholds and score, if there are any.
    """
    names = [one.name for one in problem.processing.processors]
    parts = problem.blocks.parts
    drawn: dict[str, Any] = {
        "segments": _segments(problem, placement, configuration),
        "transfers": [
            {
                "from": names[start],
                "to": names[end],
                "before": parts[part].name,
                "bytes": problem.blocks.carried_bytes(part),
                "us": us,
            }
            for part, start, end, us in transfers(problem, placement)
        ],
        "worst_us": worst_latency_us(problem, placement),
    }
    if configuration is not None:
        score = configuration.candidate.score
        drawn |= {"mean_us": score.mean_cost, "value": score.value, "head_share": score.shares[-1]}
    return drawn


def _segments(
    problem: MappingProblem, placement: Placement, configuration: MappedConfiguration | None
) -> list[dict[str, Any]]:
    found = []
    for segment, needed in zip(placement.segments, memory_bytes(problem, placement), strict=True):
        processor, times = problem.processing.processors[segment.processor], problem.times[segment.processor]
        parts = problem.blocks.parts[segment.first : segment.last + 1]
        exits: list[dict[str, Any]] = []
        for index, key in enumerate(placement.exits):
            if not segment.first <= key.position <= segment.last:
                continue
            drawn = {"position": key.position, "type": key.type, "us": times.exits[key]}
            if configuration is not None:
                candidate = configuration.candidate
                drawn |= {"threshold": candidate.thresholds[index][1], "share": candidate.score.shares[index]}
            exits.append(drawn)
        found.append(
            {
                "processor": processor.name,
                "kind": processor.kind,
                "origin": times.origin,
                "stages": [part.name for part in parts],
                "macs": sum(part.macs for part in parts),
                "us": sum(times.parts[segment.first : segment.last + 1]),
                "memory_bytes": needed,
                "memory_limit_bytes": processor.memory_bytes.value if processor.memory_bytes else None,
                "exits": exits,
            }
        )
    return found


def rejects_drawing(problem: MappingProblem, enumeration: Enumeration) -> dict[str, Any]:
    """Why other mappings are not possible, as JSON values: counts by reason, what stops all (null where
    one is possible), and the most frequent rejects.

    Args:
        problem: model, exits and device.
        enumeration: from `enumerate_placements`.
    """
    names = [one.name for one in problem.processing.processors]
    most = sorted(enumeration.rejects, key=lambda one: -one.times)[:MOST_REJECTS]
    return {
        "feasible": len(enumeration.feasible),
        "reasons": dict(enumeration.reasons()),
        "binding": enumeration.binding(),
        "rejects": [
            {
                "reason": one.reason,
                "processor": one.processor,
                "block": one.block,
                "before": [[names[s.processor], s.first, s.last] for s in one.segments],
                "found": one.found,
                "limit": one.limit,
                "detail": one.detail,
                "times": one.times,
            }
            for one in most
        ],
    }
