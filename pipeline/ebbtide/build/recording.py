"""What lowered programs say of every sample of a split, through the runtime that will run them on phones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.steps import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.engine import Loaded
    from ebbtide.exits import Records

_BLOCK = 256


def record_program(loaded: Loaded, splits: Sequence[Any], *, label: str, progress: Progress = silent) -> Records:
    """Run every method of a program on every sample, one at a time as a phone does.

    Args:
        loaded: a program with ``stage{s}``, ``exit{s}`` and ``head``, or a dense one with one method.
        splits: the samples, one split after the other.
        label: of the progress bar.
        progress: shows samples done.
    """
    from ebbtide.exits import Records

    stages = sorted((m for m in loaded.methods if m.startswith("stage")), key=_number)
    exits = sorted((m for m in loaded.methods if m.startswith("exit")), key=_number)
    last = next(m for m in loaded.methods if not m.startswith(("stage", "exit")))
    rows = {name: index for index, name in enumerate([*exits, last])}
    count = sum(len(split) for split in splits)
    predictions = np.empty((len(rows), count), dtype=np.int64)
    confidences = np.empty((len(rows), count), dtype=np.float32)

    def keep(name: str, sample: int, outputs: tuple[Any, ...]) -> None:
        _, confidence, logits = outputs
        predictions[rows[name], sample] = logits.argmax()
        confidences[rows[name], sample] = confidence.item()

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
                task.advance(len(inputs))
    return Records(
        positions=tuple(_number(name) for name in exits),
        labels=np.concatenate([np.asarray(split.labels, dtype=np.int64) for split in splits]),
        predictions=predictions,
        confidences=confidences,
    )


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
