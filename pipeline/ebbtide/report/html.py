"""The report as one HTML page: no script, no request to anywhere, equal bytes for equal records."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ebbtide.report import plots, width_plots, wording
from ebbtide.report.record import BuildRecord, ClassRow

CLASSES_SHOWN = 24
"""With more classes than this the page shows the worst ones and folds the rest away."""


@cache
def templates() -> Environment:
    """The environment that pages are made in; everything that comes from a record is escaped."""
    # Names of classes and files come from the user's data: everything is escaped, only our own SVG is not.
    found = Environment(
        loader=PackageLoader("ebbtide.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    for function in (
        wording.percent,
        wording.amount,
        wording.size,
        wording.time,
        wording.seconds,
        wording.latency,
        wording.shape,
        wording.configuration_name,
    ):
        found.filters[function.__name__] = function
    found.filters["method"] = _method
    found.filters["sentence"] = _sentence
    return found


def _method(name: str) -> str:
    """The method without its program: readers know the program from the table."""
    return name.rpartition("/")[2]


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def render_html(record: BuildRecord) -> str:
    """The whole page as text, to be written as UTF-8."""
    return templates().get_template("page.html.j2").render(_view(record))


def render_picture(record: BuildRecord) -> str:
    """The first picture, accuracy against MACs, as an SVG that stands alone (for a README)."""
    style = templates().get_template("picture.css.j2").render()
    return plots.accuracy_against_macs(record, style=style, legend=True) + "\n"


def _view(record: BuildRecord) -> dict[str, Any]:
    time_plot = plots.accuracy_against_time(record)
    return {
        "r": record,
        "ratio": wording.ratio,
        "interval": lambda scored: wording.interval(scored, record.metric),
        "measured_on": next((one.latency.measured_on for one in record.tiers if one.latency), None),
        "verdict": wording.verdict(record),
        "promise_summary": wording.promise_summary(record),
        "promises": {one.id: wording.promise(record, one) for one in record.configurations},
        "warnings": [one for one in record.notices if one.kind == "warning"],
        "others": list(record.others),
        "macs_plot": Markup(plots.accuracy_against_macs(record)),
        "time_plot": Markup(time_plot) if time_plot else None,
        **_width_view(record),
        "leaving": {one.id: _markup(plots.leaving_shares(record, one)) for one in record.tiers},
        "reliability": [Markup(plots.reliability(record, one)) for one in record.reliability],
        "control_names": ", ".join(one.name for one in record.controls[:3]),
        "class_rows": _class_rows(record),
        "most_missed": max([0.01, *(1 - share for row in record.classes for share in row.accuracy.values())]),
        "class_caption": _class_caption(record),
    }


def _width_view(record: BuildRecord) -> dict[str, Any]:
    found = record.widths
    if found is None:
        return {"w": None}
    return {
        "w": found,
        "width_plot": Markup(width_plots.accuracy_against_width(record, found)),
        "kept_plot": Markup(width_plots.kept_channels(found)) if found.groups else None,
        "shades": [width_plots.shade(index, len(found.levels)) for index in range(len(found.levels))],
        "search_summary": wording.search_summary(found),
        "payload_summary": wording.payload_summary(found),
        "norm_summary": wording.norm_summary(found),
    }


def _markup(svg: str | None) -> Markup | None:
    return Markup(svg) if svg is not None else None


def _class_rows(record: BuildRecord) -> tuple[list[ClassRow], list[ClassRow]]:
    rows = list(record.classes)
    if len(rows) <= CLASSES_SHOWN:
        return rows, []
    first = record.tiers[0].id
    worst = sorted(rows, key=lambda row: row.accuracy.get(first, 1.0))[:CLASSES_SHOWN]
    names = {id(row) for row in worst}
    return worst, [row for row in rows if id(row) not in names]


def _class_caption(record: BuildRecord) -> str:
    if not record.classes:
        return ""
    fewest = min(row.n for row in record.classes)
    what = "Share of each class that is recognised on test"
    if len(record.classes) > CLASSES_SHOWN:
        what += f"; the {CLASSES_SHOWN} worst of {len(record.classes)} first"
    lines = "The line under a figure is the share that is missed"
    return f"{what}. {lines}. One sample of the smallest class is worth {100 / fewest:.1f} points."
