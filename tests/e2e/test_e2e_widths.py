"""Nested widths through the whole road: one program a width, switched in a session, killed and continued."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest_e2e import Ebb, tree

NET = """
from torch import nn


def block(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def net():
    return nn.Sequential(
        block(1, 16, 1), block(16, 32, 2), block(32, 32, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )
"""
RECIPE: dict[str, Any] = {
    "model": {"factory": "net.py:net"},
    "data": {"digits": True},
    "training": {"epochs": 4, "batch_size": 64},
    "widths": {"levels": [0.5, 1.0], "batches": 5, "tuning": {"epochs": 3, "learning_rate": 0.01}},
    "stages": 3,
    "exits": {"epochs": 10},
}


@dataclass(frozen=True)
class Wide:
    """A finished build of two widths."""

    folder: Path
    said: dict[str, Any]

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def bundle(self) -> Path:
        return self.folder / "out" / "bundles" / "host"

    @property
    def manifest(self) -> Any:
        return json.loads((self.bundle / "manifest.json").read_bytes())


def project(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "net.py").write_text(NET)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}, sort_keys=False))
    return path


def arguments(recipe: Path, output: Path, cache: Path, *more: object) -> list[object]:
    return ["build", recipe, "--output", output, "--cache", cache, *more]


@pytest.fixture(scope="module")
def wide(ebb: Ebb, tmp_path_factory: pytest.TempPathFactory) -> Wide:
    folder = tmp_path_factory.mktemp("wide")
    recipe = project(folder)
    return Wide(folder, ebb.json(*arguments(recipe, folder / "out", folder / "cache")))


def test_build_ships_a_gated_program_for_each_width_and_one_table_over_both(ebb: Ebb, wide: Wide) -> None:
    manifest, record = wide.manifest, wide.said["record"]
    assert [(one["id"], one["width"]) for one in manifest["programs"]] == [
        ("w100-f32-cpu", "w100"),
        ("w50-f32-cpu", "w50"),
    ]
    assert [gate["program"] for gate in record["gates"]] == ["w100-f32-cpu", "w50-f32-cpu", "w100-f32-cpu-dense"]
    assert all(gate["labels_differ"] == 0 for gate in record["gates"])
    ids = [one["id"] for one in manifest["configurations"]]
    assert len(set(ids)) == len(ids)
    assert {"dense", "w50-dense"} <= set(ids)
    for one in manifest["configurations"]:
        programs = {step["method"].partition("/")[0] for step in one["path"]}
        assert programs == {"w50-f32-cpu" if one["id"].startswith("w50-") else "w100-f32-cpu"}
    assert ebb.json("verify", wide.bundle, "--key", wide.folder / "out/public.pem")["verified"] is True


def test_report_shows_what_every_width_costs_and_gets_right(wide: Wide) -> None:
    widths = wide.said["record"]["widths"]
    narrow, full = widths["levels"]
    assert (narrow["name"], full["name"]) == ("w50", "w100")
    assert 0.3 < narrow["share"] <= 0.5
    assert full["share"] == 1.0
    assert narrow["parameters"] < full["parameters"]
    assert narrow["program_bytes"] < full["program_bytes"]
    assert narrow["latency"] is not None
    assert narrow["test"]["accuracy"] > narrow["untuned"]["accuracy"]
    assert full["untuned"]["accuracy"] == wide.said["record"]["model"]["select"]["accuracy"]
    assert [control["name"] for control in widths["controls"]] == ["uniform", "magnitude", "random"]
    assert all(level["tuned"] is None for control in widths["controls"] for level in control["levels"])
    for group in widths["groups"]:
        assert group["kept"][0] % 8 == 0
        assert group["kept"][1] == group["size"]
    assert [one["subjects"] for one in widths["whole"]] == [["5"]]
    # Shared statistics: the narrower program repeats bytes of the wider one.
    assert widths["xz_bytes"] - widths["widest_xz_bytes"] < 0.6 * narrow["program_bytes"]


def test_session_gives_what_the_records_say_when_it_switches_between_widths(wide: Wide) -> None:
    from ebbtide.bundle import load_public_key, open_bundle
    from ebbtide.engine import ExecuTorchEngine
    from ebbtide.exits import Records
    from ebbtide.runtime import Session

    bundle = open_bundle(wide.bundle, [load_public_key(wide.folder / "out/public.pem")])
    files = {entry["path"]: entry["sha256"] for entry in wide.manifest["files"]}
    by_sha = {files[one["file"]]: one["width"] for one in wide.manifest["programs"]}
    records = {}
    for path in (wide.folder / "cache" / "program-records").glob("*/step.json"):
        width = by_sha.get(json.loads(path.read_bytes())["what"]["inputs"]["program"])
        if width:
            records[width] = Records.load(path.parent / "records.npz", level=width, precision="float32")
    assert set(records) == {"w50", "w100"}
    samples = np.load(wide.folder / "out/samples.npz")["images"]
    with Session(bundle, ExecuTorchEngine(threads=1), residency="active") as session:
        for index, image in enumerate(samples):
            for name, width in (("w50-dense", "w50"), ("dense", "w100")):
                session.switch(name)
                result = session.predict(image)
                assert result.configuration == name
                assert result.label == records[width].predictions[-1, index]
                assert result.confidence == records[width].confidences[-1, index]
    differing = records["w50"].confidences[-1] != records["w100"].confidences[-1]
    assert differing.mean() > 0.9


def test_rebuild_of_widths_reuses_every_step(ebb: Ebb, wide: Wide) -> None:
    before = tree(wide.bundle)
    said = ebb.json(*arguments(wide.recipe, wide.folder / "out", wide.folder / "cache"))
    assert [one["step"] for one in said["record"]["timings"] if not one["reused"]] == []
    assert tree(wide.bundle) == before


def test_build_is_byte_equal_when_killed_while_widths_are_tuned(ebb: Ebb, wide: Wide, tmp_path: Path) -> None:
    measured = ["--measurements", wide.folder / "out" / "measurements.json"]
    command = arguments(wide.recipe, tmp_path / "out", tmp_path / "cache", *measured)
    process = ebb.start(*command)
    deadline = time.monotonic() + 400
    while not list((tmp_path / "cache" / "scratch").glob("*/tuning.safetensors")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list((tmp_path / "cache" / "tuning").glob("*/step.json"))
    assert not (tmp_path / "out" / "bundles").exists()
    process = ebb.start(*command)
    _, told = process.communicate()
    assert process.returncode == 0, told
    assert "continues after epoch" in " ".join(told.split())
    assert tree(tmp_path / "out" / "bundles") == tree(wide.folder / "out" / "bundles")
    assert not list((tmp_path / "cache" / "scratch").glob("*"))


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"levels": [0.01, 1.0]}, "nesting.infeasible", "the cheapest widths cost"),
        ({"levels": [0.5, 1.0], "memory_limit_kib": 0.5}, "nesting.infeasible", "within 512: the least is"),
        ({"levels": [0.5, 1.0], "multiple": 64}, "nesting.nothing_to_shrink", "the classifier's outputs"),
    ],
    ids=["floors", "memory", "nothing"],
)
def test_widths_that_nothing_meets_are_refused_before_anything_is_trained(
    ebb: Ebb, tmp_path: Path, changes: dict[str, Any], code: str, said: str
) -> None:
    recipe = project(tmp_path / "p", widths=changes)
    cache = tmp_path / "cache"
    for command in (["check", recipe, "--cache", cache], arguments(recipe, tmp_path / "out", cache)):
        told = " ".join(ebb(*command, status=2).split())
        assert code in told
        assert said in told
    assert not (tmp_path / "out" / "bundles").exists()
    assert not list((cache / "model").glob("*/step.json"))
    assert not list(cache.glob("*/.*.new"))


@pytest.mark.slow
def test_controls_private_norms_and_levels_at_chance_stand_in_the_report(ebb: Ebb, tmp_path: Path) -> None:
    widths = {
        "levels": [0.3, 0.6, 1.0],
        "norm": "private",
        "search": "joint",
        "order": "saliency",
        "batches": 5,
        "controls": ["uniform", "random"],
        "tuning": {"epochs": 1, "learning_rate": 1e-6},
    }
    recipe = project(tmp_path / "p", widths=widths)
    record = ebb.json(*arguments(recipe, tmp_path / "out", tmp_path / "cache"))["record"]
    found = record["widths"]
    assert [level["name"] for level in found["levels"]] == ["w30", "w60", "w100"]
    by_name = {control["name"]: control for control in found["controls"]}
    assert all(level["tuned"] is not None for level in by_name["uniform"]["levels"])
    assert all(level["tuned"] is None for level in by_name["magnitude"]["levels"])
    private = found["private"]
    assert private["xz_bytes"] > private["shared_xz_bytes"]
    assert len(private["shared_select"]) == 3
    assert private["shared_select"][-1] == pytest.approx(found["levels"][-1]["select"]["accuracy"], abs=0.02)
    # A model that has learned nothing is at chance at every width.
    blind = {"widths": {"levels": [0.3, 1.0], "batches": 5, "tuning": {"epochs": 0}}}
    untaught = project(tmp_path / "q", training={"epochs": 1, "learning_rate": 1e-6}, **blind)
    said = ebb.json(*arguments(untaught, tmp_path / "out2", tmp_path / "cache"))["record"]
    warned = [one["subject"] for one in said["notices"] if one["kind"] == "warning" and "guess" in one["text"]]
    assert warned == ["width w100", "width w30"]
