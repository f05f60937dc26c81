"""`load_recipe`: from a file and ``--set`` arguments to a validated `Recipe`, or to all that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ebbtide.errors import EbbtideError, nearest
from ebbtide.recipe.diagnosis import SHORT_FORMS, diagnose, key_hint, value_at
from ebbtide.recipe.document import Document, Where, parse, read_document
from ebbtide.recipe.models import Recipe
from ebbtide.recipe.problems import Problem, as_error, dotted
from ebbtide.recipe.wording import known_keys, marker, takes_any_key


def load_recipe(path: Path | str, *, overrides: Sequence[str] = (), allow_code: bool = True) -> Recipe:
    """Read, override and validate a recipe.

    Relative paths, those of `overrides` too, count from the recipe's folder; the result holds absolute
    ones. A recipe without a name is named after its file. No code of the user's runs here.

    Args:
        path: the YAML file.
        overrides: ``a.b=c`` each, `c` in YAML; a later one wins over an earlier one and over the file.
        allow_code: False refuses what would run code of the user's: ``file.py:name`` entries and .pt2 files.

    Raises:
        EbbtideError: one for all problems; ``details["problems"]`` lists them, the first decides the code,
            one of ``recipe.conflict``, ``missing_file``, ``missing_key``, ``no_code``, ``override``, ``syntax``,
            ``unknown_key`` and ``value``.
    """
    path = Path(path)
    document = read_document(path)
    if document.data is None:
        document.data = {}
    if not isinstance(document.data, dict):
        raise EbbtideError(
            "recipe.value",
            "A recipe is a section of keys, found something else.",
            expected="keys: " + ", ".join(known_keys(())),
            hint="See `ebb init` for a complete recipe.",
            place=document.place(()),
        )
    problems = list(document.problems)
    for text in overrides:
        problems += _override(document, text)
    resolved, path_problems = _resolve(document, path.resolve().parent, allow_code=allow_code)
    problems += path_problems
    resolved.setdefault("name", named_after(path))
    try:
        recipe = Recipe.model_validate(resolved)
    except ValidationError as error:
        # What a key without a usable value makes seem missing or in conflict is not a second problem.
        dropped = {problem.where[:-1] for problem in document.problems}
        rules = ("recipe.conflict", "recipe.missing_key")
        found = [p for p in diagnose(error, document) if not (p.code in rules and p.where[:-1] in dropped)]
        problems += found + _hidden_conflicts(resolved, found, document)
    if problems:
        raise as_error(problems)
    return recipe


def _hidden_conflicts(resolved: dict[str, Any], found: Sequence[Problem], document: Document) -> list[Problem]:
    """Conflicts between keys that validation did not come to, because some key beside them was wrong.

    The wrong keys are left out and the rest is validated again. A conflict in a section that lost a
    known key could be due to the loss, so only the others are kept.
    """
    lost = [problem.where for problem in found if problem.code == "recipe.value"]
    removable = [problem.where for problem in found if problem.code in ("recipe.value", "recipe.unknown_key")]
    for where in sorted(removable, key=len, reverse=True):
        section = value_at(resolved, where[:-1]) if where else None
        if isinstance(section, dict):
            section.pop(str(where[-1]), None)
    try:
        Recipe.model_validate(resolved)
    except ValidationError as error:
        known = {(problem.where, problem.code) for problem in found}
        return [
            problem
            for problem in diagnose(error, document)
            if problem.code == "recipe.conflict"
            and (problem.where, problem.code) not in known
            and not any(where[: len(problem.where) - 1] == problem.where[:-1] for where in lost)
        ]
    return []


def named_after(path: Path) -> str:
    """A recipe's name where it gives none: that of its file, in the characters a name may have."""
    return re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower())[:64].strip("-._") or "model"


def _override(document: Document, text: str) -> list[Problem]:
    """Put one ``a.b=c`` into the document; what stops it is returned."""
    place = f"--set {text}"
    name, _, value_text = text.partition("=")
    where: Where = tuple(part.strip() for part in name.split("."))
    if not value_text.strip() or not all(where):
        message = f"`{text}` is not of the form a.b=c."
        return [
            Problem(
                "recipe.override",
                message,
                place=place,
                expected="a.b=c",
                hint="For example --set seed=3, or exits=null for none.",
            )
        ]
    for depth in range(1, len(where) + 1):
        section, key = where[: depth - 1], str(where[depth - 1])
        known = known_keys(section)
        if key in known or takes_any_key(section):
            continue
        home = f"`{dotted(section)}`" if section else "the recipe"
        if not known:
            return [
                Problem(
                    "recipe.override", f"{home} has no keys inside.", place=place, hint=f"--set {dotted(section)}=..."
                )
            ]
        return [
            Problem(
                "recipe.override",
                f"Unknown key `{key}` in {home}.",
                where=where,
                place=place,
                expected=f"one of {', '.join(known)}",
                found=key,
                hint=key_hint(key, known, section),
            )
        ]
    value = parse(value_text, place, line_places=False)
    _insert(document, where, value.data, place)
    return [
        Problem(problem.code, problem.message, where=where, place=place, hint=problem.hint)
        for problem in value.problems
    ]


def _insert(document: Document, where: Where, value: Any, place: str) -> None:
    current = document.data
    for depth, part in enumerate(where[:-1], start=1):
        inside = current.get(part)
        if not isinstance(inside, dict):
            # A short form (exits: auto, tiers: 3, widths: 4) is opened up so that a key can be set in it.
            short = SHORT_FORMS.get(str(part)) if inside is not None else None
            current[part] = {short: inside} if short else {}
            document.values[where[:depth]] = place
        current = current[part]
    document.forget(where)
    document.problems = [problem for problem in document.problems if problem.where[: len(where)] != where]
    current[where[-1]] = value
    document.keys[where] = document.values[where] = place


def _resolve(document: Document, folder: Path, *, allow_code: bool) -> tuple[dict[str, Any], list[Problem]]:
    """A copy of the document with absolute paths, and what is missing or forbidden among them."""
    problems: list[Problem] = []

    def copy(value: Any, where: Where) -> Any:
        if isinstance(value, dict):
            return {key: copy(inner, (*where, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [copy(inner, (*where, index)) for index, inner in enumerate(value)]
        kind = marker(where) if isinstance(value, str) else None
        if kind is None:
            return value
        if kind in ("code", "program") and not allow_code:
            problems.append(_forbidden(document, where, value))
            return value
        file, colon, name = value.rpartition(":") if kind == "code" else (value, "", "")
        if not file or "\0" in file:
            return value
        absolute = (folder / Path(file).expanduser()).resolve()
        if not (absolute.is_dir() if kind == "folder" else absolute.is_file()):
            problems.append(_missing(document, where, absolute, kind, file))
        return f"{absolute}{colon}{name}"

    return copy(document.data, ()), problems


def _forbidden(document: Document, where: Where, value: str) -> Problem:
    what = "runs code of yours" if marker(where) == "code" else "is a .pt2 file, whose loader can run code"
    return Problem(
        "recipe.no_code",
        f"`{dotted(where)}: {value}` {what}, and --no-code forbids it.",
        where=where,
        place=document.place(where),
        expected="a source that is data only, such as a timm or torchvision name with .safetensors weights",
        hint="Leave --no-code out if you trust this file, or name the source another way.",
    )


def _missing(document: Document, where: Where, path: Path, kind: str, written: str) -> Problem:
    what = "folder" if kind == "folder" else "file"
    other = "folder" if path.is_dir() else "file"
    reason = f"is a {other}, not a {what}" if path.exists() else "does not exist"
    close = nearest(path.name, _neighbours(path.parent)) if not path.exists() else None
    suggestion = f"Did you mean `{Path(written).with_name(close)}`?" if close else None
    return Problem(
        "recipe.missing_file",
        f"`{dotted(where)}`: the {what} {written} {reason}.",
        where=where,
        place=document.place(where),
        expected=f"a {what} at {path}",
        hint=suggestion or "Correct the path; it counts from the recipe's folder.",
    )


def _neighbours(folder: Path) -> list[str]:
    try:
        return [entry.name for _, entry in zip(range(2000), folder.iterdir(), strict=False)]
    except OSError:
        return []


def named_paths(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    """Every file and folder that a recipe names, with its dotted key; a ``file.py:name`` entry gives the file."""
    tree = recipe.model_dump(mode="json")
    for where in _leaves(tree, ()):
        kind = marker(where)
        value = value_at(tree, where)
        if kind is not None and isinstance(value, str):
            yield dotted(where), Path(value.rpartition(":")[0] if kind == "code" else value)


def _leaves(value: Any, where: Where) -> Iterator[Where]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*where, index))
    else:
        yield where
