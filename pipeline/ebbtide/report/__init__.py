"""Reports of a build: one HTML page, Markdown, JSON and the table on the terminal, all from one record."""

from ebbtide.report.files import ReportFiles, write_report
from ebbtide.report.html import render_html, render_picture
from ebbtide.report.markdown import render_markdown
from ebbtide.report.record import BuildRecord, load_record
from ebbtide.report.simulation import SimulationFiles, render_simulation, render_simulation_picture, write_simulation
from ebbtide.report.terminal import summary_table

__all__ = [
    "BuildRecord",
    "ReportFiles",
    "SimulationFiles",
    "load_record",
    "render_html",
    "render_markdown",
    "render_picture",
    "render_simulation",
    "render_simulation_picture",
    "summary_table",
    "write_report",
    "write_simulation",
]
