"""What every section of a recipe shares: strictness, paths, and how a rule between keys is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values are not converted, instances never change."""

    # Validators are built on first use: a nested section never needs one of its own, and the command line stays quick.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


FilePath = Annotated[Path, Field(strict=False, json_schema_extra={"x-ebbtide": "file"})]
"""A file that must exist; relative to the recipe's folder."""

ProgramPath = Annotated[Path, Field(strict=False, json_schema_extra={"x-ebbtide": "program"})]
"""A file that must exist and whose loader can run code."""

FolderPath = Annotated[Path, Field(strict=False, json_schema_extra={"x-ebbtide": "folder"})]
"""A folder that must exist; relative to the recipe's folder."""

CodeText = Annotated[str, Field(pattern=r"^.+\.py:[A-Za-z_]\w*$", json_schema_extra={"x-ebbtide": "code"})]
"""``file.py:name``: a callable of the user's; the file is relative to the recipe's folder."""

# Lower case, because bundles are stored under it on systems that ignore case.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
"""A bundle's name."""

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
SharedSeed = Annotated[int, Field(ge=0, le=2**32 - 1, json_schema_extra={"x-ebbtide": "recipe-seed"})]
"""A seed that is the recipe's unless it is given."""

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


def conflict(message: str, *, key: str, hint: str, expected: str | None = None) -> PydanticCustomError:
    """A rule between keys that is broken; `key` is the one to show, relative to the section."""
    return PydanticCustomError("conflict", "{message}", _context(message, key, hint, expected))


def absent(message: str, *, key: str, hint: str, expected: str | None = None) -> PydanticCustomError:
    """A key that another one, or the section itself, needs."""
    return PydanticCustomError("absent", "{message}", _context(message, key, hint, expected))


def out_of_range(message: str, *, key: str, hint: str, expected: str | None = None) -> PydanticCustomError:
    """A value that is wrong for a reason no single field can state."""
    return PydanticCustomError("range", "{message}", _context(message, key, hint, expected))


def _context(message: str, key: str, hint: str, expected: str | None) -> dict[str, str]:
    context = {"message": message, "key": key, "hint": hint}
    if expected is not None:
        context["expected"] = expected
    return context
