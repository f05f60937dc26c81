"""The sealed test split: nobody reads it before everything is chosen."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, SupportsIndex

from ebbtide.data.split import Split
from ebbtide.errors import EbbtideError
from ebbtide.steps import canonical_json


@dataclass(frozen=True)
class FrozenChoices:
    """Everything that was chosen before the test split may be looked at, as canonical JSON and its SHA-256.

    Made only by `of`; an object with a digest that is not that of its text cannot be made.
    """

    text: str
    digest: str

    def __post_init__(self) -> None:
        if hashlib.sha256(self.text.encode()).hexdigest() != self.digest:
            raise EbbtideError("data.choices", "The digest of the choices does not belong to their text.")

    @classmethod
    def of(cls, choices: Mapping[str, Any]) -> FrozenChoices:
        """Freeze the choices: weights digests, exits, thresholds, configurations, tiers, whatever is fixed by now.

        Raises:
            EbbtideError: data.choices if they are empty or not JSON.
        """
        if not choices:
            raise EbbtideError("data.choices", "No choices are given; the test split stays closed.")
        try:
            content = canonical_json(dict(choices))
        except (TypeError, ValueError) as error:
            raise EbbtideError("data.choices", f"The choices are not JSON: {error}.") from error
        return cls(text=content.decode(), digest=hashlib.sha256(content).hexdigest())


class SealedSplit:
    """The test split before the final report: its size and ids are known, everything else raises.

    The pixels and labels are in files of their own that are not even mapped before `open`.

    Args:
        ids: sample ids.
        unseal: reads the files.
        log: file to which each opening is added as a JSON line, or None for memory only.
    """

    __slots__ = ("__ids", "__log", "__opened", "__openings", "__unseal")

    def __init__(self, ids: tuple[str, ...], unseal: Callable[[], Split], *, log: Path | None = None) -> None:
        self.__ids = ids
        self.__unseal = unseal
        self.__log = log
        self.__openings: list[str] = []
        self.__opened: Split | None = None

    @property
    def name(self) -> str:
        """Always "test"."""
        return "test"

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the samples, so that disjointness can be checked."""
        return self.__ids

    @property
    def openings(self) -> tuple[str, ...]:
        """Digests of the choices for which this object was opened, in order, one entry a call."""
        return tuple(self.__openings)

    def __len__(self) -> int:
        return len(self.__ids)

    def __repr__(self) -> str:
        return f"SealedSplit(test, {len(self)} samples, {'opened' if self.__opened else 'closed'})"

    def __getattr__(self, name: str) -> NoReturn:
        # Python's own protocols must see a plain absence.
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise EbbtideError(
            "data.test_sealed",
            f"The test split is sealed: {name!r} was asked for.",
            expected="only the final report opens it, with everything chosen",
            hint="tune on train, choose on select; the report calls test.open(FrozenChoices.of(...))",
        )

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        # A copy would not know for which choices the original was opened.
        raise EbbtideError(
            "data.test_sealed",
            "The sealed test split cannot be copied or pickled.",
            hint="pass the folder on and call load_prepared there",
        )

    def open(self, choices: FrozenChoices) -> Split:
        """Give out the test split for one set of choices; the opening is logged first.

        Raises:
            EbbtideError: data.test_sealed if `choices` is not a `FrozenChoices`, or if this object was opened for
                other choices before: then the numbers would have steered a choice.
        """
        if type(choices) is not FrozenChoices:
            raise EbbtideError(
                "data.test_sealed",
                "The test split opens only for frozen choices.",
                expected="FrozenChoices",
                found=type(choices).__name__,
            )
        if self.__openings and self.__openings[0] != choices.digest:
            raise EbbtideError(
                "data.test_sealed",
                "The test split was opened before with other choices.",
                expected=self.__openings[0],
                found=choices.digest,
                hint="choose everything first, then open the test split once",
            )
        if self.__log is not None:
            _append(self.__log, {"choices": choices.digest, "samples": len(self)})
        self.__openings.append(choices.digest)
        if self.__opened is None:
            self.__opened = self.__unseal()
        return self.__opened


def read_opening_log(log: Path) -> tuple[str, ...]:
    """Digests of all choices the test split was ever opened for, in order; a last line cut off by a crash is skipped.

    More than one distinct digest means that somebody has seen test numbers and then chosen again: the report says so.
    """
    if not log.exists():
        return ()
    digests = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            digests.append(str(json.loads(line)["choices"]))
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return tuple(digests)


def _append(log: Path, entry: Mapping[str, Any]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    # One write to a file in append mode: two builds at once do not mix their lines.
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, canonical_json(dict(entry)) + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
