"""A small but real bundle for the runner's tests: that of the runtime's tests, lowered for ExecuTorch."""

from __future__ import annotations

import sys
from pathlib import Path

from ebbtide.bundle import BundleDraft, OutsideEntry, ProgramEntry, TensorEntry

TESTS = Path(__file__).parents[2]

for folder in (TESTS / "unit" / "runtime", TESTS / "vectors"):
    sys.path.insert(0, str(folder))

from runtime_bundles import WIDTHS, manifest, program  # noqa: E402 - they lie beside other tests
from runtime_programs import lowered_programs  # noqa: E402

__all__ = ["draft", "laid_out", "lowered_programs"]


def laid_out(program: ProgramEntry) -> ProgramEntry:
    """The program with the boundaries in the order of memory that convolutions are lowered to."""

    def last(tensors: tuple[TensorEntry, ...]) -> tuple[TensorEntry, ...]:
        return tuple(
            one.model_copy(update={"layout": "channels_last"}) if len(one.shape) == 4 else one for one in tensors
        )

    methods = (
        method.model_copy(
            update={
                "inputs": method.inputs if method.name == "stage0" else last(method.inputs),
                "outputs": last(method.outputs),
            }
        )
        for method in program.methods
    )
    return program.model_copy(update={"methods": tuple(methods)})


def draft(**parts: object) -> BundleDraft:
    """What a build decides about the bundle; `parts` replace top-level fields."""
    parts.setdefault("programs", tuple(laid_out(program(width)) for width in WIDTHS))
    whole = manifest(outside=OutsideEntry(score="energy", fallback=None), outside_above=-4.0)
    return BundleDraft(**{name: parts.get(name, getattr(whole, name)) for name in BundleDraft.model_fields})
