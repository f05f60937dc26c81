"""A whole build with weights that saw every training sample: halves of the test samples, and joint training."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest_e2e import RECIPE, BuiltOnce, Ebb
from numpy.typing import NDArray
from sklearn.datasets import load_digits

SETTINGS = """
name: halves
model: {factory: "digits_net.py:digits_net", weights: weights.safetensors}
data: {idx: {images: a, labels: b, test_images: c, test_labels: d}, split: test-halves}
training: {augmentation: {crop_padding: 1}, learning_rate: 0.01, batch_size: 64}
exits:
  types: [pool-linear, conv-branch]
  train: joint
  epochs: 10
  passes: 2
  joint: {epochs: 1}
  constraint: {max_drop_points: 3, max_latency_us: 1000000}
devices: [host, example-phone-server]
"""


def idx(path: Path, values: NDArray[np.uint8]) -> None:
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(head + values.tobytes())


@pytest.fixture(scope="module")
def record(ebb: Ebb, built: BuiltOnce, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("halves")
    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    for name, values in zip("abcd", (images[:1197], labels[:1197], images[1197:], labels[1197:]), strict=True):
        idx(folder / name, values)
    (weights,) = built.cache.glob("model/*/weights.safetensors")
    shutil.copy(weights, folder / "weights.safetensors")
    shutil.copy(RECIPE.parent / "digits_net.py", folder)
    (folder / "recipe.yaml").write_text(SETTINGS)
    ebb("build", folder / "recipe.yaml", "--output", folder / "out", "--cache", built.cache)
    found: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text())
    return found


@pytest.mark.slow
def test_both_directions_of_the_halves_are_published(record: dict[str, Any]) -> None:
    early, splits = record["early"], {one["name"]: one["count"] for one in record["provenance"]["splits"]}
    assert early["halves"]
    assert splits["select"] + splits["test"] == 600
    assert abs(splits["select"] - splits["test"]) <= 10
    swapped = early["swapped"]["rows"]
    assert {row["promised"]["n"] for row in swapped} == {splits["test"]}
    assert {row["measured"]["n"] for row in swapped} == {splits["select"]}


@pytest.mark.slow
def test_joint_backbone_is_said_to_be_new(record: dict[str, Any]) -> None:
    assert record["early"]["train"] == "joint"
    assert record["early"]["original"] > 0.9
    assert any("new backbone" in notice["text"] for notice in record["notices"])
    assert record["model"]["test"] is None


@pytest.mark.slow
def test_limits_hold_against_the_model_as_it_came_and_examples_and_mapping_are_there(record: dict[str, Any]) -> None:
    early = record["early"]
    for one in record["configurations"]:
        if any(step["threshold"] is not None for step in one["path"]):
            assert one["select"]["accuracy"] >= early["original"] - 0.03 - 1e-9
    assert all(group["examples"] for group in early["leaving"])
    assert {row["configuration"] for row in early["mapped"][0]["rows"]} == {c["id"] for c in record["configurations"]}
