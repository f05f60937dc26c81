"""The networks that nested widths are measured on: data, and the trained weights that every method starts from."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ebbtide.data import Dataset, InputDefaults, load_prepared, prepare
from ebbtide.errors import EbbtideError
from ebbtide.model import Graph, capture, train
from ebbtide.recipe import TrainingSection
from ebbtide.recipe.code import code_entry
from ebbtide.recipe.sources import DataSection
from ebbtide.steps import write_json

ADAPTERS = Path(__file__).resolve().parent / "adapters"
STARTS = Path(__file__).resolve().parent / "results" / "reds_starts"
# 5,000 of the training images are select; the share of test is not used, since the official test images stay test.
FASHION_SPLIT = {"train": 0.77, "select": 0.07, "test": 0.16, "seed": 0}
CIFAR_SPLIT = {"train": 0.81, "select": 0.09, "test": 0.1, "seed": 0}


def adapter(entry: str) -> Callable[..., Any]:
    """A function of the adapters, as a recipe names it."""
    return code_entry(entry, ADAPTERS).load()


@dataclass(frozen=True)
class Network:
    """A network with its data.

    Args:
        make: untrained, as a module; a function of the adapters.
        data: the recipe's ``data`` section.
        input: what is known of the input; its size is the network's.
        channels: of the input.
        classes: how many.
        training: settings of a training from nothing.
        tuning: settings of a joint tuning.
        trained: the shared weights to start from; None: each seed trains its own start.
    """

    make: str
    data: Callable[[], dict[str, Any]]
    input: InputDefaults
    channels: int
    classes: int
    training: Mapping[str, Any]
    tuning: Mapping[str, Any]
    trained: str | None = None

    def untrained(self, seed: int) -> Graph:
        """With the initial weights of a seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.captured(adapter(self.make)())

    def captured(self, module: torch.nn.Module) -> Graph:
        assert self.input.size is not None
        return capture(module, (self.channels, *self.input.size), classes=self.classes)

    def settings(self, which: Mapping[str, Any], seed: int) -> TrainingSection:
        return TrainingSection.model_validate({**which, "seed": seed})


def _fashion_data() -> dict[str, Any]:
    folder = adapter("shared_data.py:data_folder")()
    parts = {"images": "train-images-idx3", "labels": "train-labels-idx1",
             "test_images": "t10k-images-idx3", "test_labels": "t10k-labels-idx1"}  # fmt: skip
    return {"idx": {k: str(folder / f"fashion_{v}-ubyte.gz") for k, v in parts.items()}, "split": FASHION_SPLIT}


def _cifar_data(name: str) -> dict[str, Any]:
    return {"function": f"{ADAPTERS / 'shared_data.py'}:{name}", "split": CIFAR_SPLIT}


_SEPARABLE = {
    "batch_size": 128,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "precision": "bfloat16",
    "device": "auto",
    "augmentation": {"flip": True, "crop_padding": 2},
}
_RESIDUAL = {
    "batch_size": 128,
    "optimizer": "sgd",
    "weight_decay": 5e-4,
    "precision": "auto",
    "device": "auto",
    "augmentation": {"flip": True, "crop_padding": 4},
}

NETWORKS: dict[str, Network] = {
    "fashion": Network(
        make="reds_nets.py:dscnn_s_images",
        data=_fashion_data,
        # Mean and deviation of the training pixels, in 0..1.
        input=InputDefaults(mean=(0.2860,), std=(0.3530,), size=(28, 28), color="gray"),
        channels=1,
        classes=10,
        training={**_SEPARABLE, "epochs": 12, "learning_rate": 4e-3, "warmup_epochs": 1},
        tuning={**_SEPARABLE, "epochs": 6, "learning_rate": 2e-3},
    ),
    "cifar100": Network(
        make="resnet_cifar.py:resnet20x2",
        data=lambda: _cifar_data("cifar100"),
        input=InputDefaults((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), (32, 32), "RGB"),
        channels=3,
        classes=100,
        training={**_RESIDUAL, "epochs": 6, "learning_rate": 0.1, "warmup_epochs": 1},
        tuning={**_RESIDUAL, "epochs": 1, "learning_rate": 0.08},
        trained="resnet_cifar.py:cifar100_resnet20x2",
    ),
    "cifar10": Network(
        make="resnet_cifar.py:resnet56",
        data=lambda: _cifar_data("cifar10"),
        input=InputDefaults((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (32, 32), "RGB"),
        channels=3,
        classes=10,
        training={**_RESIDUAL, "epochs": 6, "learning_rate": 0.1, "warmup_epochs": 1},
        tuning={**_RESIDUAL, "epochs": 1, "learning_rate": 0.08},
        trained="resnet_cifar.py:cifar10_resnet56",
    ),
}


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Wait until no other process works on a file, then hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether another process works on a file just now."""
    lock = path.with_name(f".{path.name}.lock")
    if not lock.exists():
        return False
    with lock.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def prepared(folder: Path, write: Callable[[Path], None]) -> Dataset:
    """A data set that is prepared once in a scratch folder, and anew where another version of the code did.

    Args:
        folder: of the data set; openings of its test split are logged beside it.
        write: prepares it in an empty folder.
    """
    log = folder.with_name(f"{folder.name}_openings.jsonl")
    with alone_with(folder):
        if folder.is_dir():
            try:
                return load_prepared(folder, opening_log=log)
            except EbbtideError as error:
                if error.code != "data.prepared":
                    raise
                shutil.rmtree(folder)
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        write(unfinished)
        unfinished.rename(folder)
    return load_prepared(folder, opening_log=log)


def dataset(name: str, scratch: Path) -> Dataset:
    """A network's data; raises ``data.missing`` where the shared data are not here."""
    network = NETWORKS[name]

    def write(folder: Path) -> None:
        section = DataSection.model_validate(network.data())
        prepare(section, classes="all", seed=0, input_defaults=network.input, folder=folder)

    return prepared(scratch / name, write)


def start(name: str, seed: int, scratch: Path) -> Graph:
    """The trained network that every method of a seed starts from.

    Weights trained here are kept beside the results, so that another machine can go on with the same ones.
    """
    network = NETWORKS[name]
    if network.trained is not None:
        return network.captured(adapter(network.trained)())
    graph = network.untrained(seed)
    weights = STARTS / f"{name}_{seed}.safetensors"
    with alone_with(scratch / weights.name):
        if not weights.is_file():
            data = dataset(name, scratch)
            settings = network.settings(network.training, seed)
            history = train(
                graph, data.train, data.select, settings=settings, metric="accuracy",
                checkpoint=scratch / f"{name}_{seed}.checkpoint", progress=Printed(f"start {name} {seed}"),
            )  # fmt: skip
            keep_start(graph, weights, {"settings": settings.model_dump(mode="json"), **history.to_json()})
    graph.load(load_file(weights))
    return graph.eval()


def keep_start(graph: Graph, weights: Path, facts: Mapping[str, Any]) -> None:
    """Write a start and how it was trained."""
    weights.parent.mkdir(parents=True, exist_ok=True)
    write_json(weights.with_suffix(".json"), dict(facts))
    unfinished = weights.with_name(f".{weights.name}.new")
    save_file({name: tensor.contiguous() for name, tensor in graph.state().items()}, unfinished)
    unfinished.replace(weights)


class Printed:
    """Progress as a line an epoch."""

    def __init__(self, label: str) -> None:
        self.label = label

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Printed]:
        yield self

    def advance(self, count: int = 1, **facts: object) -> None:
        if "eta_s" in facts:
            self.say(", ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items()))

    def say(self, text: str) -> None:
        print(f"{self.label}: {text}", flush=True)
