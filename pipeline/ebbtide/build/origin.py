"""Where a build's recipe lies: what others are made from, as long as it has not changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ebbtide.build.project import Project, read_json
from ebbtide.errors import EbbtideError
from ebbtide.steps import write_json

FILE = "origin.json"


def write_origin(project: Project, folder: Path) -> None:
    """Write down where the recipe lies; not in the report, which is the same wherever it is built."""
    if project.path is not None:
        facts = {"recipe": str(project.path.resolve()), "overrides": list(project.overrides), "text": project.text}
        write_json(folder / FILE, facts)


def read_origin(folder: Path) -> tuple[Path, list[str]]:
    """The recipe of a build and the overrides that it was built with.

    Args:
        folder: the build's output.

    Raises:
        EbbtideError: ``api.changed`` where the recipe is not what it was, or nothing says where it is.
    """
    try:
        facts = read_json(folder / FILE)
        path, overrides = Path(facts["recipe"]), [str(one) for one in facts["overrides"]]
        before = str(facts["text"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise _changed("Nothing here says which recipe it was built from", folder, str(error)) from error
    try:
        now = recipe_text(path, overrides)
    except OSError as error:
        raise _changed("The recipe that this was built from cannot be read", path, str(error)) from error
    if now != before:
        raise _changed("The recipe was changed after this was built from it", path, "another text")
    return path, overrides


def recipe_text(path: Path, overrides: Iterable[str]) -> str:
    """The recipe as written, overrides appended as comments."""
    return path.read_text(encoding="utf-8") + "".join(f"# --set {one}\n" for one in overrides)


def _changed(message: str, place: Path, found: str) -> EbbtideError:
    return EbbtideError(
        "api.changed",
        message,
        expected="the output of a build whose recipe is as it was",
        found=found,
        place=str(place),
        hint="Name the recipe itself; what has not changed in it is found stored, the rest is computed.",
    )
