"""How a phone decides, in figures: `python pipeline/benchmarks/behaviour.py [ID ...]`; continues after a kill.

The policy's step in Python and C++, the shared vectors in both, the C++ runner against the Python session on real
images, a million predictions while random signals choose the tier, and the phone simulator. Figures that need the C++
runner (`make runner`) or the shared benchmark data are left out, and that is said, where these are not there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import simulation_figures
from figures import FigureFile

from ebbtide.errors import EbbtideError
from ebbtide.steps import code_digest, file_digest

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"
COMMAND = "python pipeline/benchmarks/behaviour.py"
FILE = FigureFile("behaviour")
POLICY_CODE = ("ebbtide.runtime.policy", "ebbtide.runtime.policy_signals")


def needs(ids: str, wanted: set[str], key: Any) -> list[str]:
    """Which of the ids are asked for and not yet measured with these inputs."""
    return [one for one in ids.split() if (not wanted or one in wanted) and not FILE.has(one, [one, key])]


def note(figure: str, value: float, *, key: Any, digits: int = 4, **facts: Any) -> None:
    found = FILE.record(figure, value=round(value, digits), command=f"{COMMAND} {figure}", key=[figure, key], **facts)
    print(found.told, flush=True)


def cpp_digest() -> str:
    """What the C++ figures depend on: every source of the runner."""
    sources = sorted((ROOT / "devices" / "runner").rglob("*.[ch]pp"))
    return hashlib.sha256("".join(file_digest(path) for path in sources).encode()).hexdigest()


def runner(ids: list[str]) -> Path | None:
    """The runner's program; None, with a word about it, where it has not been built."""
    from ebbtide.runtime.runner import find_runner

    try:
        return find_runner()
    except EbbtideError as error:
        print(f"left out: {' '.join(ids)} ({error.message} {error.hint})")
        return None


def policy_in_python(wanted: set[str], scratch: Path) -> None:
    """Every reading of a full walk, timed many times; the median of the passes' means."""
    key = code_digest(POLICY_CODE)
    if not needs("policy_step_us", wanted, key):
        return
    from ebbtide.bundle import DEFAULT_POLICY
    from ebbtide.runtime.policy import Policy
    from ebbtide.runtime.policy_signals import signals_of_json

    trace = json.loads((VECTORS / "policy" / "random.json").read_bytes())["traces"][0]
    readings = [signals_of_json(step["in"]) for step in trace["steps"] if "error" not in step]
    passes = []
    for _ in range(200):
        step = Policy(DEFAULT_POLICY, 4).step
        begin = time.perf_counter_ns()
        for reading in readings:
            step(reading)
        passes.append((time.perf_counter_ns() - begin) / len(readings) / 1000)
    low, high = sorted(passes)[5], sorted(passes)[-6]
    note(
        "policy_step_us", statistics.median(passes), unit="us", goal="< 5", spread=(round(low, 3), round(high, 3)),
        about=f"one step of the policy in Python, {len(readings)} readings of a random walk", key=key, digits=3,
    )  # fmt: skip


def policy_in_cpp(wanted: set[str], scratch: Path) -> None:
    key = cpp_digest()
    ids = needs("policy_step_ns", wanted, key)
    program = runner(ids) if ids else None
    if program is None:
        return
    values = [
        json.loads(subprocess.check_output([program, "policy-step", "--rounds", "1000000"]))["policy_step_ns"]
        for _ in range(9)
    ]
    note(
        "policy_step_ns", statistics.median(values), unit="ns", goal="< 100", key=key, digits=1,
        spread=(round(min(values), 1), round(max(values), 1)), about="one step of the policy in C++, a random walk",
    )  # fmt: skip


def vectors(wanted: set[str], scratch: Path) -> None:
    """The share of all steps of all shared vectors that C++ replays as Python made or passed them."""
    files = sorted(path for path in VECTORS.glob("*/*.json") if path.name != "schema.json")
    key = [cpp_digest(), [file_digest(path) for path in files]]
    ids = needs("cross_language_vectors", wanted, key)
    program = runner(ids) if ids else None
    if program is None:
        return
    steps = equal = 0
    for path in files:
        said = subprocess.run([program, "replay", path.parent.name, path], stdout=subprocess.PIPE, check=False).stdout
        found = json.loads(said)
        steps, equal = steps + found["steps"], equal + found["equal"]
        if found["first_difference"]:
            print(f"{path.relative_to(ROOT)}: {found['first_difference']}")
    note(
        "cross_language_vectors", 100 * equal / steps, unit="%", goal="== 100", key=key,
        about=f"of {steps:,} steps of {len(files)} files of shared vectors, replayed equal to the last bit in C++",
    )  # fmt: skip


def on_real_images(wanted: set[str], scratch: Path) -> None:
    import runner_figures

    key = [cpp_digest(), code_digest(("ebbtide",))]
    ids = needs("runner_equal_share runner_overhead_us", wanted, key)
    if not ids:
        return
    if reasons := list(runner_figures.left_out()):
        print(f"left out: {' '.join(ids)} ({'; '.join(reasons)})")
        return
    bundle, images = runner_figures.cifar_bundle(scratch / "cifar"), runner_figures.cifar_test_images()
    if "runner_overhead_us" in ids:
        values = runner_figures.runner_overhead_us(bundle, images)
        note(
            "runner_overhead_us", statistics.median(values), unit="us", goal="< 3", key=key, digits=3,
            spread=(round(min(values), 3), round(max(values), 3)),
            about="the runner's prediction loop over bare `Module::execute`, per method call; ResNet-20 with exits",
        )  # fmt: skip
    if "runner_equal_share" in ids:
        found = runner_figures.runner_equal_share(bundle, images)
        for line in found.differences:
            print(line)
        early = 100 * found.left_early / found.predictions
        note(
            "runner_equal_share", 100 * found.share, unit="%", goal="== 100", key=key,
            about=f"of {found.predictions:,} predictions ({len(images):,} CIFAR-10 test images, "
            f"{len(found.configurations)} tiers of ResNet-20, {early:.0f} % leave early): exit, label, confidence, "
            "probabilities and logits equal in every bit, C++ runner against Python session",
        )  # fmt: skip


def soaks(wanted: set[str], scratch: Path) -> None:
    key = code_digest(("ebbtide.runtime", "ebbtide.engine"))
    ids = needs("soak_lost soak_wrong soak_growth_kib", wanted, key)
    if not ids:
        return
    from soak import adaptive_soak
    from widths_programs import small_widths

    programs = small_widths(scratch / "small_widths")
    found = adaptive_soak(programs, predictions=1_000_000)
    for line in found.errors:
        print(line)
    about = (
        f"of {found.predictions + found.lost:,} predictions in 8 threads while random signals made {found.decisions:,} "
        f"decisions and {found.switches:,} changes of width"
    )
    note("soak_lost", found.lost, unit="", goal="== 0", about=f"lost {about}", key=key)
    note("soak_wrong", found.wrong, unit="", goal="== 0", about=f"not what their configuration gives, {about}", key=key)
    note("soak_growth_kib", found.growth_kib, unit="KiB", about="growth of memory in the last nine tenths", key=key)


def simulated(wanted: set[str], scratch: Path) -> None:
    simulation_figures.measure(FILE, COMMAND, wanted or None)


PARTS: tuple[Callable[[set[str], Path], None], ...] = (
    policy_in_python,
    policy_in_cpp,
    vectors,
    simulated,
    on_real_images,
    soaks,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", nargs="*", help="figures to measure; all that are missing by default")
    parser.add_argument("--scratch", type=Path, help="where builds go; a killed run continues there")
    given = parser.parse_args()
    place = f"ebbtide-behaviour-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
    scratch = given.scratch or Path(tempfile.gettempdir()) / place
    scratch.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    for part in PARTS:
        part(set(given.ids), scratch)
    print(f"done after {time.monotonic() - begin:.0f} s; builds lie in {scratch}", file=sys.stderr)


if __name__ == "__main__":
    main()
