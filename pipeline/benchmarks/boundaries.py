"""What a boundary between stages costs: all methods of a staged program against the same model as one method."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

ADAPTERS = Path(__file__).resolve().parent / "adapters"
ROOT = Path(__file__).resolve().parents[2]


def resnet20_boundary_percent(place: Path, *, stages: int, repeats: int = 5) -> list[float] | None:
    """Percent by which ResNet-20 cut into stages is slower than one method, one value a repeat; one thread.

    As a bundle has it: a stage before each boundary, and what follows the last one in the head. None without the
    shared benchmark data.
    """
    data = Path(os.environ.get("EBBTIDE_DATA") or ROOT.parent / "shared" / "data")
    if not (data / "meta.json").is_file():
        return None
    sys.path.insert(0, str(ADAPTERS))
    import numpy as np
    from resnet_cifar import cifar10_resnet20

    from ebbtide.engine import ExecuTorchEngine
    from ebbtide.lowering import ProgramSpec, lower_programs
    from ebbtide.model import capture, choose_cuts, split
    from ebbtide.profiling import Plan, compare, method_call, path_call

    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    graph = capture(cifar10_resnet20(), (3, 32, 32)).eval()
    staged = split(graph, choose_cuts(graph, stages)[:-1], clone=True)
    spec = ProgramSpec("staged", staged.stages, {}, staged.head, {"head": 1.0}, (3, 32, 32))
    lower_programs([spec, spec.dense("dense")], place)
    engine = ExecuTorchEngine(threads=1)
    many, one = engine.load(place / "staged.pte"), engine.load(place / "dense.pte")
    sample = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    steps = [(many, f"stage{i}") for i in range(stages - 1)] + [(many, "head")]
    plan = Plan(warm_up=20, rounds=60, repeats=10, settle=2)
    return [
        100 * (compare(path_call(steps, sample), method_call(one, "forward", sample), plan=plan).ratio - 1)
        for _ in range(repeats)
    ]
