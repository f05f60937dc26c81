"""How results look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.api import Checked, Chosen, Inspected, Prediction, Simulated
    from ebbtide.build.road import BuildResult
    from ebbtide.bundle import BundleDiff
    from ebbtide.profiling import Results
    from ebbtide.runtime import BenchReport

_PIPED_WIDTH = 250


def _console() -> Console:
    """As wide as the terminal; what goes to a file or another program is not broken into lines."""
    found = Console()
    return found if found.is_terminal else Console(width=_PIPED_WIDTH)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        # Folded, not cut: names in tables are there to be copied into a recipe.
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _row(table: Table, *cells: object) -> None:
    # Text, because rich would read brackets in a user's names as markup.
    table.add_row(*(Text(str(cell)) for cell in cells))


def _number(value: object) -> object:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value


def built(result: BuildResult, tried: Sequence[Prediction]) -> None:
    """What the finished bundle said of a few samples, the one table of a build, then where everything lies."""
    from ebbtide.report import summary_table

    if tried:
        predicted(tried)
    console = _console()
    console.print(summary_table(result.record))
    for name, folder in result.bundles.items():
        print(f"bundle  {name}: {folder}")
    print(f"report  {result.report.html}")


def checked(found: Checked) -> None:
    """What a check found."""
    splits = ", ".join(f"{found.splits[name]} {name}" for name in ("train", "select", "test"))
    stages = ", ".join(found.stages)
    accuracy = "trained by the build" if found.accuracy is None else f"{100 * found.accuracy:.2f} % on select"
    if found.outside is not None:
        splits += "; of other classes " + ", ".join(f"{count} {name}" for name, count in found.outside.items())
    for label, value in (
        ("recipe", found.name),
        ("classes", f"{len(found.classes)} of {found.universal_classes}"),
        ("samples", splits),
        ("input", " x ".join(map(str, found.input_shape))),
        ("model", f"{found.macs:,} MACs, {found.parameters:,} parameters"),
        ("stages end at", stages),
        (found.metric.replace("_", " "), accuracy),
    ):
        print(f"{label:<18}{value}")


def inspected(found: Inspected) -> None:
    """Stages and costs of a model, or its coupling groups and what stays whole."""
    if found.rows:
        columns = list(found.rows[0])
        table = _table(*columns)
        for row in found.rows:
            _row(table, *map(_number, row.values()))
        _console().print(table)
    for one in found.facts.get("whole", ()):
        print(f"stays whole: {one['subject']} ({one['channels']} channels): {one['reason']}")
    if found.svg:
        print(f"Drawn in {found.svg}")


def predicted(found: Sequence[Prediction], *, adaptive: bool = False) -> None:
    """One line an input; of an adaptive session with the tier and why it was in force, and the time if recorded."""
    best = max((one.top for one in found), default=1)
    recorded = any(one.t_ms is not None for one in found)
    why = (*(("at",) if recorded else ()), "tier", "reason") if adaptive else ()
    tells = any(one.result.outside is not None for one in found)
    table = _table(
        "input", *why, *(("outside",) if tells else ()), *(f"top {i + 1}" for i in range(best)), "left at", "time"
    )
    for one in found:
        result = one.result
        ranked = [f"{r.name} {100 * r.probability:.1f} %" for r in result.top(best)]
        ranked += [""] * (best - len(ranked))
        left_at = result.left_at.rpartition("/")[2]
        if result.served is not None and result.served.answered:
            left_at += " on the server"
        if result.scene is not None:
            left_at += f", scene {result.scene.number}"
        cells = {
            "at": "" if one.t_ms is None else f"{one.t_ms / 1000:,.1f} s",
            "tier": "-" if result.tier is None else result.tier,
            "reason": result.reason,
        }
        shown = [cells[name] for name in why]
        shown += [_outside(one)] if tells else []
        _row(table, one.name, *shown, *ranked, left_at, f"{result.times.total_us:,.0f} us")
    _console().print(table)
    here = [one.result.served.reason for one in found if one.result.served is not None and one.result.served.reason]
    if here:
        print(f"{len(here)} of {len(found)} ran here what a server may run: {here[0]}")
    if adaptive:
        return
    for reason in dict.fromkeys(f"{one.result.configuration}: {one.result.reason}" for one in found):
        print(f"configuration {reason}")


def _outside(one: Prediction) -> str:
    if not one.result.outside:
        return ""
    return "outside" if one.ask is None else f"outside, ask {one.ask}"


def serving(facts: dict[str, Any]) -> None:
    """What is served, and where."""
    names = ", ".join(facts["configurations"])
    print(f"{facts['name']} {facts['sequence']} at {facts['address']} ({names}); Ctrl-C ends it")


def benched(found: BenchReport) -> None:
    """One line a configuration."""
    table = _table("configuration", "p50", "p90", "spread", "preprocess p50", "session p50")
    for one in found.configurations:
        times = (one.total.p50_us, one.total.p90_us, one.total.iqr_us, one.preprocess.p50_us, one.session.p50_us)
        name = one.configuration if one.tier is None else f"tier {one.tier} ({one.configuration})"
        _row(table, name, *(f"{t:,.1f} us" for t in times))
    _console().print(table)
    print(f"{found.samples} inputs, {found.rounds} rounds, {found.engine}, {found.machine.cpu_model}")


def measured(found: Results) -> None:
    """One line a configuration, then the switches, as the C++ runner measured them."""
    from ebbtide.profiling.results import percentile_us

    table = _table("configuration", "p50", "p90", "p99", "spread", "load", "first", "peak")
    for one in found.configurations:
        load, first = (percentile_us([times], 50) for times in (one.load_ns, one.first_prediction_ns))
        times = (one.timing.p50_us, one.timing.p90_us, one.p99_us, one.timing.iqr_us)
        name = one.id if one.tier is None else f"tier {one.tier} ({one.id})"
        peak = "-" if one.peak_bytes is None else f"{one.peak_bytes / 2**20:,.1f} MiB"
        _row(table, name, *(f"{t:,.1f} us" for t in times), f"{load / 1000:,.1f} ms", f"{first:,.1f} us", peak)
    _console().print(table)
    if found.switches:
        table = _table("switch", "programs", "p50", "first prediction")
        for turn in found.switches:
            medians = (percentile_us([series], 50) for series in (turn.switch_ns, turn.first_prediction_ns))
            programs = "loaded" if turn.residency == "all" else "loaded anew"
            _row(table, f"{turn.before} to {turn.after}", programs, *(f"{t:,.1f} us" for t in medians))
        _console().print(table)
    for one in found.configurations:
        if one.invalid:
            print(f"invalid  {one.id}: times drifted by more than 10 % from the first rounds to the last")
    protocol, device = found.protocol, found.device
    threads = "one thread" if protocol.threads == 1 else f"{protocol.threads} threads"
    print(
        f"{protocol.samples} inputs, {protocol.rounds} rounds, {threads}, "
        f"C++ {found.runtime.engine} {found.runtime.version}, {device.cpu_model}"
    )


def compared(found: BundleDiff) -> None:
    """What changed and what travels."""
    print(f"{found.name}: sequence {found.sequence[0]} -> {found.sequence[1]}")
    for what, changes in (("configuration", found.configurations), ("program", found.programs)):
        for state in ("added", "removed", "changed"):
            for name in getattr(changes, state):
                print(f"{state:<9}{what} {name}")
    if found.tiers[0] != found.tiers[1]:
        print(f"tiers    {', '.join(found.tiers[0])} -> {', '.join(found.tiers[1])}")
    for setting in found.settings:
        print(f"changed  {setting}")
    table = _table("file", "state", "bytes")
    for file in found.files:
        _row(table, file.path, file.state, f"{file.size_bytes:,}")
    _console().print(table)
    print(f"{found.new_bytes:,} bytes are new; {found.new_xz_bytes:,} travel as xz ({found.full_xz_bytes:,} in full)")


def chosen(found: Chosen) -> None:
    """The bundle, where to begin, why, and why not the others."""
    choice = found.choice
    candidate = found.candidates[choice.candidate]
    for label, value in (
        ("bundle", str(found.bundles[choice.candidate])),
        ("is", f"{candidate.name} {candidate.sequence} for {candidate.profile}"),
        ("begin with", f"tier {choice.tier}, {choice.width}"),
        ("allowed", f"tiers {choice.minimum_tier} to {choice.maximum_tier}, up to {choice.widest}"),
        ("group", choice.group or "none"),
        ("reason", f"{choice.reason}: {found.because}"),
    ):
        print(f"{label:<12}{value}")
    for path, why in zip(found.bundles, found.left_out, strict=True):
        if why:
            print(f"not {path}: it {why}")


def simulated(found: Simulated) -> None:
    """One line a policy."""
    record = found.record
    table = _table("policy", "quality", "throttled", "changes/h", "(most)", record.thresholds[0][0] + "+", "energy")
    for row in record.policies:
        shares = (row.quality, row.throttled, row.light)
        quality, throttled, light = (f"{100 * one.mean:.1f} %" for one in shares)
        changes = row.changes_per_h
        energy = f"{row.energy_wh.mean:.2f} Wh"
        _row(table, row.title, quality, throttled, f"{changes.mean:.1f}", f"{changes.greatest:.1f}", light, energy)
    _console().print(table)
    print(f"{record.phone_title}, {len(record.seeds)} runs of {record.hours:g} h: {record.label}")
    print(f"latency  {record.tiers[0].latency_from}; power assumed")
    print(f"page     {found.page}")
