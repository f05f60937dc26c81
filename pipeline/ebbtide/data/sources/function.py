"""The user's own ``file.py:function`` that returns arrays; the only source that runs code from the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ebbtide.data.source import Samples, Source, array_source, digest_source
from ebbtide.errors import EbbtideError, nearest


def open_source(value: Any, *, allow_code: bool) -> Source:
    """Call the function without arguments; it returns `ebbtide.data.Samples` or a dict with the same keys.

    Raises:
        EbbtideError: recipe.no_code, data.source, and those of `array_source`.
    """
    result = _load(value, allow_code=allow_code)()
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
            raise EbbtideError("data.source", "The function returned no labels.", place=str(value))
        result = Samples(**result)
    if not isinstance(result, Samples):
        raise EbbtideError(
            "data.source",
            "The function did not return samples.",
            expected="ebbtide.data.Samples or a dict with images, labels and so on",
            found=type(result).__name__,
            place=str(value),
        )
    return array_source(result, place=str(value))


def fingerprint(value: Any, *, allow_code: bool) -> str:
    """What the function's own attribute ``fingerprint`` (a callable) says, else a digest of all it returns."""
    own = getattr(_load(value, allow_code=allow_code), "fingerprint", None)
    if callable(own):
        return str(own())
    return digest_source(open_source(value, allow_code=allow_code))


def _load(value: Any, *, allow_code: bool) -> Any:
    if not allow_code:
        raise EbbtideError(
            "recipe.no_code",
            "The data come from a function, and code of the recipe may not run.",
            place=str(value),
            hint="leave out --no-code, or use a folder, .npz or IDX source",
        )
    from ebbtide.recipe.code import code_entry

    return code_entry(str(value), Path.cwd()).load()
