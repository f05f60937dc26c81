"""What every exit and the head said of every sample of a split: all that thresholds are ever chosen from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp


@dataclass(frozen=True)
class Records:
    """Predictions and confidences of one (width, precision, split).

    Rows are the exits in order of position, then the head.

    Attributes:
        positions: of the exits, ascending; P of them.
        labels: (n,) int64.
        predictions: (P + 1, n) int64.
        confidences: (P + 1, n) float32, log-odds of the best class after temperature.
    """

    positions: tuple[int, ...]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidences: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, positions: Sequence[int]) -> Records:
        """The records with some exits left out."""
        rows = [self.positions.index(p) for p in positions] + [len(self.positions)]
        return Records(tuple(positions), self.labels, self.predictions[rows], self.confidences[rows])

    def first(self, count: int) -> Records:
        """The first `count` samples."""
        return Records(self.positions, self.labels[:count], self.predictions[:, :count], self.confidences[:, :count])

    def save(self, file: Path) -> None:
        """Write as .npz without pickles."""
        with file.open("wb") as stream:
            np.savez(
                stream,
                positions=np.array(self.positions, dtype=np.int64),
                labels=self.labels,
                predictions=self.predictions,
                confidences=self.confidences,
            )

    @classmethod
    def load(cls, file: Path) -> Records:
        """Read what `save` wrote."""
        with np.load(file, allow_pickle=False) as arrays:
            return cls(
                positions=tuple(int(p) for p in arrays["positions"]),
                labels=arrays["labels"],
                predictions=arrays["predictions"],
                confidences=arrays["confidences"],
            )


def confidences(logits: NDArray[np.float32], temperature: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Best class (lowest index on a tie) and its log-odds after temperature: z_best - log(sum of exp of the others).

    In float64 and then rounded; the log-odds do not saturate where the largest probability is 1 in float32.

    Args:
        logits: (n, classes), at least two classes.
        temperature: > 0.
    """
    scores = logits.astype(np.float64) / temperature
    best = scores.argmax(axis=1)
    rows = np.arange(len(scores))
    top = scores[rows, best]
    scores[rows, best] = -np.inf
    return best.astype(np.int64), (top - logsumexp(scores, axis=1)).astype(np.float32)


def record(
    labels: NDArray[np.int64],
    logits: Mapping[int, NDArray[np.float32]],
    head: NDArray[np.float32],
    *,
    temperatures: Mapping[str, float],
) -> Records:
    """Records from logits.

    Args:
        labels: (n,).
        logits: of each exit by position, (n, classes).
        head: logits of the head, (n, classes).
        temperatures: by method name: ``exit0``, ..., ``head``.
    """
    positions = tuple(sorted(logits))
    rows = [confidences(logits[p], temperatures[f"exit{p}"]) for p in positions]
    rows.append(confidences(head, temperatures["head"]))
    return Records(
        positions=positions,
        labels=np.asarray(labels),
        predictions=np.stack([best for best, _ in rows]),
        confidences=np.stack([confidence for _, confidence in rows]),
    )
