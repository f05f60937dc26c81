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

    As a bundle has it: a stage before each boundary, and what follows the last one in the head. The methods are called
    through ExecuTorch's own bindings, each stage's output handed on as it is: what a session adds is a figure of its
    own. None without the shared benchmark data.
    """
    data = Path(os.environ.get("EBBTIDE_DATA") or ROOT.parent / "shared" / "data")
    if not (data / "meta.json").is_file():
        return None
    sys.path.insert(0, str(ADAPTERS))
    import torch
    from executorch.extension.pybindings import portable_lib
    from resnet_cifar import cifar10_resnet20

    from ebbtide.engine import ExecuTorchEngine
    from ebbtide.lowering import ProgramSpec, lower_programs
    from ebbtide.model import capture, choose_cuts, split
    from ebbtide.profiling import Plan, compare

    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    graph = capture(cifar10_resnet20(), (3, 32, 32)).eval()
    staged = split(graph, choose_cuts(graph, stages)[:-1], clone=True)
    spec = ProgramSpec("staged", staged.stages, {}, staged.head, {"head": 1.0}, (3, 32, 32))
    lower_programs([spec, spec.dense("dense")], place)
    ExecuTorchEngine(threads=1)  # fixes the process's thread count
    staged_program, dense_program = (portable_lib._load_program(str(place / f"{n}.pte")) for n in ("staged", "dense"))
    methods = [staged_program.load_method(f"stage{i}") for i in range(stages - 1)]
    methods.append(staged_program.load_method("head"))
    forward = dense_program.load_method("forward")
    sample = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def many() -> None:
        value = sample
        for method in methods:
            value = method((value,), False)[0]

    plan = Plan(warm_up=20, rounds=60, repeats=10, settle=2)
    return [100 * (compare(many, lambda: forward((sample,), False), plan=plan).ratio - 1) for _ in range(repeats)]
