"""Kinds of things that are a file each: a new file in their package is a new kind."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def kinds_in(package: str) -> dict[str, Any]:
    """The ``TYPE`` of every module of a package by the module's name, sorted.

    Args:
        package: dotted name.
    """
    modules = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return {module.name: importlib.import_module(f"{package}.{module.name}").TYPE for module in modules}
