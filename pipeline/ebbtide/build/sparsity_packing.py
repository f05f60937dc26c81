"""The packed form of a masked model, written beside the report, and what it takes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ebbtide.build.backbone import Backbone
from ebbtide.build.bundles import packed_bytes
from ebbtide.build.nesting import load_nested
from ebbtide.build.project import TORCH, read_json
from ebbtide.build.sparsity import Shrinking, check_levels
from ebbtide.build.widths import Nesting
from ebbtide.steps import write_bytes, write_json

PACKED, DENSE = "model.ebbpack", "dense.safetensors"


def pack_model(shrinking: Shrinking, widest: Backbone, nesting: Nesting | None, output: Path) -> dict[str, Any] | None:
    """Write the masked model in its packed form; every width is held against the masks first.

    Args:
        shrinking: with the masks.
        widest: what ships, the whole network.
        nesting: of widths tuned under the masks; None without.
        output: folder of the report.

    Returns:
        ``file``, and in bytes ``packed``, ``packed_xz``, ``dense`` and ``dense_xz`` of the whole model; ``formula`` of
        the masked layers (`ebbtide.sparsity.packed.PackedSize`), ``sparsity`` and ``kept_macs``; None where nothing is
        masked.

    Raises:
        EbbtideError: ``sparsity.masks`` or ``sparsity.packed`` where a width does not keep the pattern.
    """
    if shrinking.workshop.section.pattern != "hybrid":
        # What an earlier recipe built here would otherwise look current.
        (output / PACKED).unlink(missing_ok=True)
        return None
    project = widest.project
    inputs = {"weights": widest.weights_digest, "masks": project.store.digest(shrinking.masks_file)}

    def produce(folder: Path, _: Path) -> None:
        from safetensors.torch import save

        from ebbtide.sparsity.packed import pack, packed_size

        if nesting is not None:
            check_levels(shrinking, load_nested(widest.universal, nesting.own.folder))
        masks, graph = shrinking.masks, widest.graph
        assert masks is not None
        write_bytes(folder / PACKED, pack(graph, masks))
        write_bytes(folder / DENSE, save({name: t.contiguous() for name, t in graph.state().items()}))
        facts = {"formula": asdict(packed_size(masks)), "sparsity": masks.sparsity(), "kept_macs": masks.kept_macs()}
        write_json(folder / "size.json", facts)

    code = ("ebbtide.sparsity", "ebbtide.nesting", "ebbtide.model")
    folder = project.step("packed-model", inputs, produce, code=code, libraries=(*TORCH, "safetensors"))
    found: dict[str, Any] = read_json(folder / "size.json")
    for name, file in (("packed", PACKED), ("dense", DENSE)):
        found[name] = (folder / file).stat().st_size
        found[f"{name}_xz"] = packed_bytes(project, {file: folder / file})
    write_bytes(output / PACKED, (folder / PACKED).read_bytes())
    return {**found, "file": PACKED}
