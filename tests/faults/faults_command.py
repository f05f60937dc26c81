"""`ebb` inside the test's own process, with small data and models to spoil."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from ebbtide.cli.app import app

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=3, channels=1):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(4, classes)

    def features(self, x):
        return self.body(self.stem(x)).mean((2, 3))

    def forward(self, x):
        return self.fc(self.features(x))


def net(classes=3, channels=1):
    return Net(classes, channels)
"""


@dataclass(frozen=True)
class Refusal:
    """What a refused command printed: ``[code] place: message`` and the labelled lines below it."""

    status: int
    text: str

    @property
    def code(self) -> str:
        found = re.search(r"^\[([a-z]+\.[a-z_]+)\] ", self.text, re.MULTILINE)
        assert found, self.text
        return found[1]

    def line(self, label: str) -> str:
        found = re.search(rf"^  {label}: (.+)$", self.text, re.MULTILINE)
        assert found, self.text
        return found[1]

    @property
    def hint(self) -> str:
        return self.line("do")

    @property
    def place(self) -> str:
        """The first line after the code; it begins with the place."""
        return self.text[self.text.index(f"[{self.code}] ") :].splitlines()[0].removeprefix(f"[{self.code}] ")


class Command:
    """The command line with a home, a cache and an output of its own; recipes and files lie in `folder`."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.cache, self.output = folder / "project", folder / "cache", folder / "out"
        self.folder.mkdir()
        self._capfd = capfd
        monkeypatch.setenv("HOME", str(folder / "home"))
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "EBBTIDE_CACHE"):
            monkeypatch.delenv(name, raising=False)

    def recipe(self, text: str | None = None, **sections: Any) -> Path:
        """A recipe of a small trained-here model on 4 x 4 gray pictures in three classes, with sections replaced."""
        path = self.folder / "recipe.yaml"
        if text is None:
            usual: dict[str, Any] = {
                "model": {"factory": "net.py:net"},
                "data": {"npz": "data.npz"},
                "training": {"epochs": 1, "batch_size": 16},
            }
            text = yaml.safe_dump({**usual, **sections}, sort_keys=False)
        path.write_text(text)
        for name, write in (("net.py", self.net), ("data.npz", self.data)):
            if not (self.folder / name).exists():
                write()
        return path

    def net(self, extra: str = "") -> Path:
        path = self.folder / "net.py"
        path.write_text(NET + extra)
        return path

    def data(self, count: int = 60, **arrays: Any) -> Path:
        path = self.folder / "data.npz"
        pixels = np.random.default_rng(0).integers(0, 256, (count, 4, 4), np.uint8)
        usual: Mapping[str, Any] = {"images": pixels, "labels": np.arange(count) % 3}
        np.savez(path, **{k: v for k, v in {**usual, **arrays}.items() if v is not None})
        return path

    def run(self, command: str, recipe: Path, *options: object) -> Refusal:
        """Run `ebb COMMAND RECIPE`; what it printed comes back whether it was refused or not."""
        words = [command, str(recipe), *map(str, options)]
        if command != "init":
            words += ["--cache", str(self.cache)]
        if command == "build":
            words += ["--output", str(self.output)]
        assert self._capfd is not None
        self._capfd.readouterr()
        ran = CliRunner().invoke(app, words)
        screen = self._capfd.readouterr()
        text = ran.output + screen.out + screen.err
        assert ran.exception is None or isinstance(ran.exception, SystemExit), repr(ran.exception)
        assert "Traceback" not in text
        return Refusal(ran.exit_code, text)

    def refused(self, recipe: Path, *options: object, code: str, command: str = "check", status: int = 2) -> Refusal:
        """Run a command that must be refused with `code`, and look that nothing half-written stays behind."""
        found = self.run(command, recipe, *options)
        assert found.status == status, found.text
        assert found.code == code, found.text
        assert found.hint
        self.assert_clean()
        return found

    def assert_clean(self) -> None:
        """No output, and in the cache only finished steps."""
        assert written(self.output) == []
        assert unfinished(self.cache) == []

    def assert_no_steps(self) -> None:
        """Not even a finished step: the recipe alone was wrong."""
        assert written(self.cache) == []


def written(folder: Path) -> list[Path]:
    """Files below a folder; locks are empty and stay."""
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def unfinished(cache: Path) -> Sequence[Path]:
    """What a failed step left behind in a cache; a training's checkpoint in scratch is meant to stay."""
    new = [path for path in cache.rglob("*") if ".new" in path.name]
    steps = [path for path in cache.glob("*/*") if path.is_dir() and path.parent.name not in ("scratch", "openings")]
    bare = [path for path in steps if not (path / "step.json").is_file()]
    return [*new, *bare, *(p for p in cache.glob("scratch/*") if not any(p.iterdir()))]
