"""From pydantic's errors to problems a user can act on: place, nearest name, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ebbtide.errors import nearest
from ebbtide.recipe.document import Document, Where
from ebbtide.recipe.problems import Problem, dotted
from ebbtide.recipe.template import flow
from ebbtide.recipe.wording import choices, example, known_keys, sections_with, words

SHORT_FORMS = {"outside": "score", "tiers": "count", "widths": "levels"}
"""Sections that a single value may stand for, and the key that it then belongs to."""

_RULE_CODES = {"conflict": "recipe.conflict", "absent": "recipe.missing_key", "range": "recipe.value"}


def diagnose(error: ValidationError, document: Document) -> list[Problem]:
    """All problems that validation found; the branches of a union at one place become one problem."""
    problems: list[Problem] = []
    seen: set[tuple[Where, str]] = set()
    for details in error.errors(include_url=False):
        where, branch_fits = _locate(details, document.data)
        problem = _problem(details, where, document) if branch_fits else None
        if problem is not None and (problem.where, problem.code) not in seen:
            seen.add((problem.where, problem.code))
            problems.append(problem)
    return problems


def value_at(data: Any, where: Where) -> Any:
    """The value at a place."""
    for part in where:
        data = data[part]
    return data


def shown(value: Any) -> str:
    """A value as it would stand in YAML, short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return f"a section with {', '.join(map(str, value))}" if value else "an empty section"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _locate(details: ErrorDetails, data: Any) -> tuple[Where, bool]:
    """Where in the document an error belongs, and whether it comes from the form that the user meant.

    Pydantic mixes the names of union members into the way; they are no keys of the document. Of a
    union's members only the one of the value's own form (section, list) has something to say.
    """
    where: Where = ()
    current, fits = data, True
    for part in details["loc"]:
        inside = (isinstance(current, dict) and part in current) or (
            isinstance(current, list) and isinstance(part, int) and part < len(current)
        )
        if inside:
            current, where = current[part], (*where, part)
        elif details["type"] == "missing" and part == details["loc"][-1]:
            where = (*where, part)
        elif isinstance(part, str) and isinstance(current, dict):
            if part in known_keys(where):
                # A value that was filled in from elsewhere (a shared seed) is reported where it is written.
                return where, False
            fits = fits and not part.startswith(("literal[", "list[", "constrained-"))
        elif isinstance(part, str) and isinstance(current, list):
            # A list that stands for a whole section (widths: [0.5, 1.0]) was opened under the section's own key.
            opened = part == SHORT_FORMS.get(str(where[-1])) if where else False
            fits = fits and (opened or part.startswith("list["))
    return where, fits


def _problem(details: ErrorDetails, where: Where, document: Document) -> Problem:
    kind = details["type"]
    if kind in _RULE_CODES:
        context = details.get("ctx", {})
        inner = tuple(part for part in str(context["key"]).split(".") if part)
        where = (*where, *inner)
        return Problem(
            _RULE_CODES[kind],
            context["message"],
            where=where,
            place=document.place(where),
            expected=context.get("expected"),
            hint=context["hint"],
        )
    if kind == "extra_forbidden":
        return _unknown_key(where, document)
    if kind == "missing":
        return Problem(
            "recipe.missing_key",
            f"The key `{dotted(where)}` is missing.",
            where=where,
            place=document.place(where),
            expected=words(where),
            hint=f"Add it, for example `{where[-1]}: {flow(example(where))}`.",
        )
    return _wrong_value(where, document)


def _unknown_key(where: Where, document: Document) -> Problem:
    key, known = str(where[-1]), known_keys(where[:-1])
    section = f"`{dotted(where[:-1])}`" if len(where) > 1 else "the recipe"
    return Problem(
        "recipe.unknown_key",
        f"Unknown key `{key}` in {section}.",
        where=where,
        place=document.place(where),
        expected=f"one of {', '.join(known)}",
        found=key,
        hint=key_hint(key, known, where[:-1]),
    )


def key_hint(key: str, known: Sequence[str], section: Where) -> str:
    """What to do about a key that a section does not know."""
    close = nearest(key.lower().replace("-", "_"), list(known))
    if close:
        return f"Did you mean `{close}`?"
    homes = [home for home in sections_with(key) if home != dotted(section)]
    if homes:
        home = f"in the section `{homes[0]}`" if homes[0] else "at the top level"
        return f"`{key}` stands {home}; move it there."
    return "Delete the key, or see `ebb init` for all keys."


def _wrong_value(where: Where, document: Document) -> Problem:
    value = value_at(document.data, where)
    name = f"`{dotted(where)}`" if where else "The recipe"
    return Problem(
        "recipe.value",
        f"{name} cannot be {shown(value)}.",
        where=where,
        place=document.place(where),
        expected=words(where),
        found=f"{shown(value)}, {_kind(value)}" if isinstance(value, str | int | float) else shown(value),
        hint=_value_hint(where, value),
    )


def _kind(value: str | int | float) -> str:
    if isinstance(value, bool):
        return "a truth value"
    return {str: "text", int: "a whole number"}.get(type(value), "a number")


def _value_hint(where: Where, value: Any) -> str:
    expected = words(where) or ""
    close = nearest(value.lower(), choices(where)) if isinstance(value, str) else None
    if close:
        return f"Did you mean `{close}`?"
    if isinstance(value, bool) and ("text" in expected or choices(where) or "path" in expected):
        return f'A bare {shown(value)} is a truth value in YAML; for the text write it in quotes: "{shown(value)}".'
    if isinstance(value, str) and "true or false" in expected:
        return "Write true or false; yes, no, on and off are plain text here (YAML 1.2)."
    if isinstance(value, str) and "number" in expected and _is_number(value):
        return f"Write it without quotes: {value}."
    if isinstance(value, int | float) and "text" in expected and "number" not in expected:
        return f'For the text write it in quotes: "{value}".'
    if value is None:
        return "Give a value, or delete the key to get the default."
    if isinstance(value, str | int | float) and expected.startswith("a list"):
        return f"Write a list: [{value}]."
    return f"Write {words(where, like=value) or expected or 'another value'}."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
