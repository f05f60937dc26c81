"""Whole builds of other kinds than the demo's: signals, photographs of all sizes, a class set, no exits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from conftest_e2e import Ebb
from PIL import Image

SIGNAL_NET = """
from torch import nn


def block(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, 5, stride=stride, padding=2, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()
    )


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.blocks = nn.Sequential(block(2, 8, 1), block(8, 16, 2), block(16, 16, 1), block(16, 32, 2))
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        return self.fc(self.blocks(x).mean(-1))


def net(classes=3):
    return Net(classes)
"""
PHOTO_NET = """
from torch import nn


def block(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def net():
    return nn.Sequential(
        block(3, 8, 1), block(8, 16, 2), block(16, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3)
    )
"""


def signals(path: Path, count: int = 900) -> None:
    """Two-channel waves of three frequencies in noise, of very unequal number."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, count, p=[0.6, 0.3, 0.1])
    time, phase = np.arange(64) / 64, rng.uniform(0, 6, (count, 1))
    wave = np.sin(2 * np.pi * (2 + 3 * labels[:, None]) * time + phase)
    both = np.stack([wave, np.roll(wave, 5, axis=1)], axis=1) + rng.normal(0, 1.0, (count, 2, 64))
    np.savez(path, signals=both.astype(np.float32), labels=labels, names=["slow", "middle", "fast"])


def photos(folder: Path, count: int = 120) -> None:
    """Stripes across, stripes down and checks, in PNGs of many sizes, gray and coloured."""
    rng = np.random.default_rng(0)
    for name in ("across", "checks", "down"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            height, width = (int(n) for n in rng.integers(20, 48, 2))
            rows, columns = np.arange(height)[:, None] * 6 // height, np.arange(width)[None] * 6 // width
            on = {"across": rows + 0 * columns, "down": columns + 0 * rows, "checks": rows + columns}[name] % 2
            pixels = np.clip(on * 120 + rng.normal(60, 30, (height, width)), 0, 255).astype(np.uint8)
            picture = Image.fromarray(pixels)
            (picture.convert("RGB") if index % 2 else picture).save(folder / name / f"{index:03}.png")


def recipe(folder: Path, **sections: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(sections, sort_keys=False))
    return path


def build(ebb: Ebb, path: Path, *options: object) -> Any:
    folder = path.parent
    return ebb.json("build", path, "--output", folder / "out", "--cache", folder / "cache", *options)


def tiers(said: Any) -> list[dict[str, Any]]:
    return sorted((c for c in said["record"]["configurations"] if c["tier"] is not None), key=lambda c: c["tier"])


def manifest(folder: Path) -> Any:
    return json.loads((folder / "out/bundles/host/manifest.json").read_bytes())


@pytest.mark.slow
def test_signals_become_an_xz_bundle_chosen_by_balanced_accuracy(ebb: Ebb, tmp_path: Path) -> None:
    signals(tmp_path / "waves.npz")
    (tmp_path / "net.py").write_text(SIGNAL_NET)
    path = recipe(
        tmp_path,
        model={"factory": "net.py:net"},
        data={"npz": "waves.npz"},
        training={"epochs": 6, "batch_size": 32, "augmentation": {"shift": 4, "noise": 0.1}},
        metric="balanced_accuracy",
        stages=3,
        exits={"epochs": 20},
        payload="xz",
    )
    said = build(ebb, path)
    record, key = said["record"], ["--key", tmp_path / "out/public.pem"]
    assert record["metric"] == "balanced_accuracy"
    # Every class counts alike, however few samples it has.
    rows = record["classes"]
    assert record["dense"]["test"]["accuracy"] == pytest.approx(np.mean([row["dense"] for row in rows]))
    assert max(row["n"] for row in rows) > 3 * min(row["n"] for row in rows)
    assert tiers(said)[0]["test"]["accuracy"] > 0.7
    model = manifest(tmp_path)["model"]
    assert (model["input"]["kind"], model["input"]["shape"]) == ("signal", [1, 2, 64])
    assert b"-0.0" not in (tmp_path / "out/bundles/host/manifest.json").read_bytes()
    bundle = tmp_path / "out/bundles/host"
    assert sorted(p.name for p in bundle.iterdir()) == ["manifest.json", "manifest.sig", "payload.xz"]
    assert ebb.json("verify", bundle, *key)["verified"] is True
    ran = ebb.json("run", bundle, tmp_path / "out/samples.npz", *key)["predictions"]
    labels = np.load(tmp_path / "out/samples.npz")["labels"]
    assert np.mean([one["label"] == label for one, label in zip(ran, labels, strict=True)]) > 0.7
    assert {one["class"] for one in ran} <= {"slow", "middle", "fast"}


@pytest.mark.slow
def test_photos_of_all_sizes_become_a_bundle_for_two_of_three_classes(ebb: Ebb, tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    (tmp_path / "net.py").write_text(PHOTO_NET)
    path = recipe(
        tmp_path,
        model={"factory": "net.py:net"},
        data={"folder": "photos", "input": {"size": 24, "color": "RGB"}},
        classes=["down", "across"],
        outside={"score": "energy", "false_outside": 0.1, "fallback": "all-shapes"},
        training={"epochs": 6, "batch_size": 32},
    )
    said = build(ebb, path)
    found = manifest(tmp_path)
    assert found["model"]["outside"] == {"score": "energy", "fallback": "all-shapes"}
    told = said["record"]["outside"]
    assert told["samples"] == {"select": 18, "test": 18}
    assert {row["configuration"] for row in told["rows"]} == {one["id"] for one in found["configurations"]}
    assert all(row["select"]["false_outside"] <= 0.1 and row["test"]["auroc"] >= 0.0 for row in told["rows"])
    assert found["model"]["classes"] == ["down", "across"]
    assert found["model"]["universal_classes"] == 3
    assert found["model"]["input"]["shape"] == [1, 3, 24, 24]
    # Without an exits section there is one way through the model, and one method.
    assert len(found["configurations"]) == 1
    assert [method["kind"] for method in found["programs"][0]["methods"]] == ["head"]
    assert tiers(said)[0]["test"]["accuracy"] > 0.8
    key = ["--key", tmp_path / "out/public.pem"]
    for name in ("down", "across"):
        ran = ebb.json("run", tmp_path / "out/bundles/host", tmp_path / "photos" / name, *key)["predictions"]
        assert np.mean([one["class"] == name for one in ran]) > 0.8
        assert all(("ask" in one) is one["outside"] for one in ran)
        assert np.mean([one["outside"] for one in ran]) < 0.3


@pytest.mark.slow
def test_full_head_answers_with_all_classes_and_is_judged_on_two(ebb: Ebb, tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    (tmp_path / "net.py").write_text(PHOTO_NET)
    sections: dict[str, Any] = {
        "model": {"factory": "net.py:net"},
        "data": {"folder": "photos", "input": {"size": 24, "color": "RGB"}},
        "training": {"epochs": 6, "batch_size": 32},
        "exits": None,
    }
    path = recipe(tmp_path, **sections, classes=["down", "across"], head="full")
    said = build(ebb, path)
    assert manifest(tmp_path)["model"]["classes"] == ["across", "checks", "down"]
    assert [row["name"] for row in said["record"]["classes"]] == ["across", "down"]
    assert said["record"]["model"]["class_set"] == ["down", "across"]
    assert tiers(said)[0]["test"]["accuracy"] > 0.8


def test_inspect_draws_the_stages_and_check_counts_the_splits(ebb: Ebb, tmp_path: Path) -> None:
    signals(tmp_path / "waves.npz", 90)
    (tmp_path / "net.py").write_text(SIGNAL_NET)
    path = recipe(tmp_path, model={"factory": "net.py:net"}, data={"npz": "waves.npz"}, training={}, stages=3)
    cache = ["--cache", tmp_path / "cache"]
    checked = ebb.json("check", path, *cache)
    assert sum(checked["splits"].values()) == 90
    assert checked["input_shape"] == [2, 64]
    assert len(checked["stages"]) == 3
    drawing = tmp_path / "drawings" / "net.svg"
    inspected = ebb.json("inspect", path, "--svg", drawing, *cache)
    assert inspected["rows"]
    assert ElementTree.parse(drawing).getroot().tag.endswith("svg")
    assert checked["stages"][0] in ebb("inspect", path, *cache)


def test_init_writes_a_recipe_that_check_accepts(ebb: Ebb, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    path = tmp_path / "mine.yaml"
    ebb("init", path)
    checked = ebb.json("check", path, "--cache", tmp_path / "cache")
    assert checked["name"] == "mine"
    assert checked["input_shape"] == [3, 32, 32]
    assert "api.exists" in ebb("init", path, status=2)


def test_check_warns_of_a_model_near_chance_and_not_of_a_good_one_with_two_classes(ebb: Ebb, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, gain):\n"
        "        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(1, 2, 1)\n"
        "        self.conv.weight.data = torch.tensor([-gain, gain]).view(2, 1, 1, 1)\n"
        "        self.conv.bias.data = torch.tensor([1e-3, 0.0])\n"
        "        self.head = torch.nn.Linear(2, 2)\n"
        "        self.head.weight.data, self.head.bias.data = torch.eye(2), torch.zeros(2)\n"
        "    def forward(self, x):\n"
        "        return self.head(torch.relu(self.conv(x)).mean((2, 3)))\n"
        "def net(gain):\n"
        "    return Net(float(gain))\n"
    )
    # One sample in ten is labelled wrong, so that a good model is right in less than all.
    labels = np.arange(200) % 2
    shown = np.where(np.arange(200) % 10 < 1, 1 - labels, labels)
    noise = np.random.default_rng(0).integers(0, 40, (200, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=(shown[:, None, None] * 200 + noise).astype(np.uint8), labels=labels)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {factory: 'net.py:net', trained: true, arguments: {gain: 1}}\ndata: {npz: data.npz}\n")
    said = {}
    for gain in (1, 0):
        arguments = ["check", recipe, "--cache", tmp_path / "cache", "--set", f"model.arguments={{gain: {gain}}}"]
        said[gain] = ebb.json(*arguments)
    assert 0.8 < said[1]["accuracy"] < 1.0
    assert not [one for one in said[1]["notices"] if "guess" in one]
    assert [one for one in said[0]["notices"] if "guess" in one]
