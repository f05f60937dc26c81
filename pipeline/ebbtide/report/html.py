"""The report as one HTML page: no script, no request to anywhere, equal bytes for equal records."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ebbtide.report import early_plots, early_words, plots, sparsity_plots, sparsity_words, width_plots, wording
from ebbtide.report.record import BuildRecord, ClassRow, Exit

CLASSES_SHOWN = 24
"""With more classes than this the page shows the worst ones and folds the rest away."""

EXITS_SHOWN = 12
"""With more exits than this those that do not ship are folded away."""


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
        wording.decimal,
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
    """The first picture as an SVG that stands alone (for a README)."""
    style = templates().get_template("picture.css.j2").render()
    if record.sparsity is not None:
        return sparsity_plots.accuracy_against_cost(record, record.sparsity, style=style) + "\n"
    return plots.accuracy_against_macs(record, style=style, legend=True) + "\n"


def _view(record: BuildRecord) -> dict[str, Any]:
    time_plot = plots.accuracy_against_time(record)
    return {
        "r": record,
        "ratio": wording.ratio,
        "interval": lambda scored: wording.interval(scored, record.metric),
        "measured_on": next((one.latency.measured_on for one in record.tiers if one.latency), None),
        "verdict": sparsity_words.verdict(record),
        "promise_summary": wording.promise_summary(record),
        "promises": {one.id: wording.promise(record, one) for one in record.configurations},
        "warnings": [one for one in record.notices if one.kind == "warning"],
        "others": list(record.others),
        "macs_plot": Markup(plots.accuracy_against_macs(record)),
        "time_plot": Markup(time_plot) if time_plot else None,
        "sparsity_words": sparsity_words,
        "sparsity_plot": Markup(sparsity_plots.accuracy_against_cost(record, record.sparsity))
        if record.sparsity
        else None,
        **_width_view(record),
        **_early_view(record),
        "classes_summary": wording.classes_summary(record.model),
        "outside_summary": wording.outside_summary(record.outside) if record.outside else "",
        "outside_rows": [*record.tiers, *record.others],
        "exit_rows": _exit_rows(record),
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


def _early_view(record: BuildRecord) -> dict[str, Any]:
    found = record.early
    if found is None:
        return {"early": None}
    promises = early_words.promise_rows(record)
    names = [way.name for way in found.widths[0].ways]
    return {
        "early": found,
        "early_words": early_words.how_made(record, found),
        "halves_words": early_words.halves_words(found),
        "chosen_words": [early_words.chosen_words(one) for one in found.widths],
        "front_plots": [Markup(early_plots.front_of_exits(record, one)) for one in found.widths],
        "way_styles": list(zip(names, early_plots.WAY_STYLES, strict=False)),
        "promise_rows": promises,
        "promise_words": early_words.promise_words(promises),
        "mapped_words": early_words.mapped_words,
        "drawn": {one.id for one in record.tiers},
        "mapping_plots": {
            device.profile: {
                row.configuration: Markup(early_plots.mapping_picture(device, row))
                for row in device.rows
                if row.segments
            }
            for device in found.mapped
        },
    }


def _markup(svg: str | None) -> Markup | None:
    return Markup(svg) if svg is not None else None


def _exit_rows(record: BuildRecord) -> tuple[list[Exit], list[Exit]]:
    """Exits that ship, and the others; all together where they are few."""
    if len(record.exits) <= EXITS_SHOWN:
        return list(record.exits), []
    ships = [one for one in record.exits if "candidate" not in one.name]
    return ships, [one for one in record.exits if "candidate" in one.name]


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
