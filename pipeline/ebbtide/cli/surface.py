"""How a command speaks: to a person, as JSON lines, or hardly at all."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import typer

from ebbtide.errors import EbbtideError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from ebbtide.steps import Progress, Task


class _RichTask:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, count: int = 1, **facts: object) -> None:
        shown = "  ".join(f"{name} {_short(value)}" for name, value in facts.items())
        self._bars.update(self._task, advance=count, facts=shown)


class _RichProgress:
    """Bars with a time to go, on stderr, so that stdout carries the result alone."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        self._console = console
        self.bars = Bars(
            TextColumn("[bold]{task.description}", table_column=Column(no_wrap=True, min_width=28)),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=11, justify="right")),
            TimeRemainingColumn(
                compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True, min_width=5)
            ),
            # What does not fit is cut here, and nowhere else.
            TextColumn("[dim]{task.fields[facts]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=console,
            expand=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        task = self.bars.add_task(label, total=total, facts="")
        try:
            yield _RichTask(self.bars, task)
        finally:
            # A task of unknown length is whole when its block ends.
            if total is None:
                self.bars.update(task, total=1, completed=1)
            self.bars.stop_task(task)

    def say(self, text: str) -> None:
        self._console.print(text, style="cyan", markup=False, highlight=False)


class _JsonTask:
    def __init__(self, screen: TextIO, label: str, total: int | None) -> None:
        self._screen, self._label, self._total, self._done = screen, label, total, 0

    def advance(self, count: int = 1, **facts: object) -> None:
        self._done += count
        _line(
            self._screen,
            {"event": "progress", "task": self._label, "done": self._done, "total": self._total, **facts},
        )


class _JsonProgress:
    """One JSON object a line on stderr."""

    def __init__(self, screen: TextIO) -> None:
        self._screen = screen

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        _line(self._screen, {"event": "start", "task": label, "total": total})
        yield _JsonTask(self._screen, label, total)
        _line(self._screen, {"event": "end", "task": label})

    def say(self, text: str) -> None:
        _line(self._screen, {"event": "say", "text": text})


def _line(screen: TextIO, value: Mapping[str, object]) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str), file=screen, flush=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Surface:
    """What a command prints with.

    Attributes:
        progress: goes to stderr.
    """

    def __init__(self, progress: Progress, *, as_json: bool, quiet: bool, bars: Bars | None = None) -> None:
        self.progress = progress
        self._as_json, self._quiet, self._bars = as_json, quiet, bars

    def result(self, value: Mapping[str, Any], show: Callable[[], None] | None = None, *, flush: bool = False) -> None:
        """Print a result on stdout: as JSON, or as `show` prints it for a person (nothing if quiet).

        `flush` is for a command that goes on afterwards: another program may be waiting for it.
        """
        if self._bars is not None:
            # Bars that are still drawn would run through the result on the same terminal.
            self._bars.stop()
        if self._as_json:
            print(json.dumps(value, ensure_ascii=False, indent=2, default=str))
        elif show is not None and not self._quiet:
            show()
        if flush:
            sys.stdout.flush()


@contextmanager
def _libraries_kept_off() -> Iterator[TextIO]:
    """Keep what libraries print off the screen; give the real stderr for our own words.

    ExecuTorch, torch and the processes that lower write notes for their developers to stderr. They go to a file, whose
    name is told if the command fails.
    """
    log = tempfile.NamedTemporaryFile(prefix="ebbtide-libraries-", suffix=".log", delete=False)  # noqa: SIM115
    kept = os.dup(2)
    before, screen = sys.stderr, open(kept, "w", buffering=1, encoding="utf-8")  # noqa: PTH123, SIM115
    os.dup2(log.fileno(), 2)
    # ExecuTorch's bindings write to Python's own stderr, and so do torch's warnings.
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    failed = True
    try:
        yield screen
        failed = False
    except typer.Exit as stopped:
        failed = stopped.exit_code in (1, 3)
        raise
    finally:
        sys.stderr = before
        os.dup2(kept, 2)
        log.close()
        if failed and os.path.getsize(log.name):  # noqa: PTH202
            print(f"libraries said: {log.name}", file=screen)
        else:
            os.unlink(log.name)  # noqa: PTH108
        screen.close()


@contextmanager
def speaking(*, as_json: bool, quiet: bool) -> Iterator[Surface]:
    """Run a command's body; an `EbbtideError` becomes its message and its exit status."""
    with _libraries_kept_off() as screen, _speaking(screen, as_json=as_json, quiet=quiet) as surface:
        yield surface


@contextmanager
def _speaking(screen: TextIO, *, as_json: bool, quiet: bool) -> Iterator[Surface]:
    from rich.console import Console

    from ebbtide.steps import silent

    bars: Bars | None = None
    progress: Progress = silent
    if as_json:
        progress = _JsonProgress(screen)
    elif not quiet:
        drawn = _RichProgress(Console(file=screen))
        progress, bars = drawn, drawn.bars
    surface = Surface(progress, as_json=as_json, quiet=quiet, bars=bars)
    try:
        if bars is None:
            yield surface
        else:
            with bars:
                yield surface
    except EbbtideError as error:
        _fail(screen, error, as_json=as_json)
    except KeyboardInterrupt:
        _fail(screen, EbbtideError("api.interrupted", "Stopped; the same command continues"), as_json=as_json)


def _fail(screen: TextIO, error: EbbtideError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": error.as_dict()}, ensure_ascii=False, indent=2, default=str))
    else:
        print(str(error), file=screen)
    raise typer.Exit(error.exit_status) from None
