"""The recipe's JSON Schema as a map: which keys exist where, and what a value must be, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

Schema = dict[str, Any]
PATH_KINDS = {
    "file": "a file's path",
    "folder": "a folder's path",
    "program": "a .pt2 file's path",
    "code": "file.py:name of a function",
}


@cache
def recipe_schema() -> Schema:
    """The JSON Schema of a recipe as a user writes it, generated from the models."""
    from ebbtide.recipe.models import Recipe

    return Recipe.model_json_schema(mode="validation")


def alternatives(where: Sequence[str | int]) -> list[Schema]:
    """Every form that the value at a place may take; empty if the recipe knows no such place."""
    found = _flatten([recipe_schema()])
    for part in where:
        inner: list[Schema] = []
        for schema in found:
            if isinstance(part, int):
                inner += [schema["items"]] if "items" in schema else []
            elif part in schema.get("properties", {}):
                inner.append(schema["properties"][part])
            elif isinstance(schema.get("additionalProperties"), dict):
                inner.append(schema["additionalProperties"])
        found = _flatten(inner)
    return found


def known_keys(where: Sequence[str | int]) -> list[str]:
    """The keys of the section at a place, in the order of the models."""
    keys: list[str] = []
    for schema in alternatives(where):
        keys += [key for key in schema.get("properties", {}) if key not in keys]
    return keys


def takes_any_key(where: Sequence[str | int]) -> bool:
    """Whether the place holds a free mapping, such as a model's arguments."""
    return any(isinstance(schema.get("additionalProperties"), dict) for schema in alternatives(where))


def marker(where: Sequence[str | int]) -> str | None:
    """``file``, ``folder``, ``code`` or ``program`` where a value names one, else None."""
    return next((kind for schema in alternatives(where) if (kind := schema.get("x-ebbtide")) in PATH_KINDS), None)


def sections_with(key: str) -> list[str]:
    """The sections, by dotted name, that have a key; the recipe itself is the empty name."""

    def walk(prefix: tuple[str, ...], depth: int) -> Iterable[str]:
        for name in known_keys(prefix):
            if name == key:
                yield ".".join(prefix)
            if depth:
                yield from walk((*prefix, name), depth - 1)

    return list(walk((), 2))


def words(where: Sequence[str | int], *, like: Any = None) -> str | None:
    """What the value at a place must be, in words; None if anything may stand there.

    With `like` only the forms of that value's own kind (list, section, number) are said, if there are any.
    """
    kinds = {list: {"array"}, dict: {"object"}, int: {"integer", "number"}, float: {"number"}}.get(type(like))
    forms = [schema for schema in alternatives(where) if kinds is None or schema.get("type") in kinds]
    said = list(dict.fromkeys(text for schema in forms if (text := _say(schema)) is not None))
    return ", or ".join(said) or None


def example(where: Sequence[str | int]) -> Any:
    """The models' own example of a key's value, or None."""
    for schema in alternatives(where[:-1]):
        found = schema.get("properties", {}).get(where[-1], {}).get("examples")
        if found:
            return found[0]
    return None


def choices(where: Sequence[str | int]) -> list[str]:
    """The fixed words a value may be."""
    found: list[Any] = []
    for schema in alternatives(where):
        found += schema.get("enum", [schema["const"]] if "const" in schema else [])
    return [value for value in found if isinstance(value, str)]


def _flatten(schemas: Iterable[Schema]) -> list[Schema]:
    flat: list[Schema] = []
    for schema in schemas:
        if "$ref" in schema:
            flat += _flatten([recipe_schema()["$defs"][schema["$ref"].rpartition("/")[2]]])
        elif "anyOf" in schema:
            flat += _flatten(schema["anyOf"])
        else:
            flat.append(schema)
    return flat


def _say(schema: Schema) -> str | None:
    if "const" in schema:
        return "true" if schema["const"] is True else str(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if schema.get("x-ebbtide") in PATH_KINDS:
        return PATH_KINDS[schema["x-ebbtide"]]
    match schema.get("type"):
        case "integer":
            return "a whole number" + _range(schema)
        case "number":
            return "a number" + _range(schema)
        case "boolean":
            return "true or false"
        case "string":
            return "text" + (" of letters, digits, `.`, `_` and `-`, at most 64" if "pattern" in schema else "")
        case "array":
            return _say_list(schema)
        case "object" if "properties" in schema:
            return "a section with " + ", ".join(schema["properties"])
        case "object":
            return "a section of your own keys"
    return None


def _say_list(schema: Schema) -> str:
    items = [text for form in _flatten([schema.get("items", {})]) if (text := _say(form)) is not None]
    low, high = schema.get("minItems", 0), schema.get("maxItems")
    size = (
        f" of {low}" if low and low == high else f" of at least {low}" if low > 1 else " of one or more" if low else ""
    )
    return f"a list{size}" + (f" ({' or '.join(items)} each)" if items else "")


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {_number(low)} to {_number(high)}"
    said = [
        f"{label} {_number(bound)}"
        for label, bound in (("of at least", low), ("above", above), ("at most", high), ("below", below))
        if bound is not None
    ]
    return " " + " and ".join(said) if said else ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
