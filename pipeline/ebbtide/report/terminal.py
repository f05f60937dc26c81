"""The one table a build prints when it is done."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from ebbtide.report import wording
from ebbtide.report.record import BuildRecord, Configuration, Dense

COLUMNS = ("configuration", "promised\n(select)", "measured\n(test)", "mean\nMACs", "p50 / p90\nlatency here", "bytes")


def summary_table(record: BuildRecord) -> Table:
    """Configuration, promised and measured accuracy, mean MACs, latency and bytes; the dense model last.

    It fits 80 columns. Names are printed as plain text: rich's markup in a name stays visible.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, title in enumerate(COLUMNS):
        table.add_column(title, justify="left" if index == 0 else "right", no_wrap=index > 0)
    for one in record.tiers:
        judged = wording.promise(record, one)
        style = "yellow" if judged is not None and not judged.kept else ""
        table.add_row(*_cells(wording.configuration_label(record, one), one, one.mean_macs, measured_style=style))
    table.add_section()
    table.add_row(*_cells("dense model", record.dense, record.dense.macs), style="dim")
    return table


def _cells(name: str, one: Configuration | Dense, macs: float, *, measured_style: str = "") -> list[Text]:
    return [
        Text(name),
        Text(wording.percent(one.select.accuracy if one.select else None)),
        Text(wording.percent(one.test.accuracy if one.test else None), style=measured_style),
        Text(wording.amount(macs)),
        Text(wording.latency(one.latency)),
        Text(f"{one.size_bytes:,}"),
    ]
