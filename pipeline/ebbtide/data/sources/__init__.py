"""Where samples come from: one module for each key of the recipe's ``data`` section.

Modules are found by name, so a new source is one new file (and its key in the recipe).
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, Protocol, cast

from ebbtide.data.source import Source
from ebbtide.errors import EbbtideError


class _Module(Protocol):
    def open_source(self, value: Any, *, allow_code: bool) -> Source: ...
    def fingerprint(self, value: Any, *, allow_code: bool) -> str: ...


def known_sources() -> tuple[str, ...]:
    """Keys of the ``data`` section that name a source."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def open_source(section: Any, *, allow_code: bool = True) -> Source:
    """The source that the recipe's ``data`` section names.

    Raises:
        EbbtideError: data.source if none or several are named; recipe.no_code; whatever the source finds wrong.
    """
    module, value = _chosen(section)
    return module.open_source(value, allow_code=allow_code)


def fingerprint(section: Any, *, allow_code: bool = True) -> str:
    """SHA-256 of the source's content: equal content, equal text, whatever the dates of the files."""
    module, value = _chosen(section)
    return module.fingerprint(value, allow_code=allow_code)


def _chosen(section: Any) -> tuple[_Module, Any]:
    known = known_sources()
    named = [key for key in known if getattr(section, key, None) not in (None, False)]
    if len(named) != 1:
        raise EbbtideError(
            "data.source",
            "The data section names no source." if not named else "The data section names more than one source.",
            expected=f"exactly one of {', '.join(known)}",
            found=", ".join(named) or None,
            place="data",
            hint="keep one source",
        )
    module = importlib.import_module(f"{__name__}.{named[0]}")
    return cast("_Module", module), getattr(section, named[0])
