"""Programs of nested widths for measurements at run time: lowered once, and served to a session like a bundle's."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ebbtide.bundle import (
    BundleDraft,
    ConfigurationEntry,
    DeviceEntry,
    Expected,
    FileEntry,
    InputEntry,
    Manifest,
    MethodEntry,
    ModelEntry,
    PathStep,
    PayloadEntry,
    ProgramEntry,
    RuntimeEntry,
    Scored,
    TensorEntry,
    float32,
    new_key,
    write_bundle,
)
from ebbtide.bundle.manifest import DEFAULT_POLICY
from ebbtide.engine import Array
from ebbtide.lowering import LoweredProgram, ProgramSpec, lower_programs
from ebbtide.model import Graph, capture, choose_cuts, split
from ebbtide.model.coupling import coupling_groups, narrow
from ebbtide.steps import write_json


def lower_widths(levels: Mapping[str, Graph], place: Path, *, stages: int = 1) -> tuple[LoweredProgram, ...]:
    """Lower one program a level, in `stages` methods; what lies in `place` already is taken as it is.

    Args:
        levels: plain graphs by name, the widest first.
        place: made if need be; keep it for these levels alone.
        stages: 1 makes one method of the whole network.
    """
    place.mkdir(parents=True, exist_ok=True)
    record = place / "programs.json"
    if record.is_file():
        known = [LoweredProgram.from_json(entry, place) for entry in json.loads(record.read_bytes())]
        if [entry.file.stem for entry in known] == list(levels):
            return tuple(known)
    specs = []
    for name, graph in levels.items():
        if stages == 1:
            spec = ProgramSpec(name, [], {}, graph.module, {"head": 1.0}, graph.input_shape).dense(name)
        else:
            parts = split(graph, choose_cuts(graph, stages)[:-1], clone=True)
            spec = ProgramSpec(name, parts.stages, {}, parts.head, {"head": 1.0}, graph.input_shape)
        specs.append(spec)
    lowered = lower_programs(specs, place)
    write_json(record, [entry.to_json() for entry in lowered])
    return lowered


def small_widths(place: Path) -> tuple[LoweredProgram, ...]:
    """Three widths of a small network of three convolutions, each in two stages: enough to switch, quick to run."""
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, 2, 1)]
    network = nn.Sequential(*body, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))
    graph = capture(network.eval(), (3, 8, 8)).eval()
    coupling = coupling_groups(graph)
    levels = {"w100": graph}
    for name, share in (("w50", 2), ("w25", 4)):
        levels[name] = narrow(graph, coupling, {group.name: group.size // share for group in coupling.groups})
    return lower_widths(levels, place, stages=2)


@dataclass(frozen=True)
class Widths:
    """Programs of several widths as the session takes them: a configuration a program, named like its file."""

    manifest: Manifest
    folder: Path

    @classmethod
    def of(
        cls,
        programs: Sequence[LoweredProgram],
        thresholds: Mapping[str, Mapping[str, float]] = {},
        types: Mapping[str, str] = {},
    ) -> Widths:
        """A manifest as a bundle of these programs would have it, without signature; accuracies are not measured.

        Args:
            programs: the widest first.
            thresholds: by program, those of its exits' methods.
            types: of the exits by method.
        """
        return cls(_manifest(programs, thresholds, types), programs[0].file.parent)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.id for entry in self.manifest.configurations)

    def path_of(self, path: str) -> Path:
        return self.folder / Path(path).name

    def write(self, folder: Path) -> None:
        """A signed bundle of it, for what reads bundles from files."""
        draft = BundleDraft(**{name: getattr(self.manifest, name) for name in BundleDraft.model_fields})
        files = {entry.path: self.path_of(entry.path) for entry in self.manifest.files}
        with tempfile.TemporaryDirectory() as place:
            write_bundle(folder, draft, files, key=new_key(Path(place) / "key.pem"))

    def samples(self, count: int, seed: int = 0) -> Array:
        """Inputs of noise, float32 (count, 1, ...)."""
        shape = self.manifest.model.input.shape
        return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def _manifest(
    programs: Sequence[LoweredProgram], thresholds: Mapping[str, Mapping[str, float]], types: Mapping[str, str]
) -> Manifest:
    def path(entry: ProgramEntry) -> tuple[PathStep, ...]:
        own = thresholds.get(entry.id, {})
        return tuple(
            PathStep(
                method=f"{entry.id}/{method.name}",
                threshold=float32(own[method.name]) if method.kind == "exit" else None,
            )
            for method in entry.methods
        )

    first, last = programs[0].methods[0], programs[0].methods[-1]
    shape, classes = first.inputs[0].shape, last.outputs[0].shape[1]
    entries = tuple(_program(entry, types) for entry in programs)
    color: Literal["RGB", "gray"] = "RGB" if shape[1] == 3 else "gray"
    return Manifest(
        name="widths",
        sequence=1,
        created="2026-01-01T00:00:00Z",
        generator="benchmark",
        key_id="0" * 16,
        device=DeviceEntry(profile="host", platform="linux"),
        runtime=RuntimeEntry(engine="executorch", min="1.5.0", max_exclusive="9.0.0", backends=("xnnpack",)),
        model=ModelEntry(
            classes=tuple(f"class {index}" for index in range(classes)),
            universal_classes=classes,
            outside=None,
            input=InputEntry(
                kind="image",
                shape=shape,
                dtype="float32",
                layout="NCHW",
                color=color,
                crop="center",
                resize="bilinear-v1",
                scale=(1.0,) * shape[1],
                bias=(0.0,) * shape[1],
            ),
        ),
        files=tuple(
            FileEntry(path=f"programs/{one.file.name}", size=one.size_bytes, sha256=one.sha256) for one in programs
        ),
        payload=PayloadEntry(format="raw"),
        programs=entries,
        configurations=tuple(
            ConfigurationEntry(
                id=entry.id,
                path=path(entry),
                expected=Expected(
                    select=Scored(accuracy=0.0, n=1),
                    test=None,
                    mean_macs=sum(method.macs for method in entry.methods),
                    latency_us=None,
                    peak_bytes=max(method.peak_bytes for method in entry.methods),
                    energy_uj=None,
                ),
            )
            for entry in entries
        ),
        tiers=tuple(entry.id for entry in entries[:4]),
        policy=DEFAULT_POLICY,
    )


def _program(entry: LoweredProgram, types: Mapping[str, str]) -> ProgramEntry:
    def tensors(values: Any) -> tuple[TensorEntry, ...]:
        return tuple(
            TensorEntry(shape=v.shape, dtype=v.dtype, layout=None if v.layout == "contiguous" else v.layout)
            for v in values
        )

    return ProgramEntry(
        id=entry.file.stem,
        width=entry.file.stem if entry.file.stem.startswith("w") else "w100",
        precision="float32",
        processor="cpu",
        format="pte",
        file=f"programs/{entry.file.name}",
        methods=tuple(
            MethodEntry(
                name=method.name,
                kind=method.kind,
                position=method.position,
                type=types.get(method.name),
                inputs=tensors(method.inputs),
                outputs=tensors(method.outputs),
                macs=method.macs,
                peak_bytes=method.peak_bytes,
            )
            for method in entry.methods
        ),
    )
