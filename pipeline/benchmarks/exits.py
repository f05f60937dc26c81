"""The figures of early exits: `python pipeline/benchmarks/exits.py [ID ...]`; continues after a kill.

Each run (see exits_training.py) chooses on one half of the test images of CIFAR-10 and reports on the other, both ways.
A figure is the mean over seeds and both ways, with the lowest and the highest beside it. The row of a table that counts
is the cheapest that promises, on the half where all was chosen, at most half a point less than the dense network there;
how much it then lost on the other half is a figure of its own.

Ids are figures, or with ``--runs`` the runs to make, such as resnet56_joint_0.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from exits_picture import draw_exits
from exits_training import MODES, Run
from exits_ways import LIMIT_POINTS
from figures import FigureFile
from processes import EBB, run
from runs import comparison_arguments, data_are_here, ended_results, make_runs

from ebbtide.steps import code_digest

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
COMMAND = "python pipeline/benchmarks/exits.py"
FILE = FigureFile("exits")
SEEDS = (0, 1, 2)
GOALS = {"resnet56": (">= 25", ">= 45"), "resnet20": (None, ">= 30")}
TITLES = {"resnet56": "ResNet-56", "resnet20": "ResNet-20"}
WORDS = {
    "frozen": "frozen backbone, cross-entropy",
    "kl": "frozen backbone, taught by the head",
    "joint": "backbone and exits trained together",
}
WAYS_WORDS = {
    "sweeps": "exact steps in sweeps, refined",
    "iterative": "one exact step at a time, the best first",
    "single_pass": "one pass of exact steps",
    "brent": "one pass, thresholds by Brent's method (as DyCE published it)",
    "same_threshold": "the same threshold at every exit",
}
# The steps of a build that lead from a model to its table.
AUGMENTATION = (
    "stages", "features", "candidates", "exits", "records", "positions", "program", "program-records", "table"
)  # fmt: skip
RUNS = [f"{network}_{mode}_{seed}" for seed in SEEDS for network in ("resnet20", "resnet56") for mode in MODES]


def note(figure: str, value: float, **facts: Any) -> None:
    """Record a figure, unless it is there with the same inputs."""
    FILE.note(figure, value, script=COMMAND, **facts)


def results(network: str, mode: str) -> dict[int, dict[str, Any]]:
    """By seed, the results of a mode that have ended."""
    return ended_results(Run(network, mode, seed) for seed in SEEDS)


def rows_within(found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """The row that counts, of every seed and way; the dense network where no row keeps the limit."""
    rows = []
    for result in found.values():
        for one in result["swaps"]:
            dense = {"promised_cut": 0.0, "cut": 0.0, "drop": 0.0}
            best = one["within"]
            rows.append(
                dense if best is None else {
                    "promised_cut": 1 - best["promised_cost"] / result["macs"],
                    "cut": best["cut"],
                    "drop": 100 * (one["dense"]["test"] - best["measured"]),
                }
            )  # fmt: skip
    return rows


def spread(values: list[float]) -> tuple[float, float] | None:
    return (round(min(values), 2), round(max(values), 2)) if len(values) > 1 else None


def cuts(network: str) -> None:
    """MACs saved within the limit by every mode, and by the best of the frozen ones and of all."""
    modes = {mode: results(network, mode) for mode in MODES}
    rows = {mode: rows_within(found) for mode, found in modes.items() if found}
    for mode, each in rows.items():
        _cut(f"{network}_{mode}__macs_cut", network, mode, each, modes[mode], None)
        drops = [row["drop"] for row in each]
        note(
            f"{network}_{mode}__drop", round(statistics.mean(drops), 2), unit="points", spread=spread(drops),
            seeds=[*modes[mode]], goal=f"<= {LIMIT_POINTS}", key=[result["ended"] for result in modes[mode].values()],
            about=f"{TITLES[network]}, {WORDS[mode]}: lost on the other half by the row that counts",
        )  # fmt: skip
    # The better one is told by what it promised, never by what was measured.
    for name, among, goal in (
        (f"{network}_macs_cut_frozen", ("frozen", "kl"), GOALS[network][0]),
        (f"{network}_macs_cut", MODES, GOALS[network][1]),
    ):
        there = [mode for mode in among if mode in rows]
        if there:
            best = max(there, key=lambda mode: statistics.mean(row["promised_cut"] for row in rows[mode]))
            _cut(name, network, best, rows[best], modes[best], goal)


def _cut(
    figure: str, network: str, mode: str, rows: list[dict[str, Any]], found: dict[int, dict[str, Any]], goal: str | None
) -> None:
    values = [100 * row["cut"] for row in rows]
    note(
        figure, round(statistics.mean(values), 2), unit="%", goal=goal, spread=spread(values), seeds=[*found],
        key=[mode, *(result["ended"] for result in found.values())],
        about=f"{TITLES[network]} on CIFAR-10, {WORDS[mode]}: mean MACs saved at a promised loss of at most "
        f"{LIMIT_POINTS} point",
    )  # fmt: skip


def promises() -> None:
    """How far what tables promised was from what was measured on the other half."""
    each, ended = [], []
    for network in TITLES:
        for mode in MODES:
            for result in results(network, mode).values():
                ended.append(result["ended"])
                half = result["samples"]["test"] / 2
                for one in result["swaps"]:
                    for row in one["rows"]:
                        # Both halves are samples of their own.
                        error = (2 * row["measured"] * (1 - row["measured"]) / half) ** 0.5
                        each.append((row["measured"] - row["promised"], error))
    if not each:
        return
    off, errors = np.array(each).T
    note(
        "promise_share", round(float((abs(off) <= 2 * errors).mean()), 4), unit="", goal=">= 0.95", key=ended,
        about="rows whose measured accuracy is within 2 standard errors of what they promised",
    )  # fmt: skip
    note(
        "promise_bias", round(100 * float(off.mean()), 3), unit="points", goal="0 +- 0.2", key=ended,
        about="measured accuracy over promised, mean over all rows",
    )  # fmt: skip


def compared_ways() -> None:
    """Ways to choose thresholds, on the exits of the frozen modes: as searches, as fronts, and in CPU time."""
    for network in TITLES:
        found = results(network, "frozen")
        swaps = [one for result in found.values() for one in result["swaps"]]
        if not swaps:
            continue
        key = [result["ended"] for result in found.values()]
        for way, words in WAYS_WORDS.items():
            for name, unit, factor, about in (
                (
                    "given_away_points",
                    "points",
                    1.0,
                    "objective over that of sweeps, as accuracy, mean of 50 trade-offs",
                ),
                (
                    "cut",
                    "%",
                    100.0,
                    "most MACs saved on the other half among rows that lose at most half a point there",
                ),
            ):
                values = [factor * one["ways"][way][name] for one in swaps]
                note(
                    f"{network}_{way}__{name}", round(statistics.mean(values), 2), unit=unit, spread=spread(values),
                    seeds=[*found], key=key, about=f"{TITLES[network]}, frozen backbone, {words}: {about}",
                )  # fmt: skip
        if network == "resnet56":
            times = [one["search_s"] for one in swaps]
            note(
                "search_50_s", round(statistics.mean(times), 1), unit="s", goal="< 60", seeds=[*found], key=key,
                spread=spread(times), anchor="hours (DyCE, ResNet-152)",
                about="ResNet-56, 5,000 samples, 50 trade-offs: exits of all types at 13 positions, five folds, types "
                "settled and searched again; CPU seconds of one core",
            )  # fmt: skip


def key_of_missing(run: Run, names: Iterable[str], wanted: set[str], *parts: Any) -> list[Any] | None:
    """What figures of a run depend on; None where it has not ended, or none of them is both asked for and missing."""
    names, result = {*names}, run.result()
    if result is None or (wanted and not wanted & names):
        return None
    key = [code_digest(("ebbtide",)), *parts, result["ended"]]
    return None if all(FILE.has(name, key) for name in names) else key


def at_run_time(wanted: set[str], scratch: Path) -> None:
    """What the saving is as latency, and whether the runtime does what the simulation says, with seed 0."""
    from exits_runtime import serve

    for network in TITLES:
        for mode in MODES:
            run = Run(network, mode, 0)
            row = f"{network}_{mode}"
            columns = ("latency_cut", "session_latency_cut", "lean_macs_cut", "latency_share", "differing")
            names = [f"{row}__{column}" for column in columns]
            key = key_of_missing(run, names, wanted)
            if key is None:
                continue
            found = [serve(run, half, scratch) for half in (0, 1)]
            served = [one for one in found if one is not None]
            if len(served) < len(found):
                left_out(names, scratch)
                continue
            about = f"{TITLES[network]}, {WORDS[mode]}, exits chosen with their fixed cost"
            saved = {
                "latency_cut": ("latency in the C++ runner", [100 * one.latency_cut for one in served]),
                "session_latency_cut": ("latency in a session in Python", [100 * one.session_cut for one in served]),
                "lean_macs_cut": ("MACs", [100 * one.macs_cut for one in served]),
            }
            for name, (what, values) in saved.items():
                note(
                    f"{row}__{name}", round(statistics.mean(values), 2), unit="%", spread=spread(values), key=key,
                    about=f"{about}: {what} saved against the dense program in the same run, batch 1, one thread",
                    seeds=[0],
                )  # fmt: skip
            shares = [one.latency_cut / one.macs_cut for one in served]
            note(
                f"{row}__latency_share", round(statistics.mean(shares), 3), unit="", spread=spread(shares), key=key,
                goal=">= 0.9", about=f"{about}: latency saved in the C++ runner over MACs saved", seeds=[0],
            )  # fmt: skip
            note(
                f"{row}__differing", max(one.differing for one in served), unit="images", goal="== 0", key=key,
                about=f"{about}: of {served[0].images:,} test images, those that a session answers at another exit or "
                "with another label than the simulation",
                seeds=[0],
            )  # fmt: skip


def left_out(names: Iterable[str], scratch: Path) -> None:
    """Say which figures need what is not there."""
    print(f"left out: {' '.join(sorted(names))} (the run's weights are not in {scratch})")


def streams(wanted: set[str], scratch: Path) -> None:
    """What the mechanisms of streams save on frames made from test images, with seed 0."""
    from exits_runtime import stream

    for network in TITLES:
        run = Run(network, "frozen", 0)
        names = {
            f"{network}_{mechanism}__{column}"
            for mechanism in ("difference", "patience")
            for column in ("frames_stopped", "stream_macs_cut", "points_lost")
        }
        key = key_of_missing(run, names, wanted)
        if key is None:
            continue
        found = stream(run, scratch)
        if found is None:
            left_out(names, scratch)
            continue
        for mechanism, one in found.items():
            about = f"{TITLES[network]} with exits, {mechanism}, frames of 400 images it was not chosen on"
            for column, value, unit, what in (
                ("frames_stopped", 100 * one.stopped, "%", "frames that repeat their scene's answer"),
                ("stream_macs_cut", 100 * one.macs_cut, "%", "MACs saved over the same frames without a stream"),
                ("points_lost", one.drop, "points", "accuracy lost against that"),
            ):
                note(
                    f"{network}_{mechanism}__{column}", round(value, 2), unit=unit, key=key, seeds=[0],
                    about=f"{about}: {what}",
                )  # fmt: skip


def mappings(wanted: set[str], scratch: Path) -> None:
    """Exact scores of mappings beside what the path weights as published choose, on the records of seed 0."""
    from exits_mapping import PROFILES, TRADE_OFF, mapped_run

    columns = ("latency_saved", "published_excess", "published_points_lost", "edges_gap")
    for network in TITLES:
        run = Run(network, "frozen", 0)
        rows = {profile: f"{network}_{profile.removeprefix('example-').replace('-', '_')}" for profile in PROFILES}
        names = {f"{row}__{column}" for row in rows.values() for column in columns}
        key = key_of_missing(run, names, wanted, TRADE_OFF)
        if key is None:
            continue
        found = mapped_run(run, scratch)
        if found is None:
            left_out(names, scratch)
            continue
        for profile, row in rows.items():
            _mapped(f"{TITLES[network]} on {profile}", row, found[profile], key)


def _mapped(title: str, row: str, found: dict[str, Any], key: Any) -> None:
    published, base_us = found["published_with_an_exit"], found["without_exits_us"]
    best_us = found["mapping"]["mean_us"]
    what = "the path weights as published, made to use an exit"
    for column, value, unit, about in (
        ("latency_saved", 100 * (1 - best_us / base_us), "%", "expected latency saved by the best mapping with exits"),
        ("published_excess", 100 * published["cost_excess_us"] / base_us, "%", f"expected latency that {what}, lose"),
        ("published_points_lost", published["points_lost"], "points", f"accuracy that {what}, lose"),
        ("edges_gap", 100 * found["edges"]["gap"], "points", "corrected edges: estimate over exact objective"),
    ):
        note(
            f"{row}__{column}", round(value, 3), unit=unit, key=key, seeds=[0],
            about=f"{title}, 5,000 images: {about}; throughputs of the profile, nothing has run there",
        )  # fmt: skip


def augmentation(wanted: set[str], scratch: Path) -> None:
    """From the weights of ResNet-56 to a table, as the build of a recipe with ``exits: auto`` does it."""
    key = code_digest(("ebbtide",))
    if (wanted and "augmentation_s" not in wanted) or FILE.has("augmentation_s", key) or not data_are_here():
        return
    home = scratch / "augmentation"
    # No earlier build may shorten what is timed.
    shutil.rmtree(home, ignore_errors=True)
    asked = ["--set", "data.split=test-halves", "--output", home / "out", "--json"]
    done = run([*EBB, "build", HERE / "recipes" / "cifar10_resnet56.yaml", *asked], home=home)
    spent = dict.fromkeys(AUGMENTATION, 0.0)
    for timed in done.json()["record"]["timings"]:
        if timed["step"] in spent:
            spent[timed["step"]] += timed["seconds"]
    parts = ", ".join(f"{step} {seconds:.0f}" for step, seconds in spent.items() if seconds >= 1)
    note(
        "augmentation_s", round(sum(spent.values()), 1), unit="s", goal="< 540", key=key,
        anchor="< 9 h (ResNet-152, EENN)",
        about=f"ResNet-56 on CIFAR-10, `exits: auto`: from weights to a table for both halves, two cores (s: {parts})",
    )  # fmt: skip


def figures() -> None:
    """All that follows from runs alone."""
    for network in TITLES:
        cuts(network)
    promises()
    compared_ways()


def picture(path: Path) -> None:
    """Draw the fronts of all runs."""
    draw_exits(path, results, WORDS, TITLES)


def main() -> None:
    given = comparison_arguments(__doc__, "exits", further=False)
    scratch: Path = given.scratch
    if not given.no_runs and data_are_here():
        make_runs(
            HERE / "exits_training.py", given.ids if given.runs else RUNS, scratch, jobs=given.jobs,
            has_ended=lambda name: Run.parse(name).result() is not None, ended=figures,
        )  # fmt: skip
    figures()
    if not given.runs:
        picture(DOCS / "exits.svg")
        mappings(set(given.ids), scratch)
        streams(set(given.ids), scratch)
        at_run_time(set(given.ids), scratch)
        augmentation(set(given.ids), scratch)


if __name__ == "__main__":
    main()
