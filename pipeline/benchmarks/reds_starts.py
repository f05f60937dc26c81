"""Data and pre-trained weights that the figures of nested widths start from; each continues after a kill.

`python pipeline/benchmarks/reds_training.py SCRATCH SEED` trains one start (one thread), as `reds.py` does by itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent / "adapters"))

import reds_nets
from shared_data import data_folder

from ebbtide.data import Dataset, InputDefaults, load_prepared, prepare
from ebbtide.model import Graph, capture, train
from ebbtide.recipe import TrainingSection
from ebbtide.recipe.sources import DataSection
from ebbtide.steps import write_json

# 5,000 of the 60,000 training images; the share of test is not used, since the official test set stays test.
SPLIT = {"train": 0.77, "select": 0.07, "test": 0.16}
# Mean and deviation of the training pixels, in 0..1.
FASHION = InputDefaults(mean=(0.2860,), std=(0.3530,), size=(28, 28), color="gray")
AUGMENTATION = {"flip": True, "crop_padding": 2}
PRETRAINING: dict[str, Any] = {
    "epochs": 12,
    "batch_size": 128,
    "optimizer": "adamw",
    "learning_rate": 4e-3,
    "weight_decay": 0.01,
    "warmup_epochs": 1,
    "precision": "bfloat16",
    "device": "cpu",
    "augmentation": AUGMENTATION,
}


def fashion(scratch: Path) -> Dataset:
    """Fashion-MNIST, prepared once; raises ``data.missing`` where the shared data are not here."""
    folder = scratch / "fashion"
    if not (folder / "dataset.json").is_file():
        data = data_folder()
        idx = {
            "images": str(data / "fashion_train-images-idx3-ubyte.gz"),
            "labels": str(data / "fashion_train-labels-idx1-ubyte.gz"),
            "test_images": str(data / "fashion_t10k-images-idx3-ubyte.gz"),
            "test_labels": str(data / "fashion_t10k-labels-idx1-ubyte.gz"),
        }
        section = DataSection.model_validate({"idx": idx, "split": {**SPLIT, "seed": 0}})
        unfinished = scratch / f"fashion.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        prepare(section, classes="all", seed=0, input_defaults=FASHION, folder=unfinished)
        try:
            unfinished.rename(folder)
        except OSError:  # Another process was first.
            shutil.rmtree(unfinished)
    return load_prepared(folder)


def untrained(seed: int) -> Graph:
    """DS-CNN S for Fashion-MNIST with the initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return capture(reds_nets.dscnn_s_images(), reds_nets.FASHION_INPUT, classes=10)


def pretrained(scratch: Path, seed: int, *, progress: Any = None) -> Graph:
    """The trained start of a seed, from scratch's file where it is there."""
    graph = untrained(seed)
    weights = scratch / f"fashion_start_{seed}.safetensors"
    if not weights.is_file():
        data = fashion(scratch)
        history = train(
            graph,
            data.train,
            data.select,
            settings=TrainingSection.model_validate({**PRETRAINING, "seed": seed}),
            metric="accuracy",
            checkpoint=scratch / f"fashion_start_{seed}.checkpoint",
            progress=progress or Printed(f"start {seed}"),
        )
        unfinished = weights.with_suffix(f".{os.getpid()}")
        save_file({name: tensor.contiguous() for name, tensor in graph.state().items()}, unfinished)
        write_json(weights.with_suffix(".json"), {"settings": {**PRETRAINING, "seed": seed}, **history.to_json()})
        unfinished.replace(weights)
    graph.load(load_file(weights))
    return graph.eval()


class Printed:
    """Progress as a line an epoch."""

    def __init__(self, label: str) -> None:
        self.label = label

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Printed]:
        yield self

    def advance(self, count: int = 1, **facts: object) -> None:
        if "loss" in facts:
            self.say(", ".join(f"{name} {value}" for name, value in facts.items()))

    def say(self, text: str) -> None:
        print(f"{self.label}: {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pretrained(arguments.scratch, arguments.seed)


if __name__ == "__main__":
    main()
