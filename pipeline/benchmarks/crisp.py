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
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from crisp_picture import draw_drops
from crisp_training import Run, class_set, right_of, told
from figures import FigureFile
from numpy.typing import NDArray
from runs import comparison_arguments, data_are_here, ended_results, make_runs

from ebbtide.steps import code_digest

if TYPE_CHECKING:
    from crisp_bundles import User

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
COMMAND = "python pipeline/benchmarks/crisp.py"
FILE = FigureFile("crisp")
SEEDS = (0, 1, 2)
SCORES = ("random", "magnitude", "every")
MINIMAL_METHODS = (
    "universal", "dense", "hybrid-85", "channels-25", "channels-10", "channels-6",
    "dense-others", "channels-25-others", "channels-10-others", "channels-6-others",
    *(f"hybrid-85-{word}" for word in (*SCORES, "blocks")),
    *(f"channels-10-{word}" for word in (*SCORES, "uniform")),
    "small-10",
)  # fmt: skip
FURTHER_METHODS = (
    "channels-3", "channels-3-others", "hybrid-50", "hybrid-70", "hybrid-80", "hybrid-90", "hybrid-95", "hybrid-85-b16",
    "hybrid-85-of4", "hybrid-85-sum", "hybrid-85-released", "channels-10-labels", "dense-labels",
    "channels-10-long-others", "dense-long-others",
)  # fmt: skip
SIZES = (2, 5, 20)
OF_SIZES = ("universal", "dense", "channels-6", "hybrid-85")
MINIMAL = [f"10_{seed}_{method}" for seed in SEEDS for method in MINIMAL_METHODS]
FURTHER = [
    *(f"10_{seed}_{method}" for seed in SEEDS for method in FURTHER_METHODS),
    *(f"{size}_{seed}_{method}" for size in SIZES for seed in SEEDS for method in OF_SIZES),
]
# Largest first.
CHANNELS = tuple(f"channels-{share}{how}" for share in (25, 10, 6, 3) for how in ("", "-others"))
HYBRIDS = tuple(f"hybrid-{percent}" for percent in (50, 70, 80, 85, 90, 95))
WITHIN_POINTS = 1.0


def note(figure: str, value: float, **facts: Any) -> None:
    """Record a figure, unless it is there with the same inputs."""
    FILE.note(figure, value, script=COMMAND, **facts)


def results(classes: int, method: str) -> dict[int, dict[str, Any]]:
    """By seed, the results of a method that have ended."""
    return ended_results(Run(classes, seed, method) for seed in SEEDS)


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


def rival(method: str) -> str:
    """The dense model that learned from the same images in as many passes."""
    return "-".join(["dense", *(word for word in ("long", "others") if f"-{word}" in method)])


def comparisons() -> None:
    """Losses against the dense rival, and ours against each control."""
    paired("hybrid_85_drop", "dense", "hybrid-85", about="dense fine-tuned over blocks and 2:4 at 85 %", goal="<= 2")
    for method in CHANNELS:
        other = rival(method)
        paired(f"{identifier(method)}_drop", other, method, about=f"{told(other)} over {told(method)}")
    for base in ("hybrid-85", "channels-10"):
        own = ("blocks", "released", "sum") if base.startswith("hybrid") else ("uniform", "labels")
        words = (*SCORES, *own)
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
    for method in ("dense", "channels-10", "channels-6"):
        paired(
            f"others_{identifier(method)}", f"{method}-others", method, about=f"images of others beside: {told(method)}"
        )
    for method in ("dense", "channels-10"):
        longer, shorter = f"{method}-long-others", f"{method}-others"
        paired(f"long_{identifier(shorter)}", longer, shorter, about=f"40 passes more: {told(shorter)}")
    # To spare a run of many hours the rival of the longest training may have learned for less long, and that is said.
    paired(
        "channels_10_long_drop", "dense-others", "channels-10-long-others",
        about=f"{told('dense-others')} over {told('channels-10-long-others')}",
    )  # fmt: skip


def smallest_within() -> str | None:
    """The smallest of the channel methods whose mean loss is within a point; None where none has runs."""
    within = None
    for method in CHANNELS:
        seeds, each, _ = differences(10, rival(method), method)
        if seeds and 100 * float(each.mean()) <= WITHIN_POINTS:
            within = method
    return within


def speedups(wanted: set[str], scratch: Path) -> None:
    """Latency of the universal model over that of each size of channels, and of the smallest within a point."""
    found = {method: results(10, method) for method in CHANNELS}
    found = {method: of for method, of in found.items() if of}
    figures_of = {method: f"{identifier(method)}_speedup" for method in found}
    best = smallest_within()
    if wanted and not wanted & {"speedup_10", *figures_of.values()}:
        return
    if best is None:
        print("left out: speedup_10 (no run of channels is within a point yet)")
    key = [code_digest(("ebbtide",)), *(result["ended"] for of in found.values() for result in of.values())]
    if all(FILE.has(name, key) for name in (*figures_of.values(), *(["speedup_10"] if best else []))):
        return
    from crisp_runtime import speedups as measured

    by_seed = {
        seed: measured({f"10_{seed}_{method}": of[seed] for method, of in found.items() if seed in of}, scratch)
        for seed in SEEDS
        if any(seed in of for of in found.values())
    }
    for method, figure in figures_of.items():
        ratios = [by_seed[seed][f"10_{seed}_{method}"] for seed in found[method]]
        what = f"10 classes, latency of the universal model over that of {told(method)}"
        for name in (figure, *(["speedup_10"] if method == best else [])):
            drop = 100 * float(differences(10, rival(method), method)[1].mean())
            more = f", {drop:.2f} points below dense fine-tuned" if name == "speedup_10" else ""
            note(
                name, round(statistics.mean(ratios), 2), unit="x", key=key, seeds=[*found[method]],
                spread=(round(min(ratios), 2), round(max(ratios), 2)) if len(ratios) > 1 else None,
                goal=">= 5" if more else None,
                anchor="up to 14x on a modelled accelerator" if more else None,
                about=f"{what}{more}; ExecuTorch/XNNPACK fp32, one thread, all sizes in turn",
            )  # fmt: skip


BUNDLES: dict[str, tuple[str, str]] = {
    "personalise_first_s": ("s", "< 60"),
    "personalise_best_s": ("s", "< 300"),
    "bytes_ratio_10": ("x", ">= 8"),
    "outside_auroc": ("", ">= 0.85"),
}


def one_user(wanted: set[str], scratch: Path) -> None:
    """What `ebb personalise` takes and gives for each class set, from a universal model that is built."""
    from crisp_bundles import Builds

    builds = Builds(scratch, Run(10, 0, smallest_within() or CHANNELS[0]).kept)
    found: dict[int, User] = {}
    for seed in SEEDS:
        user = builds.stored(seed)
        if user is None and data_are_here() and not (wanted and not wanted & BUNDLES.keys()):
            user = builds.make(seed, class_set(10, seed, scratch).class_indices)
        if user is not None:
            found[seed] = user
            _note_users(found, builds.share)


def _note_users(found: Mapping[int, User], share: float) -> None:
    users = [*found.values()]
    machine = "10 classes, two cores, from the built universal model to a verified bundle"
    kept = ", ".join(f"{100 * one.kept:.0f} %" for one in users)
    right = ", ".join(f"{100 * one.right:.1f} %" for one in users)
    sizes = ", ".join(f"{one.size_bytes:,}" for one in users)
    about = {
        "personalise_first_s": f"{machine}: --quick, half the MACs, "
        f"{', '.join(f'{100 * one.first_right:.1f} %' for one in users)} right on test",
        "personalise_best_s": f"{machine}: found by itself, at most 1 point below the universal model with 95 % "
        f"confidence; it came to {kept} of the MACs, {right} right on test",
        "bytes_ratio_10": f"10 classes, bytes of the universal bundle over those of the bundle of {100 * share:g} % of "
        f"the MACs ({users[0].universal_bytes:,} over {sizes})",
        "outside_auroc": "10 of 100 classes, test: energy of the model that personalise_best_s is of, class set "
        "against images of the other 90 classes",
    }
    values = {
        "personalise_first_s": [one.first_s for one in users],
        "personalise_best_s": [one.best_s for one in users],
        "bytes_ratio_10": [one.universal_bytes / one.size_bytes for one in users],
        "outside_auroc": [one.auroc for one in users],
    }
    for name, (unit, goal) in BUNDLES.items():
        digits = 3 if name == "outside_auroc" else 1
        many = (round(min(values[name]), digits), round(max(values[name]), digits)) if len(users) > 1 else None
        note(
            name, round(statistics.mean(values[name]), digits), unit=unit, goal=goal, seeds=[*found], spread=many,
            key=[asdict(one) for one in users], about=about[name],
        )  # fmt: skip


def picture(path: Path) -> None:
    """Draw what is lost over what is left."""
    draw_drops(
        path, [*CHANNELS, *HYBRIDS], lambda method: Run(10, 0, method).kept,
        lambda method: differences(10, rival(method), method),
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
        picture(DOCS / "sparsity.svg")
        speedups(set(given.ids), scratch)
        one_user(set(given.ids), scratch)


if __name__ == "__main__":
    main()
