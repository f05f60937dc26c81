"""The report's section on nested widths, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide.report import wording
from ebbtide.report.markdown_text import escaped, score, table
from ebbtide.report.nested import Widths
from ebbtide.report.record import BuildRecord


def width_parts(record: BuildRecord, widths: Widths) -> Iterator[str]:
    """Paragraphs and tables in their order."""
    yield escaped(wording.search_summary(widths))
    yield _levels(record, widths)
    for words in (wording.payload_summary(widths), wording.norm_summary(widths)):
        if words:
            yield escaped(words)
    if widths.controls:
        yield "Simpler ways to the same budgets, on select:"
        yield _controls(widths)
    yield "Units that each width keeps:"
    yield _kept(widths)
    if widths.whole:
        yield "\n".join(
            f"- stays whole: {escaped(', '.join(one.subjects))} ({escaped(one.reason)})" for one in widths.whole
        )


def _levels(record: BuildRecord, widths: Widths) -> str:
    header = (
        "Width",
        "MACs",
        "Share",
        "Parameters",
        "Promised (select)",
        "Measured (test)",
        "Not tuned (select)",
        "p50 / p90",
        "Program",
        "Peak memory",
        "Importance kept",
    )
    rows = [
        (
            escaped(one.name),
            wording.amount(one.macs),
            wording.percent(one.share),
            wording.amount(one.parameters),
            score(record, one.select),
            score(record, one.test),
            wording.percent(one.untuned.accuracy if one.untuned else None),
            wording.latency(one.latency),
            wording.size(one.program_bytes),
            wording.size(one.peak_bytes),
            wording.percent(one.value),
        )
        for one in widths.levels
    ]
    return table(header, rows)


def _controls(widths: Widths) -> str:
    rows = []
    for control in widths.controls:
        name = f"{escaped(control.name)}: {escaped(control.about)}"
        if control.reason:
            rows.append((name, "–", f"none: {escaped(control.reason)}", "–", "–"))
        rows += [
            (name, one.level, wording.amount(one.macs), wording.percent(one.untuned), wording.percent(one.tuned))
            for one in control.levels
        ]
    return table(("Way", "Width", "MACs", "Not tuned", "Tuned"), rows, left=2)


def _kept(widths: Widths) -> str:
    header = ("Group", "Tensors", *(one.name for one in widths.levels), "Of")
    rows = [
        (escaped(group.name), str(group.tensors), *(str(kept) for kept in group.kept), str(group.size))
        for group in widths.groups
    ]
    return table(header, rows)
