"""``ebb bench --engine runner``: the C++ runner's measurements of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.steps import Progress, silent, storage_errors, write_bytes

if TYPE_CHECKING:
    from ebbtide.profiling import Results


def bench_runner(
    bundle: Path,
    source: Path | None = None,
    *,
    repeats: int = 20,
    trusted: Sequence[Path] | None = None,
    output: Path | None = None,
    progress: Progress = silent,
) -> Results:
    """Time every tier of a bundle with the C++ runner on real inputs, preprocessed here.

    Args:
        bundle: a bundle's folder; a packed one is unpacked to a passing place.
        source: an image, a folder or an .npz; None for what a build left beside its bundles.
        repeats: passes over the inputs.
        trusted: public keys, any one of which may have signed; by default this machine's development key.
        output: a file that gets the raw times, in the form of ``devices/results.schema.json``.
        progress: told what is being done; the runner itself is silent.

    Raises:
        EbbtideError: ``runtime.runner`` without a runner, ``steps.read_only``, and what opening, reading and
            measuring raise.
    """
    from ebbtide.api import _bench_inputs, _trusted
    from ebbtide.bundle import open_unpacked
    from ebbtide.runtime.runner import find_runner, run_bench

    find_runner()
    keys = _trusted(trusted)
    inputs = _bench_inputs(bundle, source)
    import numpy as np

    from ebbtide.data import preprocess
    from ebbtide.runtime.session import input_spec

    with open_unpacked(bundle, keys) as opened:
        spec = input_spec(opened.manifest)
        tensors = np.stack([preprocess(value, spec) for value in inputs])
        key = next(one for one in keys if one.key_id == opened.key_id)
        with progress.task(f"measuring {len(opened.manifest.tiers)} tiers in C++"):
            found = run_bench(opened.folder, tensors, rounds=repeats, key=key)
    if output is not None:
        with storage_errors(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(output, found.to_bytes())
    return found
