"""Single runs of the measurement of early exits: `python pipeline/benchmarks/exits_training.py SCRATCH RUN`.

A run is called NETWORK_MODE_SEED, such as ``resnet56_frozen_0``. It trains exits, and then serves both halves of the
test images in turn: temperatures, exits in use and thresholds are chosen on one half and reported on the other. The
weights saw all training images of CIFAR-10, so confidences there are inflated and none of them can serve for choosing;
this is the one exception to the locked test split, and both halves are published. Its result is one file in
``results/exits_runs``; a killed run goes on with the parts that are missing.

Modes:

- ``frozen``: exits of all types at all positions on the frozen backbone, cross-entropy;
- ``kl``: the same, and the head's logits as a teacher;
- ``joint``: the exits that ``frozen`` settled on and the backbone trained together, distilled from the original.

Candidates stand at every position of ResNet-20 and at every second one of ResNet-56, whose neighbours differ little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exits_halves import MOST, OVERHEAD_MACS, SEARCH, WORST_DROP, Told, halves, swap
from exits_ways import LIMIT_POINTS, WAYS
from reds_starts import NETWORKS as WIDTHS_NETWORKS
from reds_starts import Network, Printed, adapter, alone_with, dataset
from runs import circumstances, stored_result
from safetensors.torch import load_file, save_file

from ebbtide.data import Augmentation, FrozenChoices, Split
from ebbtide.exits import (
    Exit,
    ExitKey,
    ExitSettings,
    FeatureCache,
    Place,
    build_exit,
    cache_features,
    exit_logits,
    exit_macs,
    exit_places,
    exit_types,
    fit_exits,
    load_exit,
    pools_of,
    possible_exits,
    save_exit,
)
from ebbtide.exits.joint import train_joint
from ebbtide.model import Graph, cost, cut_points, split
from ebbtide.search import (
    Costs,
)
from ebbtide.steps import write_json

RUNS = Path(__file__).resolve().parent / "results" / "exits_runs"
_DATA = "cifar10"
NETWORKS: dict[str, Network] = {
    "resnet56": WIDTHS_NETWORKS[_DATA],
    "resnet20": replace(
        WIDTHS_NETWORKS[_DATA], make="resnet_cifar.py:resnet20", trained="resnet_cifar.py:cifar10_resnet20"
    ),
}
MODES = ("frozen", "kl", "joint")
# One in so many positions has candidates.
SPACING = {"resnet20": 1, "resnet56": 2}
EXITS: dict[str, Any] = {"epochs": 30, "batch_size": 256, "learning_rate": 1e-2, "weight_decay": 1e-3}
TEACHER: dict[str, Any] = {"kl_weight": 0.5, "kl_temperature": 2.0}
PASSES = 2
AUGMENTATION: dict[str, Any] = {"flip": True, "crop_padding": 4}
TOGETHER: dict[str, Any] = {
    "batch_size": 128, "optimizer": "sgd", "weight_decay": 5e-4, "precision": "auto", "device": "auto",
    "augmentation": AUGMENTATION, "epochs": 8, "learning_rate": 0.03, "warmup_epochs": 1,
}  # fmt: skip
JOINT: dict[str, Any] = {"exit_share": 0.5, "weight": 0.5, "temperature": 2.0}
BACKBONE = "backbone.safetensors"


@dataclass(frozen=True)
class Run:
    """One mode on one network with one seed."""

    network: str
    mode: str
    seed: int

    @classmethod
    def parse(cls, name: str) -> Run:
        network, mode, seed = name.split("_")
        if network not in NETWORKS or mode not in MODES:
            raise SystemExit(f"{name}: networks are {', '.join(NETWORKS)}; modes are {', '.join(MODES)}")
        return cls(network, mode, int(seed))

    @property
    def name(self) -> str:
        return f"{self.network}_{self.mode}_{self.seed}"

    @property
    def path(self) -> Path:
        return RUNS / f"{self.name}.json"

    def settings(self) -> dict[str, Any]:
        """Everything that the result depends on beside data, start and code, as JSON values."""
        exits = {**EXITS, **(TEACHER if self.mode == "kl" else {}), "passes": PASSES, "augmentation": AUGMENTATION}
        search = {name: value for name, value in vars(SEARCH).items() if name != "trade_offs"}
        return {
            "run": self.name,
            "exits": exits,
            "joint": {**JOINT, "training": TOGETHER} if self.mode == "joint" else None,
            "search": {
                **search,
                "trade_offs": len(SEARCH.trade_offs),
                "most": MOST,
                "worst_drop_points": WORST_DROP,
                "overhead_macs": OVERHEAD_MACS,
            },
            "limit_points": LIMIT_POINTS,
            "ways": list(WAYS),
            **({"spacing": SPACING[self.network]} if SPACING[self.network] > 1 else {}),
        }

    def result(self) -> dict[str, Any] | None:
        """What the run found; None where it has not ended with these settings."""
        return stored_result(self.path, self.settings())


@dataclass(frozen=True)
class Cut:
    """A backbone at all its cut points."""

    graph: Graph

    @cached_property
    def names(self) -> list[str]:
        return [point.name for point in cut_points(self.graph)]

    @cached_property
    def places(self) -> dict[int, Place]:
        """Where exits can stand: after every stage but the last, before which the head does the same."""
        return dict(enumerate(exit_places(self.graph, self.names)[:-1]))

    @cached_property
    def macs(self) -> list[int]:
        """Of each stage, then of the head."""
        staged = split(self.graph, self.names)
        return [cost(part, staged.inputs_of(i)).macs for i, part in enumerate([*staged.stages, staged.head])]

    def costs(self, keys: Sequence[ExitKey]) -> Costs:
        exits = {
            key: exit_macs(build_exit(key.type, self.places[key.position]), self.places[key.position]) for key in keys
        }
        return Costs(stages=tuple(self.macs[:-1]), exits=exits, head=self.macs[-1])

    def cache(
        self, samples: Split, keys: Sequence[ExitKey], folder: Path, *, seed: int | None, label: str
    ) -> FeatureCache:
        """Features of a split, cached once; changed at random, several passes of them, where there is a seed."""
        done = folder / "done"
        if not done.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            staged = split(self.graph, self.names).eval()
            augmentation = None if seed is None else Augmentation(**AUGMENTATION, seed=seed)
            Printed(label).say(f"caching {len(samples)} samples of {samples.name}")
            cache_features(
                samples,
                staged.stages,
                staged.head,
                pools=pools_of(keys, self.places),
                folder=folder,
                half=True,
                passes=1 if augmentation is None else PASSES,
                augmentation=augmentation,
            )
            done.touch()
        return FeatureCache.load(folder)


def frozen(run: Run, cut: Cut, train: Split, scratch: Path) -> dict[ExitKey, Exit]:
    """Exits of all types at all positions; each trained once, and kept in the scratch folder."""
    spacing = SPACING[run.network]
    places = {position: place for position, place in cut.places.items() if position % spacing == spacing - 1}
    possible = possible_exits(places, exit_types())
    folder = scratch / f"{run.network}_{'kl' if run.mode == 'kl' else 'frozen'}_{run.seed}.exits"
    files = {key: folder / exit_file(key) for key in possible.keys}
    if not all(file.is_file() for file in files.values()):
        features = scratch / f"{run.network}_{run.seed}.train"
        cache = cut.cache(train, possible.keys, features, seed=run.seed, label=run.name)
        settings = ExitSettings(**EXITS, **(TEACHER if run.mode == "kl" else {}), seed=run.seed)
        began = time.monotonic()
        trained = fit_exits(possible.keys, cut.places, cache, settings=settings, progress=Printed(run.name))
        Printed(run.name).say(f"{len(trained)} exits trained in {time.monotonic() - began:.0f} s")
        folder.mkdir(exist_ok=True)
        for key, (module, _) in trained.items():
            save_exit(module, files[key])
    fresh = {key: build_exit(key.type, cut.places[key.position]) for key in possible.keys}
    return {key: load_exit(module, files[key]) for key, module in fresh.items()}


def exit_file(key: ExitKey) -> str:
    """Where an exit lies in a folder of them."""
    return f"{key.position}_{key.type}.safetensors"


def execute(run: Run, scratch: Path) -> dict[str, Any]:
    """Do a run, or return what it found before."""
    with alone_with(scratch / run.name):
        before = run.result()
        if before is not None:
            return before
        began = time.monotonic()
        network = NETWORKS[run.network]
        data = dataset(_DATA, scratch)
        original = Cut(_start(network))
        exits: Mapping[ExitKey, Exit] = frozen(run, original, data.train, scratch)
        backbone, history = original, None
        if run.mode == "joint":
            backbone, exits, history = _together(run, original, exits, data.train, data.select, scratch)
        test = data.test.open(
            FrozenChoices.of(
                {"settings": run.settings(), "exits": sorted(map(str, exits)), "weights": backbone.graph.digest()}
            )
        )
        told = told_of(run, backbone, exits, test, scratch)
        costs, even = backbone.costs(sorted(exits)), halves(test)
        parts = {"even": even, "odd": ~even}
        swaps = [swap(told, costs, part, name, network.classes) for name, part in parts.items()]
        facts = {
            "settings": run.settings(),
            "macs": costs.total,
            "swaps": swaps,
            "history": history,
            "samples": {"train": len(data.train), "test": len(test)},
            **circumstances(data.digest, began),
        }  # fmt: skip
        RUNS.mkdir(parents=True, exist_ok=True)
        write_json(run.path, facts)
        for one in swaps:
            best = one["within"]
            Printed(run.name).say(
                f"dense {one['dense']['test']:.2%}, head {one['head']:.2%}; "
                + (f"cut {best['cut']:.1%} at {best['measured']:.2%}" if best else "nothing within the limit")
            )
        return facts


def told_of(run: Run, backbone: Cut, exits: Mapping[ExitKey, Exit], test: Split, scratch: Path) -> Told:
    """What a run's model says of the test images, from features that are cached in the scratch folder."""
    is_joint = run.mode == "joint"
    features = scratch / f"{run.name if is_joint else run.network}.test"
    cache = backbone.cache(test, sorted(exits), features, seed=None, label=run.name)
    own = cache.logits
    if is_joint:
        original = Cut(_start(NETWORKS[run.network]))
        own = original.cache(test, [], scratch / f"{run.network}.own", seed=None, label=run.name).logits
    return Told(cache.labels, exit_logits(exits, cache), np.asarray(cache.logits), np.asarray(own))


def _start(network: Network) -> Graph:
    return network.captured(adapter(str(network.trained))()).eval()


def _together(
    run: Run, original: Cut, exits: Mapping[ExitKey, Exit], train: Split, select: Split, scratch: Path
) -> tuple[Cut, dict[ExitKey, Exit], Any]:
    """The exits that both swaps of the frozen mode settled on, and the backbone, trained together."""
    before = Run(run.network, "frozen", run.seed).result()
    if before is None:
        raise SystemExit(f"{run.name} starts from the exits of {run.network}_frozen_{run.seed}, which has not ended")
    keys = _one_type_each(before["swaps"], exits)
    joint = train_joint(
        original.graph, original.names, {key: exits[key] for key in keys}, train, select,
        settings=NETWORKS[run.network].settings(TOGETHER, run.seed), metric="accuracy", **JOINT,
        checkpoint=scratch / f"{run.name}.checkpoint", progress=Printed(run.name),
    )  # fmt: skip
    place = scratch / f"{run.name}.model"
    place.mkdir(exist_ok=True)
    for key, module in joint.exits.items():
        save_exit(module, place / exit_file(key))
    save_file(joint.graph.state(), place / BACKBONE)
    return Cut(joint.graph), joint.exits, joint.history.to_json()["epochs"]


def trained_model(run: Run, keys: Sequence[ExitKey], scratch: Path) -> tuple[Cut, dict[ExitKey, Exit]] | None:
    """The backbone that a run served and some of its exits; None where the scratch folder has them no more."""
    cut = Cut(_start(NETWORKS[run.network]))
    place = scratch / (f"{run.name}.model" if run.mode == "joint" else f"{run.name}.exits")
    if not all((place / exit_file(key)).is_file() for key in keys):
        return None
    if run.mode == "joint":
        cut.graph.load(load_file(place / BACKBONE))
    fresh = {key: build_exit(key.type, cut.places[key.position]) for key in keys}
    return cut, {key: load_exit(module, place / exit_file(key)) for key, module in fresh.items()}


def _one_type_each(swaps: Sequence[dict[str, Any]], exits: Mapping[ExitKey, Exit]) -> list[ExitKey]:
    """Every position that a swap settled on, with the type of the first one that did."""
    found: dict[int, ExitKey] = {}
    for one in swaps:
        for text in one["settled"]:
            key = ExitKey.parse(text)
            found.setdefault(key.position, key)
    return sorted(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("run", help="NETWORK_MODE_SEED")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.scratch.mkdir(parents=True, exist_ok=True)
    execute(Run.parse(given.run), given.scratch)


if __name__ == "__main__":
    main()
