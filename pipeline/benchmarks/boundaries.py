"""What a boundary between stages costs: all methods of a staged program against the same model as one method.

ResNet-20 cut as a bundle has it: a stage before each boundary, and what follows the last one in the head; one thread.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROUNDS, REPEATS = 60, 20


def lower_resnet20(place: Path, *, stages: int) -> bool:
    """Write staged.pte and dense.pte; False without the shared benchmark data."""
    data = Path(os.environ.get("EBBTIDE_DATA") or ROOT.parent / "shared" / "data")
    if not (data / "meta.json").is_file():
        return False
    sys.path.insert(0, str(HERE / "adapters"))
    from resnet_cifar import cifar10_resnet20

    from ebbtide.lowering import ProgramSpec, lower_programs
    from ebbtide.model import capture, choose_cuts, split

    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    graph = capture(cifar10_resnet20(), (3, 32, 32)).eval()
    staged = split(graph, choose_cuts(graph, stages)[:-1], clone=True)
    spec = ProgramSpec("staged", staged.stages, {}, staged.head, {"head": 1.0}, (3, 32, 32))
    lower_programs([spec, spec.dense("dense")], place)
    return True


def percent_in_cpp(place: Path, *, stages: int, turns: int) -> list[float] | None:
    """Percent by which the staged program is slower in ExecuTorch's C++ runtime, one value a turn.

    Each is the median over interleaved rounds of the ratio of medians. None without a C++ compiler.
    """
    compiler = shutil.which("c++") or shutil.which("g++")
    found = importlib.util.find_spec("executorch")
    if compiler is None or found is None or not found.submodule_search_locations:
        return None
    home = Path(next(iter(found.submodule_search_locations)))
    include, lib = home / "include", home / "lib"
    names = ("executorch", "executorch_kernels_optimized", "executorch_backend_xnnpack", "executorch_threadpool")
    # Kernels and delegates register themselves when they are loaded; the linker would drop them as unused.
    command = [compiler, "-O2", "-std=c++17", "-w", HERE / "boundary.cpp", f"-I{include}"]
    command += [f"-I{include}/executorch/runtime/core/portable_type/c10", "-DC10_USING_CUSTOM_GENERATED_MACROS"]
    command += ["-DET_EVENT_TRACER_ENABLED", f"-L{lib}", "-Wl,--no-as-needed", *(f"-l{name}" for name in names)]
    command += [f"-Wl,-rpath,{lib}", "-o", place / "boundary"]
    subprocess.run([str(part) for part in command], check=True)
    arguments = [place / "boundary", place / "staged.pte", place / "dense.pte", stages, ROUNDS, REPEATS]
    return [_turn([str(part) for part in arguments]) for _ in range(turns)]


def _turn(command: list[str]) -> float:
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    rounds = [line.split() for line in said.splitlines()]
    return 100 * (statistics.median(float(many) / float(one) for many, one in rounds) - 1)


def percent_in_python(place: Path, *, stages: int, turns: int) -> list[float]:
    """The same through ExecuTorch's Python bindings, each stage's output handed on as it is; one value a turn."""
    import torch
    from executorch.extension.pybindings import portable_lib

    from ebbtide.engine import fix_threads
    from ebbtide.profiling import Plan, compare

    fix_threads(1)
    staged, dense = (portable_lib._load_program(str(place / f"{name}.pte")) for name in ("staged", "dense"))
    methods = [staged.load_method(name) for name in (*(f"stage{i}" for i in range(stages - 1)), "head")]
    forward = dense.load_method("forward")
    sample = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def many() -> None:
        value = sample
        for method in methods:
            value = method((value,), False)[0]

    plan = Plan(warm_up=20, rounds=ROUNDS, repeats=REPEATS, settle=2)
    return [100 * (compare(many, lambda: forward((sample,), False), plan=plan).ratio - 1) for _ in range(turns)]
