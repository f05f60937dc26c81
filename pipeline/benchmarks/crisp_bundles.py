"""What one user waits for and gets: builds by `ebb` from a universal model that is built; `crisp.py` calls this."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import EBB, run

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


def universal_bundle(scratch: Path) -> Bundle:
    """The universal model's bundle, built from nothing in a home of its own."""
    shutil.rmtree(scratch / "bundles", ignore_errors=True)
    return _built(scratch, "universal", ["build", RECIPE])


def personal_bundle(scratch: Path, classes: Sequence[int], name: str, more: Sequence[str] = ()) -> Bundle:
    """A bundle for a class set, beside `universal_bundle`, with answers of "outside".

    Args:
        scratch: as given there.
        classes: indices.
        name: of its folder.
        more: options of ``ebb personalise``.
    """
    listed = ",".join(map(str, classes))
    source = scratch / "bundles" / "universal"
    return _built(scratch, name, ["personalise", source, "--classes", listed, "--set", "outside=energy", *more])


@dataclass(frozen=True)
class User:
    """What one user got.

    Args:
        first_s: wall clock of a first bundle.
        best_s: of the one whose budget is found.
        kept: share of the multiply-accumulates of that.
        right: its accuracy on test.
        auroc: how well it tells images of other classes, on test.
        size_bytes: of the bundle at a given share.
    """

    first_s: float
    best_s: float
    kept: float
    right: float
    auroc: float
    size_bytes: int


def one_user(universal: Bundle, classes: Sequence[int], seed: int, share: float, scratch: Path) -> User:
    """Three bundles for a class set: a first one, the one whose budget is found, and one at a share of the MACs."""
    first = personal_bundle(scratch, classes, f"first_{seed}", ["--quick"])
    best = personal_bundle(scratch, classes, f"best_{seed}", BEST)
    given = personal_bundle(scratch, classes, f"given_{seed}", [*BEST, "--macs", str(share)])
    return User(
        first.seconds,
        best.seconds,
        best.configuration["mean_macs"] / universal.configuration["mean_macs"],
        best.configuration["test"]["accuracy"],
        best.outside("test")["auroc"],
        given.size_bytes,
    )


def _built(scratch: Path, name: str, arguments: Sequence[object]) -> Bundle:
    place = scratch / "bundles"
    done = run([*EBB, *arguments, "--output", place / name, "--json"], home=place / "home")
    return Bundle(place / name, done.json()["record"], done.seconds)
