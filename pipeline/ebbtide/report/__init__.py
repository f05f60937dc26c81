"""Reports of a build: one HTML page, Markdown, JSON and the table on the terminal, all from one record."""

from ebbtide.report.record import BuildRecord, load_record

__all__ = ["BuildRecord", "load_record"]
