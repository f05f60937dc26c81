"""From a bundle to what its tiers cost and are worth on a simulated phone, and where each number comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ebbtide.bundle.manifest import ConfigurationEntry, Manifest
from ebbtide.errors import EbbtideError
from ebbtide.simulation.assumptions import Assumptions, Processor
from ebbtide.simulation.run import Work


@dataclass(frozen=True, slots=True)
class TierFacts:
    """One tier.

    Attributes:
        configuration: its id.
        accuracy: on `accuracy_on`.
        mean_macs: multiply-accumulates of a mean prediction.
        latency_us: of a median prediction.
        latency_from: ``measured on NAME``, or ``from MACs`` where nothing was measured.
        power_w: of inference at full duty.
        processor: that runs it.
    """

    configuration: str
    accuracy: float
    accuracy_on: Literal["test", "select"]
    mean_macs: int
    latency_us: float
    latency_from: str
    power_w: float
    processor: Processor


def tier_facts(
    manifest: Manifest, assumptions: Assumptions, measured_us: Mapping[str, float] | None = None
) -> tuple[TierFacts, ...]:
    """What the tiers of a bundle cost and are worth.

    Latencies are the manifest's; else those of `measured_us`, by configuration, from the record beside the bundle; and
    if any tier then has none, all are scaled from their MACs, so that no two kinds are compared.

    Raises:
        EbbtideError: ``simulation.power`` if powers are stated for fewer tiers than there are.
    """
    entries = {one.id: one for one in manifest.configurations}
    tiers = [entries[name] for name in manifest.tiers]
    times, origin = _latencies(tiers, assumptions, measured_us or {})
    processors = {one.id: one.processor for one in manifest.programs}
    kinds: list[Processor] = [processors[one.path[0].method.partition("/")[0]] for one in tiers]
    powers = _powers(assumptions, times, kinds)
    facts = []
    for entry, time_us, power_w, kind in zip(tiers, times, powers, kinds, strict=True):
        scored = entry.expected.test or entry.expected.select
        facts.append(
            TierFacts(
                configuration=entry.id,
                accuracy=scored.accuracy,
                accuracy_on="test" if entry.expected.test else "select",
                mean_macs=entry.expected.mean_macs,
                latency_us=time_us,
                latency_from=origin,
                power_w=power_w,
                processor=kind,
            )
        )
    return tuple(facts)


def _latencies(
    tiers: list[ConfigurationEntry], assumptions: Assumptions, measured_us: Mapping[str, float]
) -> tuple[list[float], str]:
    stated = [one.expected.latency_us for one in tiers]
    if all(one is not None for one in stated):
        places = sorted({one.measured_on for one in stated if one is not None})
        return [float(one.p50) for one in stated if one is not None], f"measured on {', '.join(places)}"
    if all(one.id in measured_us for one in tiers):
        return [measured_us[one.id] for one in tiers], "measured where the bundle was built"
    return [one.expected.mean_macs / assumptions.macs_per_us.value for one in tiers], "from MACs"


def _powers(assumptions: Assumptions, times: list[float], kinds: list[Processor]) -> list[float]:
    given = assumptions.tier_w.value
    if given is not None:
        if len(given) < len(times):
            raise EbbtideError(
                "simulation.power",
                f"Powers are stated for {len(given)} tiers, and the bundle has {len(times)}.",
                hint="State one for each tier, the first tier first.",
                place="tier_w",
            )
        return list(given[: len(times)])
    rate = assumptions.rate_per_s.value
    first = times[0] or 1.0
    shares = [time * rate / 1e6 if rate is not None else assumptions.busy.value * time / first for time in times]
    # A processor cannot be busier than all the time.
    return [assumptions.active_w.of(kind) * min(share, 1.0) for share, kind in zip(shares, kinds, strict=True)]


def work_of(tiers: tuple[TierFacts, ...], assumptions: Assumptions) -> Work:
    """What the simulation needs of tiers and assumptions."""
    return Work(
        tier_w=tuple(one.power_w for one in tiers),
        quality=tuple(one.accuracy for one in tiers),
        idle_w=assumptions.idle_w.value,
        rest_w=assumptions.rest_w.value,
        start_charge=assumptions.start_battery_percent.value / 100,
        npu=any(one.processor == "npu" for one in tiers),
    )
