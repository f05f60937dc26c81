"""A small but real bundle for the runner's tests: that of the runtime's tests, lowered for ExecuTorch."""

from __future__ import annotations

import sys
from pathlib import Path

from ebbtide.bundle import BundleDraft, OutsideEntry, ProgramEntry, TensorEntry, float32
from ebbtide.lowering import ProgramSpec, lower

TESTS = Path(__file__).parents[2]

for folder in (TESTS / "unit" / "runtime", TESTS / "vectors"):
    sys.path.insert(0, str(folder))

from runtime_bundles import WIDTHS, manifest, modules, program  # noqa: E402 - it lies beside other tests


def lowered_programs(folder: Path) -> dict[str, Path]:
    """The programs of two widths, by their paths in the bundle."""
    files = {}
    for seed, (width, channels) in enumerate(WIDTHS.items()):
        parts = modules(channels, seed)
        spec = ProgramSpec(
            id=width,
            stages=[parts["stage0"], parts["stage1"]],
            exits={0: parts["exit0"].logits},
            head=parts["head"].logits,
            temperatures={"exit0": 1.0, "head": 1.0},
            input_shape=(1, 8, 8),
        )
        files[f"programs/{width}.pte"] = lower(spec, folder / f"{width}.pte").file
    return files


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
    whole = manifest(outside=OutsideEntry(score="energy", threshold=float32(-4.0), fallback=None))
    return BundleDraft(**{name: parts.get(name, getattr(whole, name)) for name in BundleDraft.model_fields})
