"""Small but real bundles for tests: two programs of random bytes, of which the second repeats slices of the first."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from manifest_base import changed, put

from ebbtide.bundle import BundleDraft


def draft(**parts: Any) -> BundleDraft:
    """What a build decides, as in `manifest_base`; `parts` replace top-level fields."""
    document = changed(*(put(name, value) for name, value in parts.items()))
    return BundleDraft.model_validate({name: document[name] for name in BundleDraft.model_fields})


def files(folder: Path, *, size: int = 6000, seed: int = 1) -> dict[str, Path]:
    """Path in the bundle -> a file made below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(seed)
    blocks = (generator.randbytes(min(1 << 20, size - start)) for start in range(0, size, 1 << 20))
    wide = b"".join(blocks)
    made = {}
    for name, content in {"w100": wide, "w50": wide[: size // 4] + wide[size // 2 : 3 * size // 4]}.items():
        path = folder / f"{name}.pte"
        path.write_bytes(content)
        made[f"programs/{name}-f32-cpu.pte"] = path
    return made
