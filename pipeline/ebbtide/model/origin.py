"""From a trace-back to the line of the user's model that caused it."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_LIBRARIES = ("/torch/", "/executorch/", "/torchao/", "/ebbtide/model/")


def _own(file: str) -> bool:
    return not any(part in Path(file).as_posix() for part in _LIBRARIES) and not file.startswith("<")


def line_of_trace(trace: str | None) -> str | None:
    """``file:line`` of the innermost frame in a printed trace that is model code, or None."""
    found = [(m["file"], m["line"]) for m in _FRAME.finditer(trace or "") if _own(m["file"])]
    return f"{found[-1][0]}:{found[-1][1]}" if found else None


def line_of_error(error: BaseException) -> str | None:
    """``file:line`` of the innermost frame of an exception (or of what caused it) that is model code, or None."""
    seen: BaseException | None = error
    best: str | None = None
    while seen is not None:
        frames = [f for f in traceback.extract_tb(seen.__traceback__) if _own(f.filename) and "forward" in f.name]
        if frames:
            best = f"{frames[-1].filename}:{frames[-1].lineno}"
        seen = seen.__cause__ or seen.__context__
    return best or line_of_trace(str(error))


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
