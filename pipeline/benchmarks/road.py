"""The figures of the whole road: `python pipeline/benchmarks/road.py [ID ...]`; continues after a kill.

Wall-clock figures are the median of several runs in processes of their own, each with an empty home; the spread is
from the smallest to the largest. Ratios are of medians over interleaved rounds in one process. Figures on the shared
benchmark data are left out, and that is said, where the data are not there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import FigureFile
from processes import EBB, run

from ebbtide.steps import code_digest, file_digest

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "pipeline" / "examples" / "digits.yaml"
RECIPES = Path(__file__).resolve().parent / "recipes"
COMMAND = "python pipeline/benchmarks/road.py"
FILE = FigureFile("road")
MIB, GIB = 2**20, 2**30


def key(*parts: object) -> dict[str, Any]:
    """What a figure depends on: all our code, the recipes, and the parts named."""
    recipes = [DIGITS, *sorted(RECIPES.glob("*.yaml"))]
    return {"code": code_digest(("ebbtide",)), "recipes": [file_digest(p) for p in recipes], "parts": list(parts)}


def needs(ids: str, wanted: set[str]) -> list[str]:
    """Which of the ids are asked for and not yet measured with this code."""
    return [i for i in ids.split() if (not wanted or i in wanted) and not FILE.has(i, key(i))]


def note(
    figure: str, values: list[float], *, unit: str, goal: str | None, about: str, anchor: str | None = None
) -> None:
    spread = (min(values), max(values)) if len(values) > 1 else None
    found = FILE.record(
        figure,
        value=round(statistics.median(values), 4),
        unit=unit,
        spread=spread and (round(spread[0], 4), round(spread[1], 4)),
        goal=goal,
        anchor=anchor,
        about=about,
        command=f"{COMMAND} {figure}",
        key=key(figure),
    )
    print(found.told, flush=True)


def demo_table(out: Path) -> None:
    """The demo's own table and picture, from its report."""
    record = json.loads((out / "report.json").read_bytes())
    table = FigureFile("demo")
    table.path.unlink(missing_ok=True)
    tiers = sorted((c for c in record["configurations"] if c["tier"] is not None), key=lambda c: c["tier"])
    rows = [(f"tier_{c['tier']}", c, c["mean_macs"]) for c in tiers]
    rows.append(("dense_model_one_method", record["dense"], record["dense"]["macs"]))
    for name, found, macs in rows:
        for column, value, unit, spread in (
            ("promised_on_select", 100 * found["select"]["accuracy"], "%", None),
            ("measured_on_test", 100 * found["test"]["accuracy"], "%", half_interval(found["test"])),
            ("mean_macs", macs / 1e6, "M", None),
            ("p50", found["latency"]["p50_us"], "us", found["latency"]["spread_us"]),
            ("p90", found["latency"]["p90_us"], "us", None),
            ("program_bytes", found["size_bytes"], "", None),
        ):
            table.record(
                f"{name}__{column}",
                value=round(value, 2),
                unit=unit,
                spread=None if spread is None else round(spread, 1),
                seeds=[record["provenance"]["seeds"]["recipe"]],
                command="python pipeline/benchmarks/road.py demo_s",
            )
    shutil.copyfile(out / "report.svg", ROOT / "docs" / "demo.svg")


def half_interval(scored: dict[str, Any]) -> float:
    """Half of the 95 % Wilson interval, in points."""
    from ebbtide.report.statistics import wilson_interval

    low, high = wilson_interval(scored["accuracy"], scored["n"])
    return 50 * (high - low)


def demo(wanted: set[str], scratch: Path) -> None:
    ids = needs("demo_s rebuild_s", wanted)
    if not ids:
        return
    first, again = [], []
    for turn in range(3):
        home = scratch / f"demo{turn}"
        shutil.rmtree(home, ignore_errors=True)
        out = home / "out"
        build = [*EBB, "build", DIGITS, "--output", out, "--install", out / "store", "--try", 8]
        first.append(run(build, home=home).seconds)
        again += [run(build, home=home).seconds for _ in range(2)]
    demo_table(out)
    note("demo_s", first, unit="s", goal="< 90", about="the demo's main job after install, nothing cached")
    note("rebuild_s", again, unit="s", goal="<= 5", about="the same command again, nothing changed")


def help_text(wanted: set[str], scratch: Path) -> None:
    if needs("help_s", wanted):
        times = [run([*EBB, "--help"], home=scratch / "help").seconds for _ in range(11)]
        note("help_s", times, unit="s", goal="< 0.5", about="`ebb --help`")


def networks(wanted: set[str], scratch: Path) -> None:
    data = Path(os.environ.get("EBBTIDE_DATA") or ROOT.parent / "shared" / "data")
    jobs = {"resnet20": "91.73 +- 0.05", "resnet56": "93.39 +- 0.05"}
    for name, goal in jobs.items():
        ids = needs(f"{name}_accuracy" + (" resnet56_build_s resnet56_build_gib" if name == "resnet56" else ""), wanted)
        if not ids:
            continue
        if not (data / "meta.json").is_file():
            print(f"left out: {' '.join(ids)} (the shared benchmark data are not here; set EBBTIDE_DATA)")
            continue
        home = scratch / name
        shutil.rmtree(home, ignore_errors=True)
        recipe = RECIPES / f"cifar10_{name}.yaml"
        done = run([*EBB, "build", recipe, "--output", home / "out", "--json"], home=home, watch_memory=True)
        record = done.json()["record"]
        dense = next(c for c in record["configurations"] if c["id"] == "dense")
        about = f"{name.replace('resnet', 'ResNet-')} on CIFAR-10: dense configuration, ExecuTorch, 10,000 test images"
        note(f"{name}_accuracy", [100 * dense["test"]["accuracy"]], unit="%", goal=goal, about=about,
             anchor="accuracy of the weights, measured with an independent model definition")  # fmt: skip
        if name == "resnet56":
            about = "the ResNet-56 recipe from nothing"
            note("resnet56_build_s", [done.seconds], unit="s", goal="< 900", about=about)
            note("resnet56_build_gib", [done.peak_bytes / GIB], unit="GiB", goal="< 4", about=f"{about}, peak memory")


def session(wanted: set[str], scratch: Path) -> None:
    if not needs("session_overhead_us", wanted):
        return
    from ebbtide.bundle import load_public_key, open_bundle
    from ebbtide.data.preprocess import preprocess
    from ebbtide.engine import ExecuTorchEngine
    from ebbtide.runtime import Session, load_inputs, session_overhead

    home = scratch / "session"
    run([*EBB, "build", DIGITS, "--output", home / "out", "--quiet"], home=home)
    bundle = open_bundle(home / "out/bundles/host", [load_public_key(home / "out/public.pem")])
    opened = Session(bundle, ExecuTorchEngine(threads=1), configuration="dense")
    images = [value for _, value in load_inputs(home / "out/samples.npz")][:8]
    found = [session_overhead(opened, preprocess(image, opened.input)[None]).overhead_us for image in images]
    opened.close()
    note("session_overhead_us", found, unit="us", goal="< 50", about="one prediction over its bare method calls")


def bundles(wanted: set[str], scratch: Path) -> None:
    if not needs("bundle_50mb_s verify_rss_mib", wanted):
        return
    from bundle_load import verify_growth_mib, write_sign_verify_s

    place = scratch / "bundles"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    times = [write_sign_verify_s(place / f"b{turn}", size_bytes=50_000_000) for turn in range(5)]
    note("bundle_50mb_s", times, unit="s", goal="< 2", about="write, sign and verify a raw bundle of 50 MB")
    growth = [verify_growth_mib(place / f"v{turn}", size_bytes=500_000_000) for turn in range(3)]
    note("verify_rss_mib", growth, unit="MiB", goal="< 64", about="growth of memory while 500 MB raw are verified")


def boundary(wanted: set[str], scratch: Path) -> None:
    ids = needs("boundary_overhead_percent boundary_overhead_python_percent", wanted)
    if not ids:
        return
    from boundaries import lower_resnet20, percent_in_cpp, percent_in_python

    place = scratch / "boundary"
    if not lower_resnet20(place, stages=3):
        print(f"left out: {' '.join(ids)} (the shared benchmark data are not here; set EBBTIDE_DATA)")
        return
    about = "ResNet-20 in 3 stages against one method, one thread, bare method calls"
    in_cpp = percent_in_cpp(place, stages=3, turns=9)
    if in_cpp is None:
        print("left out: boundary_overhead_percent (there is no C++ compiler here)")
    else:
        note("boundary_overhead_percent", in_cpp, unit="%", goal="<= 2", about=f"{about}: the C++ runtime")
    in_python = percent_in_python(place, stages=3, turns=5)
    note("boundary_overhead_python_percent", in_python, unit="%", goal=None, about=f"{about}: Python bindings")


PARTS: tuple[Callable[[set[str], Path], None], ...] = (help_text, bundles, demo, session, boundary, networks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", nargs="*", help="figures to measure; all that are missing by default")
    parser.add_argument("--scratch", type=Path, help="where builds go; a killed run continues there")
    arguments = parser.parse_args()
    scratch = (
        arguments.scratch
        or Path(tempfile.gettempdir()) / f"ebbtide-road-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
    )
    scratch.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    for part in PARTS:
        part(set(arguments.ids), scratch)
    print(f"done after {time.monotonic() - start:.0f} s; builds lie in {scratch}", file=sys.stderr)


if __name__ == "__main__":
    main()
