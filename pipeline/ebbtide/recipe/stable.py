"""Recipes and their sections as bytes that never vary: what steps are cached by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ebbtide.recipe.code import code_entry
from ebbtide.recipe.models import Recipe
from ebbtide.recipe.wording import marker


def canonical_json(value: Recipe | Any) -> str:
    """JSON with sorted keys and no spaces; floats as Python's shortest form that reads back the same."""
    plain = value.model_dump(mode="json") if isinstance(value, Recipe) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def step_inputs(recipe: Recipe, *keys: str, digest: Callable[[Path], str] | None = None) -> dict[str, Any]:
    """Some parts of a recipe as plain JSON values, for the inputs of a step.

    Args:
        recipe: the recipe.
        *keys: dotted names such as ``"data"`` or ``"training.epochs"``; all top-level keys if none are given.
        digest: what to put in the place of a file or folder. With it a moved or renamed file changes
            nothing, and a changed one does; code is replaced by `CodeEntry.digest` and its function's name.
    """
    tree = recipe.model_dump(mode="json")
    chosen: dict[str, Any] = {}
    for key in keys or tuple(tree):
        where = tuple(key.split("."))
        value: Any = tree
        for part in where:
            value = None if value is None else value[part]
        chosen[key] = value if digest is None else _replaced(value, where, digest)
    return chosen


def _replaced(value: Any, where: tuple[str | int, ...], digest: Callable[[Path], str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner, (*where, key), digest) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, (*where, index), digest) for index, inner in enumerate(value)]
    kind = marker(where) if isinstance(value, str) else None
    if kind is None:
        return value
    if kind == "code":
        entry = code_entry(value, Path())
        return {"code": entry.digest(), "name": entry.name}
    return {kind: digest(Path(value)), "suffix": Path(value).suffix}
