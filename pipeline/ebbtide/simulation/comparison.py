"""Policies side by side on one simulated phone, as a record that tables, pages and benchmarks read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from ebbtide import __version__
from ebbtide.bundle.manifest import Manifest, PolicyEntry
from ebbtide.errors import EbbtideError, nearest
from ebbtide.simulation.assumptions import Assumptions
from ebbtide.simulation.heat import Floats
from ebbtide.simulation.phones import Phone, Stated, System, load_system
from ebbtide.simulation.policies import Fixed, PolicyKind
from ebbtide.simulation.product import product
from ebbtide.simulation.rivals import rivals
from ebbtide.simulation.run import Outcome, simulate
from ebbtide.simulation.scenario import Scenario
from ebbtide.simulation.tiers import TierFacts, work_of
from ebbtide.steps import Progress, silent

LABEL: Final = "simulated, not measured on a phone"
"""Stands on every page, table and figure that comes from here."""

OURS: Final = "ours"
SHIFTS_MH: Final = (-80, -40, 40, 80)
"""By how much the entries of headroom are moved to show what they trade."""
POINTS: Final = 360
"""At most so many points of a line over time."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Spread(_Record):
    """A mean over runs, and the least and the greatest of them."""

    mean: float
    least: float
    greatest: float


class PolicyRow(_Record):
    """What came of one policy, over all runs.

    Attributes:
        changes_per_h: changes of tier.
        light, moderate: share of the time at or above the system's first and second level.
        throttled: share of the time in which the system held inference back.
        quality: mean accuracy of the predictions asked for.
        energy_wh: from the battery.
        tier_shares: of the time.
    """

    name: str
    title: str
    changes_per_h: Spread
    light: Spread
    moderate: Spread
    throttled: Spread
    quality: Spread
    energy_wh: Spread
    tier_shares: tuple[float, ...]


class Line(_Record):
    """One run of one policy over time; `quality` is the mean accuracy of the tiers so far."""

    name: str
    skin_c: tuple[float, ...]
    die_c: tuple[float, ...]
    headroom: tuple[float, ...]
    tier: tuple[int, ...]
    battery_percent: tuple[float, ...]
    quality: tuple[float, ...]


class Course(_Record):
    """One run of every policy, thinned for a plot; `t_min` are minutes."""

    air_c: float
    seed: int
    t_min: tuple[float, ...]
    lines: tuple[Line, ...]


class Shifted(_Record):
    """The product's policy with its entries of headroom moved, for the frontier."""

    shift_mh: int
    throttled: float
    quality: float
    changes_per_h: float


class TierRow(_Record):
    """One tier; see `ebbtide.simulation.tiers.TierFacts`."""

    configuration: str
    accuracy: float
    accuracy_on: Literal["test", "select"]
    mean_macs: int
    latency_us: float
    latency_from: str
    power_w: float
    processor: str


class Assumption(_Record):
    """A number that nobody measured on this phone, and where it comes from."""

    name: str
    value: str
    source: str


class Comparison(_Record):
    """Everything that a simulation found and took for granted."""

    label: str = LABEL
    generator: str
    bundle: str
    sequence: int
    device: str
    phone: str
    phone_title: str
    system: str
    thresholds: tuple[tuple[str, float], ...]
    severe_c: float | None
    hours: float
    air_c: tuple[float, float]
    seeds: tuple[int, ...]
    tiers: tuple[TierRow, ...]
    policies: tuple[PolicyRow, ...]
    course: Course
    frontier: tuple[Shifted, ...]
    assumptions: tuple[Assumption, ...]


def policy_kinds(
    tiers: int,
    entry: PolicyEntry,
    names: Sequence[str] = (),
    *,
    light_mh: int | None = None,
    moderate_mh: int | None = None,
) -> tuple[PolicyKind, ...]:
    """The policies to compare, in the order of the table; all of them, or those with these names.

    Args:
        tiers: how many the bundle has.
        entry: the parameters of the product's policy.
        names: of ``largest``, ``smallest``, ``games``, ``unreal``, ``unity``, ``ours``; none for all.
        light_mh, moderate_mh: what the phone states of its own thresholds, if it does.

    Raises:
        EbbtideError: ``simulation.policy`` with the nearest name.
    """
    known = (
        PolicyKind("largest", "always the first tier", 3600, None, False, lambda: Fixed(0)),
        PolicyKind("smallest", "always the last tier", 3600, None, False, lambda: Fixed(tiers - 1)),
        *rivals(tiers),
        product(entry, tiers, name=OURS, light_mh=light_mh, moderate_mh=moderate_mh),
    )
    by_name = {kind.name: kind for kind in known}
    for name in names:
        if name not in by_name:
            close = nearest(name, list(by_name))
            raise EbbtideError(
                "simulation.policy",
                f"There is no policy {name!a} to compare.",
                expected=", ".join(by_name),
                hint=f"Did you mean {close!r}?" if close else "Leave --policy out to compare all.",
                place="--policy",
            )
    return tuple(kind for kind in known if not names or kind.name in names)


def compare(
    manifest: Manifest,
    *,
    phone: Phone,
    assumptions: Assumptions,
    tiers: Sequence[TierFacts],
    kinds: Sequence[PolicyKind],
    scenario: Scenario,
    progress: Progress = silent,
) -> Comparison:
    """Run the policies for a bundle on a phone, and the product's own with moved entries beside them.

    Raises:
        EbbtideError: ``simulation.not_finite``.
    """
    shown, system = len(kinds), load_system(phone.system.value)
    moved = shifted_kinds(len(tiers), manifest.policy) if any(kind.name == OURS for kind in kinds) else ()
    outcome = simulate(phone, scenario, work_of(tuple(tiers), assumptions), [*kinds, *moved], progress=progress)
    rows = policy_rows(outcome)
    severe_c = None if math.isnan(system.severe_c) else system.severe_c
    run = len(scenario.seeds) // 2
    return Comparison(
        generator=f"ebbtide {__version__}",
        bundle=manifest.name,
        sequence=manifest.sequence,
        device=manifest.device.profile,
        phone=phone.id,
        phone_title=phone.title,
        system=phone.system.value,
        thresholds=threshold_names(system),
        severe_c=severe_c,
        hours=round(scenario.seconds / 3600, 4),
        air_c=(float(scenario.air_c[0]), float(scenario.air_c[-1])),
        seeds=scenario.seeds,
        tiers=tuple(TierRow(**asdict(one)) for one in tiers),
        policies=rows[:shown],
        course=course_of(
            outcome,
            shown=shown,
            run=run,
            air_c=round(float(scenario.air_c[run]), 3),
            seed=scenario.seeds[run],
            quality=[one.accuracy for one in tiers],
            severe_c=severe_c,
        ),
        frontier=frontier(rows),
        assumptions=tuple(_assumptions(phone, system, assumptions)),
    )


def _assumptions(phone: Phone, system: System, assumptions: Assumptions) -> Iterator[Assumption]:
    """Everything that was taken for granted: use and power, the body, the system."""
    for name, value, source in assumptions.rows():
        yield Assumption(name=name, value=value, source=source)
    limits = ", ".join("–" if one is None else f"{one:g}" for one in system.thresholds_c.value)
    back = ", ".join(f"{one:g}" for one in system.hysteresis_c.value)
    facts: tuple[tuple[str, str, Stated[Any]], ...] = (
        ("phone.surface_cm2", f"{phone.surface_cm2.value:g}", phone.surface_cm2),
        ("phone.mass_g", f"{phone.mass_g.value:g}", phone.mass_g),
        ("phone.battery_mah", f"{phone.battery_mah.value:g}", phone.battery_mah),
        ("phone.system", phone.system.value, phone.system),
        ("system.thresholds_c", limits, system.thresholds_c),
        ("system.hysteresis_c", back, system.hysteresis_c),
        ("system.set_c", f"{system.power_control.set_c.value:g}", system.power_control.set_c),
        ("system.sustained_w", f"{system.power_control.sustained_w.value:g}", system.power_control.sustained_w),
    )
    for name, value, fact in facts:
        yield Assumption(name=name, value=value, source=fact.source + ("" if fact.verified else " (not verified)"))
    heat = phone.heat
    for name, value, source in (
        ("heat.resistance_k_w", f"{heat.resistance_k_w:.2f}", "1 / (h A) with h = 11.5 W/m²K, after Therminator 2"),
        ("heat.capacity_j_k", f"{heat.capacity_j_k:.0f}", "968 J/kgK times the mass, after Therminator 2"),
        ("speed under a cap", "(cap / power)^0.5", "assumption: between the first and the third power of the clock"),
    ):
        yield Assumption(name=name, value=value, source=source)


def shifted_kinds(tiers: int, entry: PolicyEntry) -> tuple[PolicyKind, ...]:
    """The product's policy with its entries of headroom moved by each of `SHIFTS_MH`."""
    kinds = []
    for shift in SHIFTS_MH:
        enter = tuple(min(max(one + shift, 0), 10_000) for one in entry.enter_mh)
        kinds.append(product(entry.model_copy(update={"enter_mh": enter}), tiers, name=f"shift{shift}"))
    return tuple(kinds)


def policy_rows(outcome: Outcome) -> tuple[PolicyRow, ...]:
    """The table of a simulation."""
    hours, seconds = outcome.seconds / 3600, outcome.seconds
    rows = []
    for index, kind in enumerate(outcome.policies):
        shares = outcome.tier_s[index].sum(axis=0) / outcome.tier_s[index].sum()
        rows.append(
            PolicyRow(
                name=kind.name,
                title=kind.title,
                changes_per_h=_spread(outcome.changes[index] / hours),
                light=_spread(outcome.light_s[index] / seconds),
                moderate=_spread(outcome.moderate_s[index] / seconds),
                throttled=_spread(outcome.throttled_s[index] / seconds),
                quality=_spread(outcome.quality[index]),
                energy_wh=_spread(outcome.energy_j[index] / 3600),
                tier_shares=tuple(round(float(one), 6) for one in shares),
            )
        )
    return tuple(rows)


def _spread(values: Floats) -> Spread:
    return Spread(
        mean=round(float(values.mean()), 6), least=round(float(values.min()), 6), greatest=round(float(values.max()), 6)
    )


def frontier(rows: Sequence[PolicyRow]) -> tuple[Shifted, ...]:
    """The product's policy and its shifted twins, by their entries; empty where it was not compared."""
    shifts = {f"shift{shift}": shift for shift in SHIFTS_MH} | {OURS: 0}
    found = [
        Shifted(
            shift_mh=shifts[row.name],
            throttled=row.throttled.mean,
            quality=row.quality.mean,
            changes_per_h=row.changes_per_h.mean,
        )
        for row in rows
        if row.name in shifts
    ]
    return tuple(sorted(found, key=lambda one: one.shift_mh)) if any(one.shift_mh == 0 for one in found) else ()


def course_of(
    outcome: Outcome, *, shown: int, run: int, air_c: float, seed: int, quality: Sequence[float], severe_c: float | None
) -> Course:
    """One run over time, of the first `shown` policies.

    Args:
        outcome: of the simulation.
        shown: how many policies.
        run: which run.
        air_c, seed: of that run.
        quality: accuracy of each tier.
        severe_c: pins headroom; None where there is none.
    """
    traces, runs = outcome.traces, outcome.changes.shape[1]
    step, accuracy = max(1, -(-len(traces.t_s) // POINTS)), np.array(quality)
    lines = []
    for index, kind in enumerate(outcome.policies[:shown]):
        lane = index * runs + run
        skin, tier = traces.skin_c[::step, lane], traces.tier[::step, lane]
        so_far = np.cumsum(accuracy[traces.tier[:, lane]]) / np.arange(1, len(traces.t_s) + 1)
        heads: Any = () if severe_c is None else np.maximum((skin - severe_c + 30) / 30, 0)
        lines.append(
            Line(
                name=kind.name,
                skin_c=_rounded(skin),
                die_c=_rounded(traces.die_c[::step, lane]),
                headroom=_rounded(heads, 4),
                tier=tuple(int(one) for one in tier),
                battery_percent=_rounded(100 * traces.charge[::step, lane]),
                quality=_rounded(so_far[::step], 6),
            )
        )
    return Course(air_c=air_c, seed=seed, t_min=_rounded(traces.t_s[::step] / 60, 3), lines=tuple(lines))


def _rounded(values: Any, digits: int = 2) -> tuple[float, ...]:
    return tuple(round(float(one), digits) for one in values)


def threshold_names(system: System) -> tuple[tuple[str, float], ...]:
    """The thresholds that the vendor defines, by the system's own names for them."""
    names = (
        ("LIGHT", "MODERATE", "SEVERE", "CRITICAL", "EMERGENCY", "SHUTDOWN")
        if system.platform == "android"
        else ("fair", "serious", "critical")
    )
    return tuple(
        (name, value) for name, value in zip(names, system.thresholds_c.value, strict=True) if value is not None
    )
