"""Writing the report's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ebbtide.report.html import render_html, render_picture
from ebbtide.report.markdown import render_markdown
from ebbtide.report.record import BuildRecord
from ebbtide.steps import storage_errors, write_bytes


@dataclass(frozen=True)
class ReportFiles:
    """Where the report lies: the page, its Markdown form, its data, and the first picture alone."""

    html: Path
    markdown: Path
    json: Path
    picture: Path


def write_report(record: BuildRecord, folder: Path) -> ReportFiles:
    """Write report.html, report.md, report.json and report.svg into `folder`, each whole or not at all.

    Raises:
        EbbtideError: ``steps.disk_full`` or ``steps.read_only``.
    """
    files = ReportFiles(*(folder / f"report.{kind}" for kind in ("html", "md", "json", "svg")))
    texts = {
        files.html: render_html(record),
        files.markdown: render_markdown(record),
        files.json: record.to_json(),
        files.picture: render_picture(record),
    }
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            write_bytes(path, text.encode())
    return files
