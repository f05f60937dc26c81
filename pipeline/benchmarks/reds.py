"""The figures of nested widths: `python pipeline/benchmarks/reds.py [ID ...]`; continues after a kill.

Accuracies are means over seeds, with the lowest and the highest beside them; every method of a seed starts from the
same trained weights and learns for the same number of epochs from the same batches, and each run looks at the test
images once, when it has ended. Its own result stays in ``results/reds_runs``; figures say which seeds they are of, and
are recorded anew when another seed is there. Runs go in processes of their own, of one thread each.

Ids are figures, or with ``--runs`` the runs to make, such as fashion_4_importance_0. Figures on the shared benchmark
data are left out, and that is said, where the data are not there and nobody has made their runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figures import FigureFile
from reds_picture import draw_widths
from runs import comparison_arguments, data_are_here, ended_results, make_runs

from ebbtide.errors import EbbtideError
from ebbtide.steps import code_digest

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
COMMAND = "python pipeline/benchmarks/reds.py"
FILE = FigureFile("reds")
SEEDS = (0, 1, 2)
CONTROLS = ("uniform", "magnitude", "random")
# The same schedule, batch norm per level and distillation for each; see reds_training.BEST.
COMPARED = ("best", *(f"best{control}" for control in CONTROLS))
# The columns of a grid of figures, see scoreboard.py.
TABLE = {"best": "importance", **{f"best{control}": control for control in CONTROLS}, "alone": "trained_alone"}
# What the comparison needs first; the rest follows in this order, as long as somebody lets it run.
MINIMAL = [f"fashion_4_{method}_{seed}" for seed in SEEDS for method in COMPARED]
FURTHER = [
    *(f"fashion_4_{method}_{seed}" for seed in SEEDS for method in ("importance", "private", "uniform")),
    *(f"fashion_4_{method}_0" for method in ("distill", "sandwich", "saliency", "ordereduniform")),
    "fashion_10_best_0",
    *(f"{network}_4_{method}_0" for network in ("cifar100", "cifar10") for method in (*COMPARED, "alone")),
]
# What the form of the tuning gives, with importance and exact search unless the name says otherwise.
FORMS = {
    "shared": "importance",
    "private": "private",
    "shared_uniform": "uniform",
    **{name: name for name in ("distill", "sandwich", "saliency", "ordereduniform")},
}
GOALS = {100: ">= 91.6", 75: ">= 91.5", 50: ">= 90.8", 25: ">= 89.2"}
ANCHORS = {100: "91.60 +- 0.20", 75: "91.51 +- 0.28", 50: "90.75 +- 0.32", 25: "89.22 +- 0.45"}
TITLES = {
    "fashion": "DS-CNN S on Fashion-MNIST",
    "cifar100": "ResNet-20 x2 on CIFAR-100",
    "cifar10": "ResNet-56 on CIFAR-10",
}


def note(figure: str, value: float, **facts: Any) -> None:
    """Record a figure, unless it is there with the same inputs."""
    FILE.note(figure, value, script=COMMAND, **facts)


# Table T6: widths that the published search found, and what they cost; (level, widths, nominal %, slack, true %).
T6: dict[str, tuple[tuple[int, tuple[int, ...], float, int, float], ...]] = {
    "dnn_s": (
        (25, (15, 75, 33), 24.91, 66, 9.8),
        (50, (51, 116, 63), 49.73, 210, 33.8),
        (75, (99, 132, 99), 74.88, 90, 65.8),
    ),
    "dnn_l": (
        (25, (302, 88, 19), 24.97, 146, 21.0),
        (50, (416, 244, 78), 49.96, 204, 45.6),
        (75, (436, 356, 235), 74.96, 218, 70.9),
    ),
    "cnn_s": (
        (25, (23, 5), 25.00, 0, 22.4),
        (50, (26, 13), 49.64, 8_960, 47.0),
        (75, (28, 21), 73.82, 29_120, 73.8),
    ),
    "cnn_l": (
        (25, (56, 16), 24.99, 1_600, 23.7),
        (50, (57, 36), 49.96, 4_800, 47.8),
        (75, (58, 56), 74.94, 8_000, 72.7),
    ),
}


def t6_rows(wanted: set[str]) -> None:
    """Whether the costs of the published widths are the printed ones, to the printed digits."""
    if wanted and "t6_rows" not in wanted:
        return
    import numpy as np
    from reds_starts import adapter

    from ebbtide.model import capture, coupling_groups
    from ebbtide.nesting import Rules, problem_of

    agreeing = 0
    for name, rows in T6.items():
        shape = (1, 25, 10) if name.startswith("dnn") else (1, 49, 10)
        graph = capture(adapter(f"reds_nets.py:{name}")(), shape)
        coupling = coupling_groups(graph)
        # The first groups are the searched ones: all hidden layers, or both convolutions.
        searched = [group.name for group in coupling.groups][: len(rows[0][1])]
        ones = {group.name: np.ones(group.size) for group in coupling.groups}
        dense = problem_of(graph, coupling, ones, Rules(cost="dense-input", searched=searched))
        true = problem_of(graph, coupling, ones, Rules(searched=searched))
        full, full_macs = dense.cost(dense.full), true.cost(true.full)
        for level, widths, nominal, slack, share in rows:
            choice = [*(width - 1 for width in widths), *dense.full[len(widths) :]]
            cost = dense.cost(choice)
            printed = (f"{nominal:.2f}", slack, f"{share:.1f}")
            found = (
                f"{100 * cost / full:.2f}",
                level * full / 100 - cost,
                f"{100 * true.cost(choice) / full_macs:.1f}",
            )
            agreeing += printed == found
            if printed != found:
                print(f"{name} at {level} %: {found}, printed {printed}")
    note(
        "t6_rows", agreeing, unit="", goal="== 12", anchor="12 rows of the published figure",
        about="published widths whose nominal cost, slack and true cost come out to the printed digits",
        key=code_digest(("ebbtide",)),
    )  # fmt: skip


def searches(wanted: set[str]) -> None:
    """Seconds of the search alone, four levels, magnitude as importance."""
    goals = {"search_dscnn_s": "< 1", "search_resnet56_s": "< 10", "search_mobilenetv2_s": "< 30"}
    key = code_digest(("ebbtide",))
    ids = [i for i in goals if (not wanted or i in wanted) and not FILE.has(i, key)]
    if not ids:
        return
    import torch
    from reds_starts import adapter

    from ebbtide.model import capture, coupling_groups
    from ebbtide.nesting import Rules, choose_levels, order_units
    from ebbtide.saliency import unit_scores

    torch.set_num_threads(1)
    for figure in ids:
        torch.manual_seed(0)
        if figure == "search_dscnn_s":
            graph, rules, title = capture(adapter("reds_nets.py:dscnn_s_images")(), (1, 28, 28)), Rules(), "DS-CNN S"
        elif figure == "search_resnet56_s":
            graph, rules, title = capture(adapter("resnet_cifar.py:resnet56")(), (3, 32, 32)), Rules(), "ResNet-56"
        else:
            from torchvision.models import mobilenet_v2

            graph, rules = capture(mobilenet_v2(), (3, 224, 224)), Rules(multiple=8)
            title = "MobileNetV2, multiples of 8"
        coupling = coupling_groups(graph)
        scores = order_units(graph, coupling, unit_scores(graph, coupling, "magnitude"))
        times, exact, gap = [], True, 0.0
        for _ in range(5):
            began = time.perf_counter()
            ladder = choose_levels(graph, coupling, scores, (0.25, 0.5, 0.75, 1.0), rules=rules)
            times.append(time.perf_counter() - began)
            exact, gap = exact and ladder.exact, max(gap, ladder.gap)
        proven = "exact" if exact else f"at most {gap:.1%} of the value from the optimum"
        note(
            figure, round(statistics.median(times), 4), unit="s", goal=goals[figure], key=key,
            spread=(round(min(times), 4), round(max(times), 4)), anchor="19 to 90 min at 25 % (DS-CNN S, Gurobi)",
            about=f"search of 4 levels, {title}, {len(coupling.groups)} groups: {proven}",
        )  # fmt: skip


def at_run_time(wanted: set[str], scratch: Path) -> None:
    """Switches, the compressed stream and latency of widths."""
    from reds_runtime import missing, runtime
    from reds_starts import adapter

    key = code_digest(("ebbtide",))
    ids = missing(wanted, FILE.has, key)
    if not ids:
        return
    try:
        adapter("shared_data.py:data_folder")()
    except EbbtideError:
        print(f"left out: {' '.join(ids)} (the shared benchmark data are not here; set EBBTIDE_DATA)")
        return
    runtime(ids, scratch, note, key=key)


def results(network: str, levels: int, method: str) -> dict[int, dict[str, Any]]:
    """By seed, the results of a method that have ended."""
    from reds_training import Run

    return ended_results(Run(network, levels, method, seed) for seed in SEEDS)


def between(values: Sequence[float]) -> tuple[float, float] | None:
    """The lowest and the highest of several."""
    return (round(min(values), 3), round(max(values), 3)) if len(values) > 1 else None


def level_of(result: dict[str, Any], percent: int) -> dict[str, Any] | None:
    """A level of a run; None where it has none of that share."""
    return next((one for one in result["levels"] if one["name"] == f"w{percent}"), None)


def _narrowest(result: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = result["levels"][0]
    return found


def _epochs(schedule: dict[str, Any], kind: str = "") -> str:
    count = schedule["epochs"]
    return f"{count} {kind}epoch{'s' if count > 1 else ''}"


def accuracy(figure: str, network: str, levels: int, method: str, percent: int, goal: str | None = None) -> None:
    """One level of one method, over the seeds that have ended."""
    from reds_training import METHODS

    found = results(network, levels, method)
    # Wide levels are not trained alone.
    of = {seed: one for seed, result in found.items() if (one := level_of(result, percent)) is not None}
    if not of:
        return
    values = [100 * one["test"] for one in of.values()]
    share = statistics.mean(one["share"] for one in of.values())
    settings = next(iter(found.values()))["settings"]
    tuned = f", {_epochs(settings['tuning'], 'joint ')}" if settings["tuning"] else f", {_epochs(settings['training'])}"
    note(
        figure, round(statistics.mean(values), 3), unit="%", goal=goal, seeds=[*of], key=[*of.values()],
        spread=between(values),
        anchor=ANCHORS.get(percent) if goal else None,
        about=f"{TITLES[network]}, {percent} % level ({share:.1%} of MACs), {METHODS[method].about}{tuned}",
    )  # fmt: skip


def accuracies() -> None:
    """All comparisons that have runs."""
    for percent, goal in GOALS.items():
        accuracy(f"fmnist_{percent}", "fashion", 4, "best", percent, goal)
    ours = results("fashion", 4, "best")
    for control in CONTROLS:
        theirs = results("fashion", 4, f"best{control}")
        both = [seed for seed in ours if seed in theirs]
        if both:
            pairs = [(_narrowest(ours[seed])["test"], _narrowest(theirs[seed])["test"]) for seed in both]
            points = [100 * (a - b) for a, b in pairs]
            is_uniform = control == "uniform"
            note(
                f"fmnist_25_over_{control}", round(statistics.mean(points), 3), unit="points", seeds=both,
                goal=">= 3" if is_uniform else "> 0", spread=between(points), key=pairs,
                anchor="2.8 (keywords, DS-CNN S)" if is_uniform else None,
                about=f"{TITLES['fashion']} at 25 %: importance and exact search over {control}, paired by seed",
            )  # fmt: skip
    for percent in GOALS:
        for control in CONTROLS:
            accuracy(f"fmnist_{percent}_{control}", "fashion", 4, f"best{control}", percent)
        for name, method in FORMS.items():
            accuracy(f"fmnist_{percent}_{name}", "fashion", 4, method, percent)
    for percent in range(10, 101, 10):
        accuracy(f"fmnist_ten_{percent}", "fashion", 10, "best", percent)
    for network in ("cifar100", "cifar10"):
        for method in (*COMPARED, "alone"):
            for percent in GOALS:
                accuracy(f"{network}_{percent}__{TABLE[method]}", network, 4, method, percent)


def picture(path: Path) -> None:
    """Draw accuracy over multiply-accumulates."""
    draw_widths(path, results, TITLES)


def main() -> None:
    given = comparison_arguments(__doc__, "reds")
    scratch: Path = given.scratch
    wanted = set() if given.runs else set(given.ids)
    if not given.runs:
        t6_rows(wanted)
        searches(wanted)
        at_run_time(wanted, scratch)
    names = list(given.ids) if given.runs else [*MINIMAL, *(FURTHER if given.further else [])]
    if (
        not given.no_runs
        and (not wanted or any(one.startswith(("fmnist", "cifar")) for one in wanted))
        and data_are_here()
    ):
        from reds_training import Run

        make_runs(
            HERE / "reds_training.py", names, scratch, jobs=given.jobs,
            has_ended=lambda name: Run.parse(name).result() is not None, ended=accuracies,
        )  # fmt: skip
    accuracies()
    if not given.runs:
        picture(DOCS / "widths.svg")


if __name__ == "__main__":
    main()
