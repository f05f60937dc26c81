"""Small bundles for the runtime's tests: two widths of a two-stage network on 8 x 8 grey images of four classes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ebbtide.bundle.manifest import (
    DEFAULT_POLICY,
    ConfigurationEntry,
    DeviceEntry,
    Expected,
    FileEntry,
    InputEntry,
    Manifest,
    MethodEntry,
    ModelEntry,
    OutsideEntry,
    PathStep,
    PayloadEntry,
    ProgramEntry,
    RuntimeEntry,
    Scored,
    TensorEntry,
    float32,
)
from ebbtide.engine import Array, EagerEngine, Loaded
from ebbtide.runtime import Session

CLASSES = ("daisy", "rose", "tulip", "weed")
SCALE, BIAS = float32(1 / 127.5), -1.0
WIDTHS = {"w100": 6, "w50": 3}
# Medians of the exits' confidences over `images`, so that both ways are taken.
SURE, SMALL = float32(-0.19), float32(2.67)


class Logits(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 8 * self.linear(x.mean((2, 3)))


class Classifier(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.logits = Logits(channels)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = self.logits(x)
        best, label = logits.max(1)
        others = logits.masked_fill(nn.functional.one_hot(label, len(CLASSES)).bool(), float("-inf"))
        return logits.softmax(1), best - others.logsumexp(1), logits


def modules(channels: int, seed: int) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    made: dict[str, nn.Module] = {
        "stage0": nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()),
        "exit0": Classifier(channels),
        "stage1": nn.Sequential(nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.ReLU()),
        "head": Classifier(channels),
    }
    return {name: module.eval() for name, module in made.items()}


def all_modules() -> dict[str, dict[str, nn.Module]]:
    return {width: modules(channels, seed) for seed, (width, channels) in enumerate(WIDTHS.items())}


def tensor(*shape: int) -> TensorEntry:
    return TensorEntry(shape=shape, dtype="float32")


def program(width: str) -> ProgramEntry:
    channels = WIDTHS[width]
    outputs = (tensor(1, len(CLASSES)), tensor(1), tensor(1, len(CLASSES)))
    early, late = tensor(1, channels, 8, 8), tensor(1, channels, 4, 4)
    return ProgramEntry(
        id=width,
        width=width,
        precision="float32",
        processor="cpu",
        format="pte",
        file=f"programs/{width}.pte",
        methods=(
            MethodEntry(
                name="stage0",
                kind="stage",
                position=0,
                inputs=(tensor(1, 1, 8, 8),),
                outputs=(early,),
                macs=channels * 576,
                peak_bytes=64,
            ),
            MethodEntry(
                name="exit0",
                kind="exit",
                position=0,
                type="pool-linear",
                inputs=(early,),
                outputs=outputs,
                macs=channels * 4,
                peak_bytes=64,
            ),
            MethodEntry(
                name="stage1",
                kind="stage",
                position=1,
                inputs=(early,),
                outputs=(late,),
                macs=channels * channels * 144,
                peak_bytes=64,
            ),
            MethodEntry(
                name="head",
                kind="head",
                position=2,
                inputs=(late,),
                outputs=outputs,
                macs=channels * 4,
                peak_bytes=64,
            ),
        ),
    )


def configuration(
    name: str, width: str, *, threshold: float | None, accuracy: float, mean_macs: int, outside: float | None = None
) -> ConfigurationEntry:
    strange = None if outside is None else float32(outside)
    exits = (
        () if threshold is None else (PathStep(method=f"{width}/exit0", threshold=float32(threshold), outside=strange),)
    )
    return ConfigurationEntry(
        id=name,
        path=(
            PathStep(method=f"{width}/stage0"),
            *exits,
            PathStep(method=f"{width}/stage1"),
            PathStep(method=f"{width}/head", outside=strange),
        ),
        expected=Expected(
            select=Scored(accuracy=accuracy, n=100),
            test=None,
            mean_macs=mean_macs,
            latency_us=None,
            peak_bytes=64,
            energy_uj=None,
        ),
    )


def manifest(
    *,
    outside: OutsideEntry | None = None,
    outside_above: float = 0.0,
    files: tuple[FileEntry, ...] | None = None,
    engine_range: str = "1.5.0",
) -> Manifest:
    """With a rule for what is outside, every exit and head has the same threshold for it."""
    above = None if outside is None else outside_above
    return Manifest(
        name="flowers",
        sequence=3,
        created="2026-11-21T12:00:00Z",
        generator="test",
        key_id="0" * 16,
        device=DeviceEntry(profile="host", platform="linux"),
        runtime=RuntimeEntry(engine="executorch", min=engine_range, max_exclusive="9.0.0", backends=("xnnpack",)),
        model=ModelEntry(
            classes=CLASSES,
            universal_classes=10,
            outside=outside,
            input=InputEntry(
                kind="image",
                shape=(1, 1, 8, 8),
                dtype="float32",
                layout="NCHW",
                color="gray",
                crop="center",
                resize="bilinear-v1",
                scale=(SCALE,),
                bias=(BIAS,),
            ),
        ),
        files=files or tuple(FileEntry(path=f"programs/{width}.pte", size=1, sha256="0" * 64) for width in WIDTHS),
        payload=PayloadEntry(format="raw"),
        programs=tuple(program(width) for width in WIDTHS),
        configurations=(
            configuration("full", "w100", threshold=None, accuracy=0.95, mean_macs=9000, outside=above),
            configuration("sure", "w100", threshold=SURE, accuracy=0.93, mean_macs=7000, outside=above),
            configuration("small", "w50", threshold=SMALL, accuracy=0.88, mean_macs=2000, outside=above),
            configuration("extra", "w50", threshold=None, accuracy=0.9, mean_macs=3000, outside=above),
        ),
        tiers=("full", "sure", "small"),
        policy=DEFAULT_POLICY,
    )


@dataclass(frozen=True)
class Folder:
    """A source whose files need not exist."""

    manifest: Manifest

    def path_of(self, path: str) -> Path:
        return Path(path)


class CountingEngine:
    """Counts what is loaded, and passes everything else on."""

    name = "eager"

    def __init__(self, programs: Mapping[str, Mapping[str, nn.Module]]) -> None:
        self._engine = EagerEngine(programs)
        self._lock = threading.Lock()
        self.open: list[str] = []
        self.most = 0
        self.loads = 0
        self.runs: list[tuple[str, str]] = []
        self.broken: set[str] = set()

    def load(self, path: Path) -> Loaded:
        if path.stem in self.broken:
            raise OSError("the flash is gone")
        with self._lock:
            self.open.append(path.stem)
            self.loads += 1
            self.most = max(self.most, len(self.open))
        return CountedProgram(self, path.stem, self._engine.load(path))

    def closed(self, program_id: str) -> None:
        with self._lock:
            self.open.remove(program_id)


class CountedProgram:
    def __init__(self, engine: CountingEngine, program_id: str, inner: Loaded) -> None:
        self._engine, self._id, self._inner = engine, program_id, inner
        self.methods = inner.methods

    def run(self, method: str, value: Array) -> tuple[Array, ...]:
        self._engine.runs.append((self._id, method))
        return self._inner.run(method, value)

    def close(self) -> None:
        self._inner.close()
        self._engine.closed(self._id)


def open_session(engine: CountingEngine | EagerEngine | None = None, **options: object) -> Session:
    return Session(Folder(manifest()), engine or CountingEngine(all_modules()), **options)


def images(count: int, seed: int = 0) -> np.ndarray:
    """Smooth random images, so that exits differ in how sure they are."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 2, 2), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def scaled(pixels: np.ndarray) -> Array:
    """What preprocessing makes of 8 x 8 images: float32 (n, 1, 8, 8)."""
    return (pixels[:, None].astype(np.float32) * np.float32(SCALE) + np.float32(BIAS)).astype(np.float32)
