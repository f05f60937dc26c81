"""Bundles of the small bundles' lowered programs: written, signed, packed, installed."""

from __future__ import annotations

from pathlib import Path

from runtime_bundles import WIDTHS, modules

from ebbtide.bundle import Bundle, BundleDraft, Manifest, Store, new_key, write_bundle
from ebbtide.lowering import ProgramSpec, lower


def lowered(width: str, seed: int, folder: Path) -> Path:
    parts = modules(WIDTHS[width], seed)
    spec = ProgramSpec(
        id=width,
        stages=[parts["stage0"], parts["stage1"]],
        exits={0: parts["exit0"].logits},
        head=parts["head"].logits,
        temperatures={"exit0": 1.0, "head": 1.0},
        input_shape=(1, 8, 8),
    )
    return lower(spec, folder / f"{width}.pte").file


def lowered_programs(folder: Path) -> dict[str, Path]:
    """The program of each width by its path in a bundle."""
    return {f"programs/{width}.pte": lowered(width, seed, folder) for seed, width in enumerate(WIDTHS)}


def installed(whole: Manifest, files: dict[str, Path], folder: Path) -> Bundle:
    """A bundle that says what this manifest does; its packed folder is ``bundle``, its key ``public.pem``."""
    key = new_key(folder / "key.pem")
    (folder / "public.pem").write_bytes(key.public.pem())
    draft = BundleDraft(**{name: getattr(whole, name) for name in BundleDraft.model_fields})
    write_bundle(folder / "bundle", draft, files, key=key, payload="xz")
    store = Store(folder / "store")
    store.install(folder / "bundle", [key.public])
    return store.current("flowers", [key.public])
