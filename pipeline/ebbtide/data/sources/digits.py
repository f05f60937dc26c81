"""scikit-learn's digits: 1,797 real scans of handwritten digits, 8 x 8 gray; in every installation, no network."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from ebbtide.data.source import Samples, Source, array_source


def open_source(value: Any, *, allow_code: bool) -> Source:
    """The digits as uint8: their 17 levels (0..16) become ``(255 * level + 8) // 16``, so 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    levels = bunch.images.astype(np.int64)
    return array_source(
        Samples(
            images=((255 * levels + 8) // 16).astype(np.uint8),
            labels=bunch.target.astype(np.int64),
            classes=[str(name) for name in bunch.target_names],
            ids=[f"digits/{i:04}" for i in range(len(levels))],
            name="scikit-learn digits",
        ),
        place="data.digits",
    )


def fingerprint(value: Any, *, allow_code: bool) -> str:
    """The version of the package that carries the data."""
    return f"scikit-learn digits {importlib.metadata.version('scikit-learn')}"
