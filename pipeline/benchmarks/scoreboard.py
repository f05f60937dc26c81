"""Prints every measured figure and keeps the tables in README and docs equal to them.

    python pipeline/benchmarks/scoreboard.py            print all figures, rewrite the tables
    python pipeline/benchmarks/scoreboard.py --check    change nothing; exit 1 where a table differs

A table stands between two marks in a Markdown file; ids left out mean all of the file's figures::

    <!-- figures: road ids=demo_s,rebuild_s -->
    <!-- /figures -->

``grid`` after the name makes a table of the figures called ROW__COLUMN, such as ``tier_0__mean_macs``::

    <!-- figures: demo grid -->
    <!-- /figures -->

Marks inside fenced code are text, not tables.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import RESULTS, Figure, figure_error, read_figures
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ebbtide.errors import EbbtideError
from ebbtide.steps import write_bytes

ROOT = Path(__file__).resolve().parents[2]

_OPEN = re.compile(
    r"\s*<!--\s*figures:\s*(?P<name>[a-z][a-z0-9_]*)(?P<grid>\s+grid)?(?:\s+ids=(?P<ids>[a-z0-9_,]+))?\s*-->\s*"
)
_CLOSE = re.compile(r"\s*<!--\s*/figures\s*-->\s*")
_LOOKS_LIKE_A_MARK = re.compile(r"\s*<!--\s*/?figures\b")
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")


def shown(value: float) -> str:
    """At most four significant digits, all digits before the point, no exponent in between."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def value_text(figure: Figure) -> str:
    """The value with its spread and unit: ``91.73 % ± 0.02``, ``41 s (38 to 44)``."""
    text = f"{shown(figure.value)} {figure.unit}".strip()
    if isinstance(figure.spread, tuple):
        return f"{text} ({shown(figure.spread[0])} to {shown(figure.spread[1])})"
    return text if figure.spread is None else f"{text} ± {shown(figure.spread)}"


def goal_text(figure: Figure) -> str:
    return "" if figure.goal is None else figure.goal.replace("+-", "±").replace("<=", "≤").replace(">=", "≥")


def met_text(figure: Figure) -> str:
    return {None: "", True: "met", False: "**not met**"}[figure.is_met]


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def markdown_table(figures: Sequence[Figure]) -> list[str]:
    """The lines between two marks."""
    lines = ["| figure | measured | goal | |", "|---|---:|---:|---|"]
    for one in figures:
        name = f"{_cell(one.about)} (`{one.id}`)" if one.about else f"`{one.id}`"
        lines.append(f"| {name} | {_cell(value_text(one))} | {_cell(goal_text(one))} | {met_text(one)} |")
    return lines


def grid_table(figures: Sequence[Figure], *, place: str) -> list[str]:
    """A row for each ROW and a column for each COLUMN of figures called ROW__COLUMN, in order of appearance."""
    cells: dict[str, dict[str, Figure]] = {}
    for one in figures:
        row, between, column = one.id.partition("__")
        if not between:
            raise figure_error(f"The figure {one.id!r} is no cell of a grid.", expected="ROW__COLUMN", place=place)
        cells.setdefault(row, {})[column] = one
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    titles = [column.replace("_", " ") for column in columns]
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(columns)]
    for row, found in cells.items():
        texts = [_cell(value_text(found[c])) if c in found else "" for c in columns]
        lines.append(f"| {row.replace('_', ' ')} | " + " | ".join(texts) + " |")
    return lines


@dataclass(frozen=True)
class Mark:
    """Where a table stands: the lines after `start` up to `end` are its content."""

    name: str
    grid: bool
    ids: tuple[str, ...]
    start: int
    end: int


def find_marks(lines: Sequence[str], *, place: str) -> Iterator[Mark]:
    """The tables of a document. Raises ``report.figures`` for a mark that is misspelt, open or closed twice."""
    fence, opened = "", None
    for index, line in enumerate(lines):
        if found := _FENCE.match(line):
            if not fence:
                fence = found[1]
            elif found[1].startswith(fence):
                fence = ""
            continue
        if fence or not _LOOKS_LIKE_A_MARK.match(line):
            continue
        here = f"{place}:{index + 1}"
        if _CLOSE.fullmatch(line):
            if opened is None:
                raise figure_error("A table of figures is closed that was not opened.", place=here)
            yield Mark(*opened, index)
            opened = None
        elif found := _OPEN.fullmatch(line):
            if opened is not None:
                raise figure_error("A table of figures is opened inside another.", place=here)
            ids = tuple(filter(None, (found["ids"] or "").split(",")))
            opened = (found["name"], bool(found["grid"]), ids, index)
        else:
            raise figure_error(
                "A mark of a table of figures cannot be read.",
                expected="<!-- figures: NAME ids=a,b -->, <!-- figures: NAME grid --> or <!-- /figures -->",
                found=line.strip(),
                place=here,
            )
    if opened is not None:
        raise figure_error(
            "A table of figures is not closed.", hint="Add <!-- /figures -->.", place=f"{place}:{opened[-1] + 1}"
        )


def updated(text: str, *, results: Path, place: str) -> str:
    """The document with every table written anew from the results."""
    lines = text.split("\n")
    for mark in reversed(list(find_marks(lines, place=place))):
        here = f"{place}:{mark.start + 1}"
        stored = read_figures(results / f"{mark.name}.json")
        chosen = [stored.get(one, place=here) for one in mark.ids] if mark.ids else list(stored.figures)
        table = grid_table(chosen, place=here) if mark.grid else markdown_table(chosen)
        lines[mark.start + 1 : mark.end] = table
    return "\n".join(lines)


def documents(root: Path) -> list[Path]:
    """Where tables may stand."""
    return [path for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))) if path.is_file()]


def differing(root: Path, *, results: Path, write: bool) -> list[str]:
    """Documents whose tables are not what the results say, relative to `root`; `write` brings them up to date."""
    names = []
    for path in documents(root):
        name = path.relative_to(root).as_posix()
        before = path.read_text(encoding="utf-8")
        after = updated(before, results=results, place=name)
        if after != before:
            names.append(name)
            if write:
                unfinished = path.with_name(f".{path.name}.new")
                write_bytes(unfinished, after.encode())
                unfinished.replace(path)
    return names


def print_all(console: Console, *, results: Path) -> int:
    """Print every figure of every results file; returns how many goals are not met."""
    missed = 0
    for path in sorted(results.glob("*.json")):
        table = Table(title=path.stem, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("figure", "measured", "goal", "", "date"):
            table.add_column(title, justify="right" if title in ("measured", "goal") else "left")
        for one in read_figures(path).figures:
            missed += one.is_met is False
            style = {None: "", True: "green", False: "bold red"}[one.is_met]
            judged = Text(met_text(one).strip("*"), style=style)
            table.add_row(Text(one.id), Text(value_text(one)), Text(goal_text(one)), judged, Text(one.date[:10]))
        console.print(table)
    return missed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Print all measured figures; keep the tables in README and docs equal."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a table differs")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=RESULTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    console = Console()
    try:
        missed = print_all(console, results=options.results)
        names = differing(options.root, results=options.results, write=not options.check)
    except EbbtideError as failure:
        Console(stderr=True).print(Text(str(failure)))
        return failure.exit_status
    if missed:
        console.print(f"{missed} goal{'s' if missed != 1 else ''} not met.")
    for name in names:
        console.print(
            f"{name}: {'its tables differ from the results; run make scoreboard' if options.check else 'rewritten'}"
        )
    return 1 if options.check and names else 0


if __name__ == "__main__":
    sys.exit(main())
