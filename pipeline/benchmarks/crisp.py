"""The figures of class-specific sparsity: `python pipeline/benchmarks/crisp.py [ID ...]`; continues after a kill.

Each run (see crisp_training.py) makes a model for one class set from the universal ResNet-20 x2 for CIFAR-100 and looks
at the class set's test images once, when it has ended. Class sets are drawn by seed, the same for every method.
Accuracies are means over seeds with the lowest and the highest beside them; differences between methods are paired
sample by sample, with the standard error of their mean.

Ids are figures, or with ``--runs`` the runs to make, such as 10_0_channels-6. Figures on the shared benchmark data are
left out, and that is said, where the data are not there and nobody has made their runs.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from crisp_training import Run, right_of, told
from figures import FigureFile
from numpy.typing import NDArray
from runs import comparison_arguments, data_are_here, make_runs

from ebbtide.steps import code_digest

HERE = Path(__file__).resolve().parent
COMMAND = "python pipeline/benchmarks/crisp.py"
FILE = FigureFile("crisp")
SEEDS = (0, 1, 2)
SCORES = ("random", "magnitude", "every")
MINIMAL_METHODS = (
    "universal", "dense", "hybrid-85", "channels-10", "channels-6",
    *(f"hybrid-85-{word}" for word in (*SCORES, "blocks")),
    *(f"channels-10-{word}" for word in (*SCORES, "uniform")),
    "small-10",
)  # fmt: skip
FURTHER_METHODS = (
    "channels-25", "channels-3", "hybrid-50", "hybrid-70", "hybrid-80", "hybrid-90", "hybrid-95", "hybrid-85-b16",
    "hybrid-85-of4", "hybrid-85-sum", "hybrid-85-released", "channels-10-labels", "dense-labels",
)  # fmt: skip
SIZES = (2, 5, 20)
OF_SIZES = ("universal", "dense", "channels-6", "hybrid-85")
MINIMAL = [f"10_{seed}_{method}" for seed in SEEDS for method in MINIMAL_METHODS]
FURTHER = [
    *(f"10_{seed}_{method}" for seed in SEEDS for method in FURTHER_METHODS),
    *(f"{size}_{seed}_{method}" for size in SIZES for seed in SEEDS for method in OF_SIZES),
]
CHANNELS = ("channels-25", "channels-10", "channels-6", "channels-3")
WITHIN_POINTS = 1.0


def note(figure: str, value: float, *, key: Any, **facts: Any) -> None:
    """Record a figure, unless it is there with the same inputs."""
    if FILE.has(figure, key):
        return
    print(FILE.record(figure, value=value, command=f"{COMMAND} {figure}", key=key, **facts).told, flush=True)


def results(classes: int, method: str) -> dict[int, dict[str, Any]]:
    """By seed, the results of a method that have ended."""
    found = {seed: Run(classes, seed, method).result() for seed in SEEDS}
    return {seed: result for seed, result in found.items() if result is not None}


def identifier(method: str) -> str:
    """A method's name as figures spell it."""
    return method.replace("-", "_").replace(".", "_")


def accuracies() -> None:
    """Every method that has runs, on test and on select."""
    for classes in (10, *SIZES):
        for method in (*MINIMAL_METHODS, *FURTHER_METHODS):
            found = results(classes, method)
            if not found:
                continue
            for part in ("test", "select"):
                values = [100 * result[part]["accuracy"] for result in found.values()]
                note(
                    f"{identifier(method)}_{classes}__{part}", round(statistics.mean(values), 2), unit="%",
                    seeds=[*found], key=[part, *(result["ended"] for result in found.values())],
                    spread=(round(min(values), 2), round(max(values), 2)) if len(values) > 1 else None,
                    about=told(method),
                )  # fmt: skip


def differences(classes: int, one: str, other: str) -> tuple[list[int], NDArray[np.float64], list[str]]:
    """Seeds that both have, for each test sample right of one minus right of the other, and when they ended."""
    mine, theirs = results(classes, one), results(classes, other)
    seeds = [seed for seed in mine if seed in theirs]
    parts, ended = [np.zeros(0)], []
    for seed in seeds:
        count = mine[seed]["samples"]["test"]
        pair = [right_of(found[seed]["test"], count).astype(float) for found in (mine, theirs)]
        parts.append(pair[0] - pair[1])
        ended += [mine[seed]["ended"], theirs[seed]["ended"]]
    return seeds, np.concatenate(parts), ended


def paired(figure: str, one: str, other: str, *, about: str, goal: str | None = None, classes: int = 10) -> None:
    """Mean difference of two methods over all test samples of all class sets, in points, +- its standard error."""
    seeds, each, ended = differences(classes, one, other)
    if not seeds:
        return
    error = 100 * float(each.std(ddof=1)) / len(each) ** 0.5
    note(
        figure, round(100 * float(each.mean()), 2), unit="points", spread=round(error, 2), seeds=seeds, goal=goal,
        key=ended, about=f"{about}, {classes} classes, paired by test image, +- standard error",
    )  # fmt: skip


def comparisons() -> None:
    """Losses against the dense rival, and ours against each control."""
    paired("hybrid_85_drop", "dense", "hybrid-85", about="dense fine-tuned over blocks and 2:4 at 85 %", goal="<= 2")
    for method in CHANNELS:
        paired(f"{identifier(method)}_drop", "dense", method, about=f"dense fine-tuned over {told(method)}")
    for base in ("hybrid-85", "channels-10"):
        words = (*SCORES, *(("blocks", "released", "sum") if base.startswith("hybrid") else ("uniform", "labels")))
        for word in words:
            other = f"{base}-{word}"
            goal = "> 0" if word in ("magnitude", "every") else None
            paired(
                f"{identifier(base)}_over_{word}", base, other, goal=goal,
                about=f"{told(base)} over {told(other)}",
            )  # fmt: skip
    paired(
        "channels_10_over_small", "channels-10", "small-10", about="channels at 10 % over a net trained from nothing"
    )
    paired("dense_over_universal", "dense", "universal", about="dense fine-tuned over the universal model, restricted")


def at_run_time(wanted: set[str], scratch: Path) -> None:
    """Latency and bytes of the models whose loss is within a point, against the universal model, in one run."""
    if wanted and not wanted & {"speedup_10", "bytes_ratio_10"}:
        return
    within = []
    for method in CHANNELS:
        seeds, each, _ = differences(10, "dense", method)
        if seeds and 100 * float(each.mean()) <= WITHIN_POINTS:
            within.append((method, seeds, 100 * float(each.mean())))
    if not within:
        print("left out: speedup_10 bytes_ratio_10 (no run of channels is within a point yet)")
        return
    from crisp_runtime import against_universal

    method, seeds, drop = within[-1]
    ended = {seed: results(10, method)[seed] for seed in seeds}
    key = [code_digest(("ebbtide",)), *(result["ended"] for result in ended.values())]
    if FILE.has("speedup_10", key) and FILE.has("bytes_ratio_10", key):
        return
    measured = [against_universal(result, scratch / f"10_{seed}_{method}") for seed, result in ended.items()]
    ratios = [one.speedup for one in measured]
    what = f"{told(method)}, {drop:.2f} points below dense fine-tuned"
    note(
        "speedup_10", round(statistics.mean(ratios), 2), unit="x", goal=">= 5", key=key, seeds=seeds,
        spread=(round(min(ratios), 2), round(max(ratios), 2)), anchor="up to 14x on a modelled accelerator",
        about=f"10 classes, latency of the universal model over that of {what}; ExecuTorch/XNNPACK fp32, one thread",
    )  # fmt: skip
    sizes = [one.bytes_ratio for one in measured]
    note(
        "bytes_ratio_10", round(statistics.mean(sizes), 2), unit="x", goal=">= 8", key=key, seeds=seeds,
        spread=(round(min(sizes), 2), round(max(sizes), 2)), about=f"10 classes, program bytes, {what}",
    )  # fmt: skip


def figures() -> None:
    """All that follows from runs alone."""
    accuracies()
    comparisons()


def main() -> None:
    given = comparison_arguments(__doc__, "crisp")
    scratch: Path = given.scratch
    names = list(given.ids) if given.runs else [*MINIMAL, *(FURTHER if given.further else [])]
    if not given.no_runs and data_are_here():
        make_runs(
            HERE / "crisp_training.py", names, scratch, jobs=given.jobs,
            has_ended=lambda name: Run.parse(name).result() is not None, ended=figures,
        )  # fmt: skip
    figures()
    if not given.runs:
        at_run_time(set(given.ids), scratch)


if __name__ == "__main__":
    main()
