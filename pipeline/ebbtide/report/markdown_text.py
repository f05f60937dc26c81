"""Tables and words in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from ebbtide.report import wording
from ebbtide.report.record import BuildRecord, Scored

_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")


def escaped(text: str) -> str:
    """A name from the user's data as plain words: no markup of Markdown or HTML, no new line."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table; the first `left` columns are flush left, the others right. Cells must be escaped."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def score(record: BuildRecord, scored: Scored | None) -> str:
    """A metric with its interval; a dash where there is none."""
    if scored is None:
        return "–"
    interval = wording.interval(scored, record.metric)
    return wording.percent(scored.accuracy) + (f" ({interval})" if interval else "")
