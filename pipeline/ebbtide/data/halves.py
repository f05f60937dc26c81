"""The one named exception to three splits: halves of the official test samples, for weights that saw all others.

A model that was trained elsewhere on every training sample is surer of those than of any new one, so temperatures and
thresholds chosen on some of them would be wrong. Then they are chosen on one half of the test samples and reported on
the other, which nothing was chosen on; and because every half is as good as the other, the halves change places too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError

TEST_HALVES = "test-halves"
HALVES_NOTE = (
    "Temperatures and thresholds are chosen on one half of the official test samples and reported on the other "
    "(split: test-halves); everything else trains exits."
)


def test_halves(
    ids: Sequence[str],
    labels: NDArray[np.int64],
    contents: Sequence[bytes],
    given: Sequence[str] | None,
    *,
    choose_on: Literal["first", "second"],
) -> list[str]:
    """The official split of every sample, where one half of the test samples is named select.

    In each class the contents of the official test samples go to the first and the second half in turn, in the order of
    their ids, so copies stay together and both halves have as many of a class as can be. Every other sample is train.

    Args:
        ids, labels, contents: per sample: unique text, class, digest of what the model will see.
        given: official split per sample.
        choose_on: which half becomes select.

    Raises:
        EbbtideError: data.halves if there are no official test samples.
    """
    tests = [i for i, split in enumerate(given or ()) if split == "test"]
    if not tests:
        raise EbbtideError(
            "data.halves",
            "The data has no official test samples to take halves of.",
            expected="a source with a test set of its own",
            hint="Give shares of train, select and test instead.",
            place="data.split",
        )
    half_of: dict[bytes, bool] = {}
    counts: dict[int, int] = {}
    for i in sorted(tests, key=ids.__getitem__):
        if contents[i] not in half_of:
            label = int(labels[i])
            half_of[contents[i]] = counts.get(label, 0) % 2 == 0
            counts[label] = counts.get(label, 0) + 1
    splits = ["train"] * len(ids)
    for i in tests:
        splits[i] = "select" if half_of[contents[i]] == (choose_on == "first") else "test"
    return splits
