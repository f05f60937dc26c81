"""Large bundles: how long they take to write and verify, and how little memory that needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ebbtide.bundle import (
    BundleDraft,
    ConfigurationEntry,
    DeviceEntry,
    Expected,
    InputEntry,
    MethodEntry,
    ModelEntry,
    PathStep,
    ProgramEntry,
    RuntimeEntry,
    Scored,
    TensorEntry,
    new_key,
    open_bundle,
    write_bundle,
    write_public_key,
)

VERIFY = """
import sys
from pathlib import Path
from ebbtide.bundle import load_public_key, open_bundle

def status(name):
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(name))
    return int(line.split()[1])

folder = Path(sys.argv[1])
key = load_public_key(folder.parent / "public.pem")
before = status("VmRSS")
# A process inherits its parent's peak; this begins a new one.
Path("/proc/self/clear_refs").write_text("5")
open_bundle(folder, [key])
print((status("VmHWM") - before) / 1024)
"""


def draft() -> BundleDraft:
    """A bundle of one dense program, whatever its bytes are; nothing here is run."""
    image = TensorEntry(shape=(1, 3, 32, 32), dtype="float32")
    outputs = tuple(TensorEntry(shape=shape, dtype="float32") for shape in ((1, 2), (1,), (1, 2)))
    head = MethodEntry(
        name="head", kind="head", position=0, inputs=(image,), outputs=outputs, macs=1_000_000, peak_bytes=12_288
    )
    expected = Expected(
        select=Scored(accuracy=0.9, n=100),
        test=None,
        mean_macs=1_000_000,
        latency_us=None,
        peak_bytes=12_288,
        energy_uj=None,
    )
    return BundleDraft(
        name="load",
        sequence=1,
        device=DeviceEntry(profile="host", platform="linux"),
        runtime=RuntimeEntry(engine="executorch", min="1.5.0", max_exclusive="1.7.0", backends=("xnnpack",)),
        model=ModelEntry(
            classes=("a", "b"),
            universal_classes=2,
            input=InputEntry(
                kind="image",
                shape=(1, 3, 32, 32),
                dtype="float32",
                layout="NCHW",
                color="RGB",
                crop="center",
                resize="bilinear-v1",
                scale=(1.0, 1.0, 1.0),
                bias=(0.0, 0.0, 0.0),
            ),
        ),
        programs=(
            ProgramEntry(
                id="w100-f32-cpu",
                width="w100",
                precision="float32",
                processor="cpu",
                format="pte",
                file="programs/w100-f32-cpu.pte",
                methods=(head,),
            ),
        ),
        configurations=(ConfigurationEntry(id="c0", path=(PathStep(method="w100-f32-cpu/head"),), expected=expected),),
        tiers=("c0",),
    )


def noise(file: Path, size_bytes: int) -> Path:
    """A file of random bytes."""
    with file.open("wb") as stream:
        for start in range(0, size_bytes, 1 << 20):
            stream.write(os.urandom(min(1 << 20, size_bytes - start)))
    return file


def write_sign_verify_s(place: Path, *, size_bytes: int) -> float:
    """Seconds to write, sign and verify a raw bundle of that size."""
    place.mkdir()
    program = noise(place / "program.pte", size_bytes)
    key = new_key(place / "key.pem")
    start = time.perf_counter()
    write_bundle(place / "bundle", draft(), {"programs/w100-f32-cpu.pte": program}, key=key)
    open_bundle(place / "bundle", [key.public])
    seconds = time.perf_counter() - start
    shutil.rmtree(place)
    return seconds


def verify_growth_mib(place: Path, *, size_bytes: int) -> float:
    """MiB by which a fresh process grows, at its largest, while it verifies a raw bundle of that size."""
    place.mkdir()
    program = noise(place / "program.pte", size_bytes)
    key = new_key(place / "key.pem")
    write_public_key(key.public, place / "public.pem")
    write_bundle(place / "bundle", draft(), {"programs/w100-f32-cpu.pte": program}, key=key)
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, str(place / "bundle")], capture_output=True, text=True, check=True
    )
    shutil.rmtree(place)
    return float(done.stdout)
