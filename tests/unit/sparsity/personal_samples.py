"""Scanned digits of three classes, and a small network that knows all ten, for the tests of personalising."""

from __future__ import annotations

import functools

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from ebbtide.data import Split, image_spec
from ebbtide.model import Graph, capture, restrict_head, train
from ebbtide.recipe import TrainingSection

SHAPE = (1, 8, 8)
CLASSES = (3, 5, 8)


class KilledError(Exception):
    pass


class Telling:
    """A progress that keeps what it is told, and dies after so many batches of learning, as a killed process does."""

    def __init__(self, batches: float = float("inf")) -> None:
        self.left = batches
        self.said: list[str] = []
        self.labels: list[str] = []
        self.facts: list[dict] = []
        self._label = ""

    def say(self, text: str) -> None:
        self.said.append(text)

    def task(self, label: str, total: int | None = None) -> Telling:
        self.labels.append(label)
        inner = Telling.__new__(Telling)
        inner.__dict__ = self.__dict__
        return inner

    def __enter__(self) -> Telling:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, count: int = 1, **facts: object) -> None:
        self.facts.append(facts)
        if "epochs" in facts:
            self.left -= count
            if self.left < 0:
                raise KilledError


def settings(**more: object) -> TrainingSection:
    """Two epochs, on the CPU."""
    return TrainingSection.model_validate(
        {"epochs": 2, "batch_size": 32, "learning_rate": 0.05, "device": "cpu", **more}
    )


@functools.cache
def digits(name: str, classes: tuple[int, ...] = CLASSES, count: int | None = None) -> Split:
    """A third of the scans for each of train, select and test, labels in the order of the classes."""
    scans = load_digits()
    third = {"train": 0, "select": 1, "test": 2}[name]
    chosen = np.flatnonzero(np.isin(scans.target, classes) & (np.arange(len(scans.target)) % 3 == third))[:count]
    return Split(
        name=name,
        ids=tuple(f"digit-{index}" for index in chosen),
        labels=np.searchsorted(classes, scans.target[chosen]).astype(np.int64),
        pixels=(scans.images[chosen, :, :, None] * 15).astype(np.uint8),
        input=image_spec((8, 8), "L"),
    )


class DigitNet(nn.Module):
    """A stem, a residual block and a wider convolution: three coupling groups of 16, 16 and 24 channels."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.a = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.c = nn.Sequential(nn.Conv2d(16, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.fc = nn.Linear(24, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.c(torch.relu(x + self.b(self.a(x))))
        return self.fc(x.mean((2, 3)))


@functools.cache
def universal() -> Graph:
    """Trained on all ten digits; not to be changed."""
    torch.manual_seed(0)
    graph = capture(DigitNet(), SHAPE, classes=10)
    everything = tuple(range(10))
    train(
        graph,
        digits("train", everything),
        digits("select", everything, 60),
        settings=settings(epochs=6, learning_rate=0.1),
        metric="accuracy",
    )
    return graph


def personal() -> Graph:
    """The universal model with the logits of the three classes alone."""
    return restrict_head(universal(), CLASSES)
