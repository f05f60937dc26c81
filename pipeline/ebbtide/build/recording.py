"""What lowered programs say of every sample of a split, through the runtime that will run them on phones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.programs import Program, open_engine
from ebbtide.build.project import Project
from ebbtide.steps import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ebbtide.engine import Loaded
    from ebbtide.exits import Records

_BLOCK = 256


@dataclass(frozen=True)
class Recorded:
    """What a program said of samples.

    Attributes:
        records: predictions and confidences of every exit and of the head.
        energies: (E + 1, n) float64, the energy of each one's logits, as `ebbtide.runtime.energy` has it.
        untempered: (E + 1, n) float32, what the confidences would be at a temperature of 1.
    """

    records: Records
    energies: NDArray[np.float64]
    untempered: NDArray[np.float32]

    def save(self, file: Path) -> None:
        """Write the records into a file, and the rest beside it."""
        self.records.save(file)
        np.save(energies_file(file), self.energies, allow_pickle=False)
        np.save(untempered_file(file), self.untempered, allow_pickle=False)


def energies_file(records_file: Path) -> Path:
    """Where the energies lie that belong to a file of records."""
    return records_file.with_suffix(".energies.npy")


def untempered_file(records_file: Path) -> Path:
    """Where the confidences at temperature 1 lie that belong to a file of records."""
    return records_file.with_suffix(".untempered.npy")


def record_program(
    loaded: Loaded,
    splits: Sequence[Any],
    *,
    types: Mapping[int, str],
    level: str,
    precision: str,
    split_name: str,
    label: str,
    progress: Progress = silent,
) -> Recorded:
    """Run every method of a program on every sample, one at a time as a phone does.

    Args:
        loaded: a program with ``stage{s}``, ``exit{s}`` and ``head``, or a dense one with one method.
        splits: the samples, one split after the other.
        types: exit type by position in the program.
        level: name of its width.
        precision: its number format.
        split_name: what the records say of where the samples come from.
        label: of the progress bar.
        progress: shows samples done.
    """
    from ebbtide.exits import ExitKey, Records
    from ebbtide.exits import confidences as confidences_of
    from ebbtide.runtime.outside import energy

    stages = sorted((m for m in loaded.methods if m.startswith("stage")), key=_number)
    exits = sorted((m for m in loaded.methods if m.startswith("exit")), key=_number)
    last = next(m for m in loaded.methods if not m.startswith(("stage", "exit")))
    rows = {name: index for index, name in enumerate([*exits, last])}
    count = sum(len(split) for split in splits)
    predictions = np.empty((len(rows), count), dtype=np.int64)
    confidences = np.empty((len(rows), count), dtype=np.float32)
    energies = np.empty((len(rows), count), dtype=np.float64)
    untempered = np.empty((len(rows), count), dtype=np.float32)
    block: list[list[Any]] = [[] for _ in rows]

    def keep(name: str, sample: int, outputs: tuple[Any, ...]) -> None:
        _, confidence, logits = outputs
        predictions[rows[name], sample] = logits.argmax()
        confidences[rows[name], sample] = confidence.item()
        energies[rows[name], sample] = energy(logits.reshape(-1))
        block[rows[name]].append(logits.reshape(-1).copy())

    sample = 0
    with progress.task(label, count) as task:
        for split in splits:
            for inputs, _ in split.batches(_BLOCK):
                for value in inputs.numpy():
                    tensor = value[None]
                    for stage in stages:
                        (tensor,) = loaded.run(stage, tensor)
                        exit_name = f"exit{_number(stage)}"
                        if exit_name in rows:
                            keep(exit_name, sample, loaded.run(exit_name, tensor))
                    keep(last, sample, loaded.run(last, tensor))
                    sample += 1
                for row, logits in enumerate(block):
                    untempered[row, sample - len(inputs) : sample] = confidences_of(np.stack(logits), 1.0)[1]
                    logits.clear()
                task.advance(len(inputs))
    records = Records(
        keys=tuple(ExitKey(_number(name), types[_number(name)]) for name in exits),
        labels=np.concatenate([np.asarray(split.labels, dtype=np.int64) for split in splits]),
        predictions=predictions,
        confidences=confidences,
        level=level,
        precision=precision,
        split=split_name,
    )
    return Recorded(records, energies, untempered)


def record_to(
    file: Path, program: Program, splits: Sequence[Any], *, project: Project, split_name: str, label: str
) -> None:
    """Run a lowered program over samples, as `record_program`, and write what it said into a file.

    Args:
        file: of the records; energies go beside it.
        program: one of the build's.
        splits: the samples, one split after the other.
        project: the build.
        split_name: what the records say of where the samples come from.
        label: of the progress bar.
    """
    loaded = open_engine().load(program.file)
    try:
        found = record_program(
            loaded,
            splits,
            types=program.exit_types,
            level=program.width,
            precision=project.recipe.precision,
            split_name=split_name,
            label=label,
            progress=project.progress,
        )
    finally:
        loaded.close()
    found.save(file)


def _number(method: str) -> int:
    return int(method.lstrip("abcdefghijklmnopqrstuvwxyz"))


class FirstSamples:
    """The first samples of a split, in its own order."""

    def __init__(self, split: Any, count: int) -> None:
        self._split, self._count = split, count
        self.labels = split.labels[:count]

    def __len__(self) -> int:
        return self._count

    def batches(self, size: int) -> Any:
        """(inputs, labels) of at most `size`."""
        for start in range(0, self._count, size):
            chosen = np.arange(start, min(start + size, self._count))
            yield self._split.tensor(chosen), self._split.targets(chosen)
