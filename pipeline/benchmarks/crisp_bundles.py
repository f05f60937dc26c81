"""What one user waits for and gets: builds by `ebb` from a universal model that is built; `crisp.py` calls this."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from crisp_training import RUNS
from processes import EBB, run
from runs import circumstances, stored_result

from ebbtide.steps import write_json

RECIPE = Path(__file__).resolve().parent / "recipes" / "cifar100_resnet20x2.yaml"
# Losses count from the universal model: to fine-tune the whole model as well would cost more than all the rest.
BEST = ("--set", "sparsity.reference=universal")


@dataclass(frozen=True)
class Bundle:
    """A built bundle.

    Args:
        folder: what the build wrote.
        record: its report.
        seconds: wall clock of the command.
    """

    folder: Path
    record: dict[str, Any]
    seconds: float

    @property
    def size_bytes(self) -> int:
        """Bytes of all files of the bundle for this machine."""
        return sum(file.stat().st_size for file in (self.folder / "bundles" / "host").rglob("*") if file.is_file())

    def outside(self, split: str) -> dict[str, Any]:
        """What the whole path's threshold does on a split: rates and AUROC."""
        (row,) = self.record["outside"]["rows"]
        found: dict[str, Any] = row[split]
        return found

    @property
    def configuration(self) -> dict[str, Any]:
        """The one configuration that a bundle of one width without exits has."""
        (found,) = self.record["configurations"]
        return dict(found)


@dataclass(frozen=True)
class User:
    """What one user got.

    Args:
        first_s: wall clock of a first bundle.
        first_right: its accuracy on test.
        best_s: wall clock of the one whose budget is found.
        kept: share of the multiply-accumulates of that.
        right: its accuracy on test.
        auroc: how well it tells images of other classes, on test.
        size_bytes: of the bundle at a given share.
        universal_bytes: of the universal model's.
    """

    first_s: float
    first_right: float
    best_s: float
    kept: float
    right: float
    auroc: float
    size_bytes: int
    universal_bytes: int


@dataclass(frozen=True)
class Builds:
    """Bundles of users, each built once; what they came to is a file in ``results/crisp_runs``.

    Args:
        scratch: where the builds go.
        share: of the multiply-accumulates, of the bundle whose bytes count.
    """

    scratch: Path
    share: float

    def stored(self, seed: int) -> User | None:
        """What the user of a seed got; None where nobody has built it."""
        found = stored_result(self._file(seed), self._settings(seed))
        return None if found is None else User(**found["user"])

    def make(self, seed: int, classes: Sequence[int]) -> User:
        """A first bundle for a class set, the one whose budget is found, and one at the share."""
        began, universal = time.monotonic(), self._universal
        first = self._personal(classes, f"first_{seed}", ["--quick"])
        best = self._personal(classes, f"best_{seed}", BEST)
        given = self._personal(classes, f"given_{seed}", [*BEST, "--macs", str(self.share)])
        user = User(
            first.seconds,
            first.configuration["test"]["accuracy"],
            best.seconds,
            best.configuration["mean_macs"] / universal.configuration["mean_macs"],
            best.configuration["test"]["accuracy"],
            best.outside("test")["auroc"],
            given.size_bytes,
            universal.size_bytes,
        )
        found = {"settings": self._settings(seed), "user": asdict(user), "classes": [*classes]}
        write_json(
            self._file(seed), {**found, **circumstances(universal.record["provenance"]["hashes"]["data"], began)}
        )
        return user

    def _settings(self, seed: int) -> dict[str, Any]:
        return {"run": f"user_{seed}", "share": self.share, "best": list(BEST)}

    def _file(self, seed: int) -> Path:
        return RUNS / f"user_{seed}.json"

    @property
    def _place(self) -> Path:
        return self.scratch / "bundles"

    @cached_property
    def _universal(self) -> Bundle:
        """Built once for all users, from nothing, in a home of its own: no earlier build may shorten what is timed."""
        shutil.rmtree(self._place, ignore_errors=True)
        return self._built("universal", ["build", RECIPE])

    def _personal(self, classes: Sequence[int], name: str, more: Sequence[str]) -> Bundle:
        listed = ",".join(map(str, classes))
        asked = ["personalise", self._place / "universal", "--classes", listed, "--set", "outside=energy"]
        return self._built(name, [*asked, *more])

    def _built(self, name: str, arguments: Sequence[object]) -> Bundle:
        place = self._place
        done = run([*EBB, *arguments, "--output", place / name, "--json"], home=place / "home")
        return Bundle(place / name, done.json()["record"], done.seconds)
