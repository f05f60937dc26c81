"""Run a configuration over a whole split, on the engine that will run it later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ebbtide.bundle.manifest import OutsideEntry
from ebbtide.engine import Array
from ebbtide.runtime.configuration import Configuration, walk
from ebbtide.runtime.outside import answer
from ebbtide.runtime.session import Session
from ebbtide.steps import Progress, silent

# Preprocessed at a time: large enough that the split's own cost per call vanishes, small enough for the cache.
_BLOCK = 256


class Samples(Protocol):
    """What is asked of a split: how many samples, and some of them as a float32 tensor (k, ...), preprocessed."""

    def __len__(self) -> int: ...

    def tensor(self, indices: Any) -> Any:
        """The samples at `indices`, a torch tensor or an array."""
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a configuration gave for each of n samples.

    `labels` int64 (n,): the class; `positions` int64 (n,): where the path was left; `steps` int64 (n,): the index into
    `left_at_names` of the exit or head; `confidences` float32 (n,); `probabilities` and `logits` float32 (n, classes);
    `macs` int64 (n,): of the methods that were run; `outside` bool (n,): whether the answer is that the input belongs
    to none of the classes, None if the bundle has no rule for that.
    """

    configuration: str
    left_at_names: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    confidences: Array
    probabilities: Array
    logits: Array
    macs: npt.NDArray[np.int64]
    outside: npt.NDArray[np.bool_] | None = None

    @property
    def outside_share(self) -> float | None:
        """Which share of the samples, 0 to 1, was answered to be outside; None without a rule."""
        return None if self.outside is None else float(self.outside.mean())

    @property
    def mean_macs(self) -> float:
        """Multiply-accumulates of a sample, on average."""
        return float(self.macs.mean())

    @property
    def exit_shares(self) -> dict[str, float]:
        """Which share of the samples, 0 to 1, was left at each exit and the head, by ``program/method``."""
        counts = np.bincount(self.steps, minlength=len(self.left_at_names))
        return {name: int(count) / len(self.steps) for name, count in zip(self.left_at_names, counts, strict=True)}

    def accuracy(self, truth: npt.NDArray[np.int64]) -> float:
        """The share of samples, 0 to 1, whose label is the true one."""
        return float((self.labels == truth).mean())


def evaluate(session: Session, split: Samples, *, progress: Progress = silent) -> Evaluation:
    """Run the configuration in force over all samples of a split, in order.

    The configuration is the one in force at the beginning; switches meanwhile do not change it. The samples go one by
    one, as in a phone, since programs have a batch of one.

    Raises:
        EbbtideError: what a prediction raises.
    """
    model = session.manifest.model
    with session.pinned() as configuration:
        return run_path(configuration, split, classes=len(model.classes), rule=model.outside, progress=progress)


def run_path(
    configuration: Configuration,
    split: Samples,
    *,
    classes: int,
    rule: OutsideEntry | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Run a bound configuration over all samples of a split; see `evaluate`."""
    count = len(split)
    leaves = [step for step in configuration.steps if not step.is_stage]
    index_of = {id(step): index for index, step in enumerate(leaves)}
    steps = np.empty(count, dtype=np.int64)
    confidences = np.empty(count, dtype=np.float32)
    probabilities = np.empty((count, classes), dtype=np.float32)
    logits = np.empty((count, classes), dtype=np.float32)
    outside = np.zeros(count, dtype=np.bool_)
    with progress.task(f"running {configuration.id}", count) as task:
        for index, tensor in _tensors(split):
            visit = walk(configuration.steps, tensor)
            steps[index] = index_of[id(visit.step)]
            confidences[index] = visit.confidence
            probabilities[index] = visit.probabilities
            logits[index] = visit.logits
            outside[index] = bool(answer(visit, rule)[1])
            if (index + 1) % _BLOCK == 0 or index + 1 == count:
                task.advance(index % _BLOCK + 1)
    return Evaluation(
        configuration=configuration.id,
        left_at_names=tuple(step.reference for step in leaves),
        labels=logits.argmax(axis=1),
        positions=np.array([step.position for step in leaves], dtype=np.int64)[steps],
        steps=steps,
        confidences=confidences,
        probabilities=probabilities,
        logits=logits,
        macs=np.array([step.macs for step in leaves], dtype=np.int64)[steps],
        outside=None if rule is None else outside,
    )


def _tensors(split: Samples) -> Iterator[tuple[int, Array]]:
    for start in range(0, len(split), _BLOCK):
        block = np.asarray(split.tensor(np.arange(start, min(start + _BLOCK, len(split)))), dtype=np.float32)
        for offset in range(len(block)):
            yield start + offset, block[offset : offset + 1]
