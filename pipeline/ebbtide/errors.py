"""One error for everything a user can get wrong: a stable code, what was expected, what was found, what to do.

A code is ``package.reason`` and never changes its meaning once released, so that scripts and the
SDKs in other languages can rely on it. Every code stands in `CODES` below with what it means; an
unlisted code cannot be raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Sections are in the order of the packages. Keep each section sorted.
CODES: dict[str, str] = {
    # recipe
    "recipe.conflict": "Two settings of the recipe exclude each other, or one needs another that is missing.",
    "recipe.missing_file": "A file or folder that the recipe names does not exist.",
    "recipe.missing_key": "A required key is absent.",
    "recipe.no_code": "The recipe names code of the user's, and --no-code forbids running it.",
    "recipe.override": "A --set argument is not of the form a.b=c or names no key.",
    "recipe.syntax": "The recipe is not valid YAML.",
    "recipe.unknown_key": "A key is not one that the recipe knows.",
    "recipe.value": "A value has the wrong type, is out of range or is not one of the allowed ones.",
    # steps
    "steps.busy": "Another build is writing to the same place.",
    "steps.disk_full": "The disk is full; what was being written has been removed.",
    "steps.read_only": "The cache or the output folder cannot be written.",
    # data
    # device
    # model
    # exits
    # engine
    "engine.closed": "A method was called on a program that has been closed.",
    "engine.failed": "The runtime failed while running a method.",
    "engine.input": "The input of a method has the wrong type or shape.",
    "engine.load": "A program is damaged or needs what this runtime does not have.",
    "engine.no_program": "There is no such program.",
    "engine.threads": "The thread count of this process is already fixed, or is not a positive number.",
    "engine.unknown_method": "A program has no method of this name.",
    # lowering
    "lowering.failed": "A program could not be lowered; the message names the method and the cause.",
    "lowering.gate": "A lowered program decides differently from the model it was lowered from.",
    "lowering.not_executed": "A freshly lowered method does not load or run in the runtime.",
    "lowering.spec": "A program to lower is not well formed: positions, shapes, temperatures or modules do not fit.",
    "lowering.unknown_backend": "There is no lowering back end of this name.",
    # profiling
    "profiling.methods": "A program has no such method, or its methods do not form a path.",
    "profiling.plan": "A timing plan is out of range, or times are compared that were not taken in one run.",
    "profiling.record": "A file is not a record of measurements.",
    # search
    # bundle
    # runtime
    # report
    "report.figures": "A stored figure, its goal or a table of figures in a document is not valid.",
    "report.record": "A build record is missing or not one that this version can read.",
    # api, cli
    "api.internal": "Something inside Ebbtide failed that no input should be able to cause.",
    "api.interrupted": "The command was stopped; what was finished is kept and the same command continues.",
}

# Exit status by kind: 2 is bad input, 3 a check of ours that failed on good input, 1 a defect of ours.
_STATUS = {"api.internal": 1, "api.interrupted": 130}
_STATUS_BY_PACKAGE = {"lowering": 3}


class EbbtideError(Exception):
    """A failure that a user can act on.

    Args:
        code: one of `CODES`.
        message: what is wrong, one sentence with a capital first letter, the bad value in it.
        expected: what would have been right, if that is not plain from the message.
        found: what was there instead.
        hint: what to do now.
        place: where: ``file:line``, a JSON path, a node or tensor name.
        details: more facts for ``--json`` output; values must be JSON.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
        place: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        if code not in CODES:
            raise KeyError(f"error code {code!r} is not listed in ebbtide.errors.CODES")
        self.code = code
        self.message = message
        self.expected = expected
        self.found = found
        self.hint = hint
        self.place = place
        self.details = dict(details or {})
        super().__init__(str(self))

    @property
    def exit_status(self) -> int:
        """The process exit status: 2 bad input, 3 a failed check of ours, 1 a defect, 130 interrupted."""
        return _STATUS.get(self.code, _STATUS_BY_PACKAGE.get(self.code.split(".")[0], 2))

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.message}" if self.place else self.message]
        for label, text in (("expected", self.expected), ("found", self.found), ("do", self.hint)):
            if text is not None:
                lines.append(f"  {label}: {text}")
        return "\n".join([f"[{self.code}] {lines[0]}", *lines[1:]])

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process boundaries in parallel lowering; the default would lose the keywords.
        return (_rebuild, (self.as_dict(),))

    def as_dict(self) -> dict[str, Any]:
        """The error as JSON values, for ``--json`` and logs."""
        return {
            "code": self.code,
            "message": self.message,
            "expected": self.expected,
            "found": self.found,
            "hint": self.hint,
            "place": self.place,
            "details": self.details,
        }


def _rebuild(fields: dict[str, Any]) -> EbbtideError:
    code, message = fields.pop("code"), fields.pop("message")
    return EbbtideError(code, message, **fields)


def nearest(word: str, known: list[str]) -> str | None:
    """The known name closest to a mistyped one, or None if none is close."""
    import difflib

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None
