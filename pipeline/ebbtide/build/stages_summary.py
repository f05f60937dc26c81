"""Times and costs of methods as the report shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.build.measuring import Measurements
from ebbtide.build.programs import Program

if TYPE_CHECKING:
    from ebbtide.report import facts


def latency_of(times: tuple[float, ...] | None) -> facts.Latency | None:
    """p50, p90 and, where there is one, their spread, in microseconds."""
    from ebbtide.report import facts

    if times is None:
        return None
    return facts.Latency(p50_us=times[0], p90_us=times[1], spread_us=times[2] if len(times) > 2 else None)


def stages_of(program: Program, measurements: Measurements) -> tuple[facts.Stage, ...]:
    """What every method of a program costs."""
    return tuple(_stage(program, method, measurements) for method in program.methods)


def _stage(program: Program, method: dict[str, Any], measurements: Measurements) -> facts.Stage:
    from ebbtide.report import facts

    return facts.Stage(
        name=method["name"],
        kind=method["kind"],
        macs=method["macs"],
        parameters=method["parameters"],
        weight_bytes=method["weight_bytes"],
        output_shape=tuple(method["outputs"][-1]["shape"][1:]),
        latency=latency_of(measurements.method_latency(program.sha256, method["name"])),
        delegated_share=method["delegated_share"],
    )
