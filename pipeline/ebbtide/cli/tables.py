"""How results look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.api import Checked, Inspected, Prediction
    from ebbtide.build.road import BuildResult
    from ebbtide.bundle import BundleDiff
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


def predicted(found: Sequence[Prediction]) -> None:
    """One line an input."""
    best = max((one.top for one in found), default=1)
    table = _table("input", *(f"top {i + 1}" for i in range(best)), "left at", "time")
    for one in found:
        result = one.result
        ranked = [f"{r.name} {100 * r.probability:.1f} %" for r in result.top(best)]
        ranked += [""] * (best - len(ranked))
        left_at = result.left_at.rpartition("/")[2]
        _row(table, one.name, *ranked, left_at, f"{result.times.total_us:,.0f} us")
    _console().print(table)
    for reason in dict.fromkeys(f"{one.result.configuration}: {one.result.reason}" for one in found):
        print(f"configuration {reason}")


def benched(found: BenchReport) -> None:
    """One line a configuration."""
    table = _table("configuration", "p50", "p90", "spread", "preprocess p50", "session p50")
    for one in found.configurations:
        times = (one.total.p50_us, one.total.p90_us, one.total.iqr_us, one.preprocess.p50_us, one.session.p50_us)
        name = one.configuration if one.tier is None else f"tier {one.tier} ({one.configuration})"
        _row(table, name, *(f"{t:,.1f} us" for t in times))
    _console().print(table)
    print(f"{found.samples} inputs, {found.rounds} rounds, {found.engine}, {found.machine.cpu_model}")


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
