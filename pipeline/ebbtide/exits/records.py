"""What every exit and the head said of every sample of a split: all that thresholds are ever chosen from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from ebbtide.errors import EbbtideError
from ebbtide.exits.key import ExitKey


@dataclass(frozen=True)
class Records:
    """Predictions and confidences of one (level, precision, split), and of which: they mean nothing for another.

    Rows are the exits in order of position and type, then the head.

    Attributes:
        keys: of the E exits, ascending; several types may stand at one position.
        labels: (n,) int64.
        predictions: (E + 1, n) int64.
        confidences: (E + 1, n) float32, log-odds of the best class after temperature.
        level: name of the width whose exits these are, such as ``w100``.
        precision: number format that they ran in, such as ``float32``.
        split: name of the samples' split.

    Raises:
        EbbtideError: ``exits.records`` if keys are not ascending and distinct, or shapes do not fit.
    """

    keys: tuple[ExitKey, ...]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidences: NDArray[np.float32]
    level: str
    precision: str
    split: str

    def __post_init__(self) -> None:
        shape = (len(self.keys) + 1, len(self.labels))
        for name, values in (("predictions", self.predictions), ("confidences", self.confidences)):
            if values.shape != shape:
                raise EbbtideError(
                    "exits.records",
                    f"The {name} do not fit the exits and samples of the records",
                    expected=str(shape),
                    found=str(values.shape),
                )
        if list(self.keys) != sorted(set(self.keys)):
            raise EbbtideError(
                "exits.records",
                "The exits of records must be distinct and in order of position and type",
                found=", ".join(map(str, self.keys)),
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def positions(self) -> tuple[int, ...]:
        """The position of every exit row; one that several types share stands here once for each."""
        return tuple(key.position for key in self.keys)

    def only(self, keys: Sequence[ExitKey]) -> Records:
        """The records of these exits, given in order, and of the head."""
        rows = [self.keys.index(key) for key in keys] + [len(self.keys)]
        return replace(self, keys=tuple(keys), predictions=self.predictions[rows], confidences=self.confidences[rows])

    def first(self, count: int) -> Records:
        """The first `count` samples."""
        return self.samples(np.arange(min(count, len(self))))

    def samples(self, chosen: NDArray[np.int64], *, split: str | None = None) -> Records:
        """Some of the samples, by index, under another split's name if one is given."""
        return replace(
            self,
            labels=self.labels[chosen],
            predictions=self.predictions[:, chosen],
            confidences=self.confidences[:, chosen],
            split=split or self.split,
        )

    def require(self, *, level: str, precision: str) -> Records:
        """These records, if they are of that level and precision.

        Raises:
            EbbtideError: ``exits.identity``.
        """
        if (self.level, self.precision) != (level, precision):
            raise EbbtideError(
                "exits.identity",
                "Records, temperatures and tables of one width and precision cannot serve another",
                expected=f"{level}, {precision}",
                found=f"{self.level}, {self.precision}",
                hint="Record the exits of that width in that precision.",
            )
        return self

    def save(self, file: Path) -> None:
        """Write as .npz without pickles."""
        with file.open("wb") as stream:
            np.savez(
                stream,
                keys=np.array([str(key) for key in self.keys], dtype=np.str_),
                labels=self.labels,
                predictions=self.predictions,
                confidences=self.confidences,
                identity=np.array([self.level, self.precision, self.split], dtype=np.str_),
            )

    @classmethod
    def load(cls, file: Path, *, level: str, precision: str) -> Records:
        """Read what `save` wrote for this level and precision.

        Raises:
            EbbtideError: ``exits.identity`` if it was written for another.
        """
        with np.load(file, allow_pickle=False) as arrays:
            of_level, of_precision, split = (str(part) for part in arrays["identity"])
            return cls(
                keys=tuple(ExitKey.parse(str(key)) for key in arrays["keys"]),
                labels=arrays["labels"],
                predictions=arrays["predictions"],
                confidences=arrays["confidences"],
                level=of_level,
                precision=of_precision,
                split=split,
            ).require(level=level, precision=precision)


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
    logits: Mapping[ExitKey, NDArray[np.float32]],
    head: NDArray[np.float32],
    *,
    temperatures: Mapping[ExitKey, float],
    head_temperature: float,
    level: str,
    precision: str,
    split: str,
) -> Records:
    """Records from logits.

    Args:
        labels: (n,).
        logits: of each exit, (n, classes).
        head: logits of the head, (n, classes).
        temperatures: of each exit.
        head_temperature: of the head.
        level: name of the width.
        precision: number format that the logits come from.
        split: name of the samples' split.
    """
    keys = tuple(sorted(logits))
    rows = [confidences(logits[key], temperatures[key]) for key in keys]
    rows.append(confidences(head, head_temperature))
    return Records(
        keys=keys,
        labels=np.asarray(labels),
        predictions=np.stack([best for best, _ in rows]),
        confidences=np.stack([confidence for _, confidence in rows]),
        level=level,
        precision=precision,
        split=split,
    )
