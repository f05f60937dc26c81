"""The report's section on early exits, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide.report import early_words, wording
from ebbtide.report.early import EarlyExits, SwappedHalves
from ebbtide.report.markdown_text import escaped, table
from ebbtide.report.record import BuildRecord


def early_parts(record: BuildRecord, early: EarlyExits) -> Iterator[str]:
    """Paragraphs and tables in their order."""
    if early.halves:
        yield f"> {escaped(early_words.halves_words(early))}"
    yield escaped(early_words.how_made(record, early))
    yield "\n".join(f"- {escaped(early_words.chosen_words(one))}" for one in early.widths)
    rows = early_words.promise_rows(record)
    if rows:
        yield early_words.promise_words(rows)
        header = ("Configuration", "Promised", "Measured", "Difference", "Its standard error", "Within two")
        yield table(
            header,
            [
                (
                    escaped(wording.configuration_label(record, row.configuration)),
                    wording.percent(row.configuration.select.accuracy, 2),
                    wording.percent(row.configuration.test.accuracy if row.configuration.test else None, 2),
                    f"{row.points:+.2f}",
                    wording.decimal(row.error_points, 2),
                    {None: "–", True: "yes", False: "no"}[row.within],
                )
                for row in rows
            ],
        )
    if early.swapped is not None:
        yield "The halves in each other's place; none of it ships:"
        yield _swapped(early.swapped)
    for one in early.leaving:
        right = sum(example.right for example in one.examples)
        share = f"{wording.percent(one.share)} of select leave at {one.name} of {early.shown}"
        yield escaped(f"{share}; of the first {len(one.examples)}, {right} are right.")
    for device in early.mapped:
        lines = [f"Mapped to {escaped(device.profile)}, by the profile's own times:"]
        for row in device.rows:
            where = " → ".join(f"{one.processor} ({', '.join(one.stages)})" for one in row.segments)
            words = f"{where}; {early_words.mapped_words(row)}" if where else early_words.mapped_words(row)
            lines.append(f"- **{escaped(row.configuration)}**: {escaped(words)}")
        lines += [f"- not possible: {escaped(reason)}" for reason in device.rejects]
        yield "\n".join([lines[0], "", *lines[1:]])


def _swapped(swapped: SwappedHalves) -> str:
    rows = [
        (
            escaped(row.id) + (f" (tier {row.tier})" if row.tier is not None else ""),
            wording.percent(row.promised.accuracy, 2),
            wording.percent(row.measured.accuracy, 2),
            f"{wording.amount(row.mean_macs)} ({wording.ratio(row.mean_macs, swapped.dense_macs)})",
            f"{100 * (row.measured.accuracy - swapped.dense_measured):+.2f}",
        )
        for row in swapped.rows
    ]
    dense = (
        "dense model, one method",
        wording.percent(swapped.dense_promised, 2),
        wording.percent(swapped.dense_measured, 2),
        wording.amount(swapped.dense_macs),
        "0",
    )
    return table(("Configuration", "Promised", "Measured", "Mean MACs", "Against dense"), [*rows, dense])
