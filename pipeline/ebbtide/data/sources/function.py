"""The user's own ``file.py:function`` that returns arrays; the only source that runs code from the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ebbtide.data.source import Samples, Source, array_source, digest_source
from ebbtide.errors import EbbtideError, nearest
from ebbtide.recipe.code import CodeEntry, code_entry


def open_source(value: Any, *, allow_code: bool) -> Source:
    """Call the function without arguments; it returns `ebbtide.data.Samples` or a dict with the same keys.

    Raises:
        EbbtideError: recipe.no_code, data.source, and those of `array_source`.
    """
    result = _entry(value, allow_code=allow_code).load()()
    if isinstance(result, Mapping):
        known = [entry.name for entry in fields(Samples)]
        for key in result:
            if key not in known:
                close = nearest(str(key), known)
                raise EbbtideError(
                    "data.source",
                    f"The function returned an unknown key {key!r}.",
                    expected=", ".join(known),
                    place=str(value),
                    hint=f"did you mean {close!r}?" if close else None,
                )
        if "labels" not in result:
            raise EbbtideError(
                "data.source",
                "The function returned no labels.",
                place=str(value),
                hint='return the labels under "labels"',
            )
        result = Samples(**result)
    if not isinstance(result, Samples):
        raise EbbtideError(
            "data.source",
            "The function did not return samples.",
            expected="ebbtide.data.Samples or a dict with images, labels and so on",
            found=type(result).__name__,
            place=str(value),
            hint="return ebbtide.data.Samples(...) or a dict",
        )
    return array_source(result, place=str(value))


def fingerprint(value: Any, *, allow_code: bool) -> str:
    """Digest of the code, and what the function's attribute ``fingerprint`` (a callable) says, else of all it gives.

    The attribute spares reading everything to learn that nothing changed.
    """
    entry = _entry(value, allow_code=allow_code)
    own = getattr(entry.load(), "fingerprint", None)
    content = str(own()) if callable(own) else digest_source(open_source(value, allow_code=allow_code))
    return f"{entry.digest()} {content}"


def _entry(value: Any, *, allow_code: bool) -> CodeEntry:
    if not allow_code:
        raise EbbtideError(
            "recipe.no_code",
            "The data come from a function, and code of the recipe may not run.",
            place=str(value),
            hint="leave out --no-code, or use a folder, .npz or IDX source",
        )
    return code_entry(str(value), Path.cwd())
