"""The report's section on outside detection, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide.report import wording
from ebbtide.report.markdown_text import escaped, table
from ebbtide.report.outside import Outside
from ebbtide.report.record import BuildRecord


def outside_parts(record: BuildRecord, outside: Outside) -> Iterator[str]:
    """Paragraphs and the table in their order."""
    yield escaped(wording.outside_summary(outside))
    header = (
        "Configuration",
        "Split",
        "AUROC",
        "Taken for outside",
        "Taken for a class",
        "Right and inside",
        "Outside above",
    )
    rows = []
    for one in [*record.tiers, *record.others]:
        row = outside.row(one.id)
        above = ", ".join(f"{name} {value:.2f}" for name, value in row.thresholds.items())
        for split, rates in (("select", row.select), ("test", row.test)):
            if rates is not None:
                rows.append(
                    (
                        escaped(wording.configuration_label(record, one)),
                        split,
                        wording.decimal(rates.auroc),
                        wording.percent(rates.false_outside),
                        wording.percent(rates.false_inside),
                        wording.percent(rates.right_and_inside),
                        escaped(above),
                    )
                )
    yield table(header, rows, left=2)
