"""How long work tells of itself, without deciding how it is shown.

Functions take ``progress: Progress = silent``; the command line passes one that draws bars with a time to go
or one that writes JSON lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, count: int = 1, **facts: object) -> None:
        """Say that `count` more units are done; `facts` (loss, accuracy, ...) are shown beside the bar."""


class Progress(Protocol):
    """Where progress goes."""

    def task(self, label: str, total: int | None = None) -> AbstractContextManager[Task]:
        """Open a bar of `total` units (None: unknown) that closes with the block."""

    def say(self, text: str) -> None:
        """Tell a fact worth keeping: what was chosen and why, what was recomputed, what was skipped."""


class _SilentTask:
    def advance(self, count: int = 1, **facts: object) -> None:
        return


class _Silent:
    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        yield _SilentTask()

    def say(self, text: str) -> None:
        return


silent: Progress = _Silent()
"""A Progress that shows nothing."""
