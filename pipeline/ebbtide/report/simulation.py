"""A simulation as one HTML page and as data: no script, no request to anywhere, equal bytes for equal records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ebbtide.report import simulation_plots as plots
from ebbtide.report.html import templates
from ebbtide.report.wording import percent
from ebbtide.simulation.comparison import OURS, Comparison, PolicyRow
from ebbtide.steps import storage_errors, write_bytes


@dataclass(frozen=True)
class SimulationFiles:
    """Where the page and its data lie."""

    html: Path
    json: Path


def write_simulation(record: Comparison, folder: Path) -> SimulationFiles:
    """Write simulation.html and simulation.json into `folder`, each whole or not at all.

    Raises:
        EbbtideError: ``steps.disk_full`` or ``steps.read_only``.
    """
    files = SimulationFiles(folder / "simulation.html", folder / "simulation.json")
    texts = {files.html: render_simulation(record), files.json: record.model_dump_json(indent=2) + "\n"}
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            write_bytes(path, text.encode())
    return files


def render_simulation(record: Comparison) -> str:
    """The whole page as text, to be written as UTF-8."""
    return templates().get_template("simulation.html.j2").render(_view(record))


def render_simulation_picture(record: Comparison) -> str:
    """Tiers over time of the policies that are not fixed, as an SVG that stands alone (for a document)."""
    style = templates().get_template("simulation_picture.css.j2").render()
    moving = [row.name for row in record.policies if row.changes_per_h.greatest > 0]
    return plots.tiers_over_time(record, style=style, names=moving) + "\n"


def _view(record: Comparison) -> dict[str, Any]:
    headroom = plots.headroom_over_time(record)
    named = [name for name, _ in record.thresholds]
    return {
        "r": record,
        "verdict": verdict(record),
        "hours": f"{record.hours:g} hour{'' if record.hours == 1 else 's'}",
        "air": _air(record),
        "first": named[0],
        "second": named[1] if len(named) > 1 and named[0] in ("LIGHT", "fair") else None,
        "run": record.seeds.index(record.course.seed) + 1,
        "frontier_plot": Markup(plots.throttled_against_quality(record)),
        "skin_small": Markup(plots.skin_over_time(record, wide=False)),
        "skin_plot": Markup(plots.skin_over_time(record)),
        "tiers_plot": Markup(plots.tiers_over_time(record)),
        "headroom_plot": Markup(headroom) if headroom else None,
        "battery_plot": Markup(plots.battery_over_time(record)),
        "quality_plot": Markup(plots.quality_over_time(record)),
    }


def _air(record: Comparison) -> str:
    low, high = record.air_c
    return f"{low:g}\u00a0°C" if low == high else f"{low:g} to {high:g}\u00a0°C"


def verdict(record: Comparison) -> str:
    """What the simulation says, in two sentences."""
    rows = {row.name: row for row in record.policies}
    ours = rows.get(OURS)
    if ours is None:
        best = max(record.policies, key=lambda row: row.quality.mean)
        return f"In the simulation the best quality is that of {best.title}: {_trade(best)}."
    changes = f"{ours.changes_per_h.mean:.1f} changes of tier an hour"
    said = f"In the simulation Ebbtide’s policy keeps {_trade(ours)}, with {changes}."
    first = rows.get("largest")
    if first is not None:
        said += f" Always running the first tier keeps {_trade(first)}."
    return said


def _trade(row: PolicyRow) -> str:
    return f"{percent(row.quality.mean)} mean accuracy and is throttled {percent(row.throttled.mean)} of the time"
