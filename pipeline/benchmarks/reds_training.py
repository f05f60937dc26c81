"""Single runs of the comparison of nested widths: `python pipeline/benchmarks/reds_training.py SCRATCH RUN`.

A run is called NETWORK_LEVELS_METHOD_SEED, such as ``fashion_4_importance_0``. It orders and searches, tunes all levels
together, and only then opens the test images, once. Its result is one file in ``results/reds_runs``, so a comparison
that was killed, or moved to another machine, goes on with the runs that are missing; a killed run goes on with its last
whole epoch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reds_starts import NETWORKS, Printed, alone_with, dataset, start
from runs import circumstances, stored_result

from ebbtide.data import Dataset, FrozenChoices
from ebbtide.model import Coupling, Graph, coupling_groups, evaluate, narrow, train
from ebbtide.nesting import Level, Nested, TuningOptions, choose_levels, extract, order_units, tune
from ebbtide.nesting.levels import Search
from ebbtide.nesting.problem import Rules
from ebbtide.saliency import Kind, collect, unit_scores
from ebbtide.steps import digest_json, write_json

RUNS = Path(__file__).resolve().parent / "results" / "reds_runs"
RULES = Rules(multiple=1, floor=8)
# Share of the MACs up to which levels are also trained alone: wider ones take hours on two cores.
ALONE = 0.5


@dataclass(frozen=True)
class Method:
    """How levels come about.

    Args:
        about: in a reader's words.
        score: what orders units, and what the search adds up; None leaves them as they stand.
        search: of the widths.
        norm: batch norm's statistics.
        options: of the joint tuning.
        alone: each level of at most `ALONE` trained by itself, from nothing, at the widths found by importance.
    """

    about: str
    score: Kind | None = "signed"
    search: Search = "bottom-up"
    norm: str = "shared"
    options: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


BEST: dict[str, Any] = {"norm": "private", "options": {"distill": 0.5}}
BEST_FORM = "batch norm statistics per level, distillation from the widest"
METHODS: dict[str, Method] = {
    "importance": Method("importance and exact search"),
    "uniform": Method("uniform width, units as they stand", score=None, search="uniform"),
    "random": Method("random order and exact search", score="random"),
    "magnitude": Method("magnitude and exact search", score="magnitude"),
    "saliency": Method("mean of absolute gradients and exact search", score="absolute"),
    "ordereduniform": Method("uniform width, units ordered by importance", search="uniform"),
    "private": Method("importance and exact search, batch norm statistics per level", norm="private"),
    # The best form that was found on select; its controls differ in the order of units and the search alone.
    "best": Method(f"importance and exact search, {BEST_FORM}", **BEST),
    "bestuniform": Method(f"uniform width, units as they stand, {BEST_FORM}", score=None, search="uniform", **BEST),
    "bestrandom": Method(f"random order and exact search, {BEST_FORM}", score="random", **BEST),
    "bestmagnitude": Method(f"magnitude and exact search, {BEST_FORM}", score="magnitude", **BEST),
    "distill": Method("importance and exact search, distillation from the widest", options={"distill": 0.5}),
    "sandwich": Method("importance and exact search, sandwich rule", options={"sandwich": True}),
    "alone": Method("each level trained by itself", alone=True),
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One method on one network with one seed."""

    network: str
    levels: int
    method: str
    seed: int

    @classmethod
    def parse(cls, name: str) -> Run:
        network, levels, method, seed = name.split("_")
        if network not in NETWORKS or method not in METHODS:
            raise SystemExit(f"{name}: networks are {', '.join(NETWORKS)}; methods are {', '.join(METHODS)}")
        return cls(network, int(levels), method, int(seed))

    @property
    def name(self) -> str:
        return f"{self.network}_{self.levels}_{self.method}_{self.seed}"

    @property
    def path(self) -> Path:
        return RUNS / f"{self.name}.json"

    @property
    def budgets(self) -> tuple[float, ...]:
        return tuple((number + 1) / self.levels for number in range(self.levels))

    def settings(self) -> dict[str, Any]:
        """Everything that the result depends on beside data, start and code, as JSON values."""
        network, method = NETWORKS[self.network], METHODS[self.method]
        return {
            "run": self.name,
            "budgets": list(self.budgets),
            "rules": {"multiple": RULES.multiple, "floor": RULES.floor, "cost": RULES.cost},
            "score": method.score,
            "search": method.search,
            "norm": method.norm,
            "options": dict(method.options),
            "training": dict(network.training) if method.alone or network.trained is None else None,
            "tuning": None if method.alone else dict(network.tuning),
            **({"alone": ALONE} if method.alone else {}),
        }

    def result(self) -> dict[str, Any] | None:
        """What the run found; None where it has not ended with these settings."""
        return stored_result(self.path, self.settings())


def ladder(run: Run, graph: Graph, coupling: Coupling, data: Dataset) -> tuple[Level, ...]:
    """Order the units in place and find the widths of each level."""
    method = METHODS[run.method]
    if method.score is None:
        scores = {group.name: np.ones(group.size) for group in coupling.groups}
    else:
        by_gradient = method.score in ("signed", "absolute")
        statistics = collect(graph, data.train, seed=run.seed) if by_gradient else None
        scores = unit_scores(graph, coupling, method.score, statistics=statistics, seed=run.seed)
        scores = order_units(graph, coupling, scores)
    return choose_levels(graph, coupling, scores, run.budgets, rules=RULES, order=method.search).levels


def jointly(run: Run, data: Dataset, scratch: Path) -> tuple[list[tuple[Level, Graph]], list[Any]]:
    """All levels tuned together; each as a plain graph, and the history of epochs."""
    network, method = NETWORKS[run.network], METHODS[run.method]
    graph = start(run.network, run.seed, scratch)
    coupling = coupling_groups(graph)
    norm: Any = method.norm
    nested = Nested(graph, coupling, ladder(run, graph, coupling, data), norm)
    for level in nested.levels:
        Printed(run.name).say(f"{level.name}: {level.share:.2%} of MACs, widths {list(level.widths.values())}")
    history = tune(
        nested, data.train, data.select, settings=network.settings(network.tuning, run.seed),
        options=TuningOptions(**method.options), metric="accuracy", checkpoint=scratch / f"{run.name}.checkpoint",
        progress=Printed(run.name),
    )  # fmt: skip
    folder = scratch / f"{run.name}.nested"
    folder.mkdir(exist_ok=True)
    nested.save(folder)
    return [(level, extract(nested, level.name)) for level in nested.levels], list(history.to_json()["epochs"])


def alone(run: Run, data: Dataset, scratch: Path) -> tuple[list[tuple[Level, Graph]], list[Any]]:
    """Each narrow level by itself, from nothing, at the widths that the search by importance found for this seed."""
    # Tuning comes after the search, so both methods find the same widths for a seed.
    runs = (Run(run.network, run.levels, method, run.seed).result() for method in ("importance", "best"))
    searched = next((found for found in runs if found is not None), None)
    if searched is None:
        raise SystemExit(f"{run.name} takes its widths from a run by importance, and none has ended")
    network = NETWORKS[run.network]
    trained, epochs = [], []
    for facts in searched["levels"]:
        if facts["share"] > ALONE:
            continue
        level = Level(**{key: facts[key] for key in Level.__dataclass_fields__})
        whole = network.untrained(run.seed)
        graph = narrow(whole, coupling_groups(whole), level.widths)
        history = train(
            graph, data.train, data.select, settings=network.settings(network.training, run.seed), metric="accuracy",
            checkpoint=scratch / f"{run.name}_{level.name}.checkpoint", progress=Printed(f"{run.name} {level.name}"),
        )  # fmt: skip
        trained.append((level, graph))
        epochs.append({"level": level.name, "epochs": history.to_json()["epochs"]})
    return trained, epochs


def execute(run: Run, scratch: Path) -> dict[str, Any]:
    """Do a run, or return what it found before."""
    with alone_with(scratch / run.name):
        before = run.result()
        if before is not None:
            return before
        began = time.monotonic()
        data = dataset(run.network, scratch)
        found, epochs = (alone if METHODS[run.method].alone else jointly)(run, data, scratch)
        select = {level.name: evaluate(graph, data.select, metric="accuracy") for level, graph in found}
        # All is chosen: what was trained and how is frozen before the first look at a test image.
        weights = {level.name: _digest(graph) for level, graph in found}
        test = data.test.open(FrozenChoices.of({"settings": run.settings(), "weights": weights}))
        scored = [
            {
                **level.to_json(),
                "select": select[level.name],
                "test": evaluate(graph, test, metric="accuracy"),
                "weights": weights[level.name],
            }
            for level, graph in found
        ]
        facts = {
            "settings": run.settings(),
            "levels": scored,
            "epochs": epochs,
            "samples": {"train": len(data.train), "select": len(data.select), "test": len(test)},
            **circumstances(data.digest, began),
        }
        RUNS.mkdir(parents=True, exist_ok=True)
        write_json(run.path, facts)
        Printed(run.name).say(", ".join(f"{one['name']} {one['test']:.2%}" for one in scored))
        return facts


def _digest(graph: Graph) -> str:
    return digest_json({name: tensor.flatten().tolist() for name, tensor in graph.state().items()})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("run", help="NETWORK_LEVELS_METHOD_SEED, or start_NETWORK_SEED for the start alone")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.run.startswith("start_"):
        _, network, seed = given.run.split("_")
        start(network, int(seed), given.scratch)
    else:
        execute(Run.parse(given.run), given.scratch)


if __name__ == "__main__":
    main()
