"""One or many things that are wrong with a recipe, and the one error that shows them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ebbtide.errors import EbbtideError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what an `EbbtideError` says, before it is known whether it is the only one."""

    code: str
    message: str
    where: tuple[str | int, ...] = ()
    place: str | None = None
    expected: str | None = None
    found: str | None = None
    hint: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The problem as JSON values."""
        return {
            "code": self.code,
            "key": dotted(self.where),
            "message": self.message,
            "place": self.place,
            "expected": self.expected,
            "found": self.found,
            "hint": self.hint,
        }


def dotted(where: Sequence[str | int]) -> str:
    """A way to a value as people write it: ``exits.positions[1]``."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def as_error(problems: Sequence[Problem]) -> EbbtideError:
    """One error for all problems, in the order of their places; the first decides the code.

    Its ``details["problems"]`` lists each with code, key, message, place, expected, found and hint.
    """
    ordered = sorted(problems, key=_order)
    first = ordered[0]
    details = {"problems": [problem.as_dict() for problem in ordered]}
    if len(ordered) == 1:
        return EbbtideError(
            first.code,
            first.message,
            expected=first.expected,
            found=first.found,
            hint=first.hint,
            place=first.place,
            details=details,
        )
    lines = [f"{len(ordered)} problems in the recipe."]
    for problem in ordered:
        lines.append(f"  {problem.place}: {problem.message}" if problem.place else f"  {problem.message}")
        for label, text in (("expected", problem.expected), ("found", problem.found), ("do", problem.hint)):
            if text is not None:
                lines.append(f"    {label}: {text}")
    return EbbtideError(first.code, "\n".join(lines), place=first.place, details=details)


def _order(problem: Problem) -> tuple[bool, int]:
    """By line; what came by --set or has no line last, in the order given."""
    line = (problem.place or "").rpartition(":")[2]
    override = (problem.place or "").startswith("--set")
    return (override or not line.isdigit(), int(line) if line.isdigit() and not override else 0)
