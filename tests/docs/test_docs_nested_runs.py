"""Runs that compare nested widths: what one is, that it looks at test once and last, that none is made twice."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ebbtide.data import SealedSplit, Split, image_spec

BENCHMARKS = Path(__file__).resolve().parents[2] / "pipeline" / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("figures", "reds_starts", "reds_training", "runs", "reds")
    before = {name: sys.modules.pop(name, None) for name in names}
    import reds
    import reds_starts
    import reds_training
    import runs

    yield SimpleNamespace(reds=reds, starts=reds_starts, training=reds_training, runs=runs)
    for name in names:
        sys.modules.pop(name, None)
        if before[name] is not None:
            sys.modules[name] = before[name]


def split(name: str, count: int) -> Split:
    random = np.random.default_rng(len(name))
    labels = np.arange(count) % 10
    return Split(
        name=name,
        ids=tuple(f"{name}/{i}" for i in range(count)),
        labels=labels,
        pixels=(random.integers(0, 128, (count, 28, 28, 1)) + 12 * labels[:, None, None, None]).astype(np.uint8),
        input=image_spec((28, 28), "gray", mean=(0.286,), std=(0.353,)),
    )


@pytest.fixture
def small(benchmarks: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The real runs on few samples and with one epoch; test says when it is opened."""
    training, starts = benchmarks.training, benchmarks.starts
    opened: list[list[str]] = []

    def unseal() -> Split:
        # What lies in scratch by now tells how far the run was.
        opened.append(sorted(path.name for path in tmp_path.iterdir()))
        return split("test", 30)

    def dataset(name: str, scratch: Path) -> Any:
        test = SealedSplit(split("test", 30).ids, unseal)
        return SimpleNamespace(train=split("train", 120), select=split("select", 20), test=test, digest="d")

    network = starts.NETWORKS["fashion"]
    few = {"batch_size": 40, "epochs": 1, "warmup_epochs": 0, "precision": "float32", "device": "cpu"}
    few_network = replace(network, training={**network.training, **few}, tuning={**network.tuning, **few})
    monkeypatch.setitem(starts.NETWORKS, "fashion", few_network)
    for module in (training, starts):
        monkeypatch.setattr(module, "dataset", dataset)
    monkeypatch.setattr(training, "collect", partial(training.collect, batches=2, batch_size=20))
    monkeypatch.setattr(training, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(starts, "STARTS", tmp_path / "starts")
    return SimpleNamespace(training=training, opened=opened, scratch=tmp_path, reds=benchmarks.reds)


def test_run_looks_at_test_once_and_last_and_is_not_made_again(small: SimpleNamespace) -> None:
    run = small.training.Run.parse("fashion_4_importance_0")
    assert run.result() is None
    found = small.training.execute(run, small.scratch)
    assert len(small.opened) == 1
    assert f"{run.name}.nested" in small.opened[0]
    assert [one["name"] for one in found["levels"]] == ["w25", "w50", "w75", "w100"]
    assert all(one["share"] <= one["budget"] for one in found["levels"])
    assert found["levels"][-1]["macs"] == 3_776_384
    assert found["samples"] == {"train": 120, "select": 20, "test": 30}
    assert small.training.execute(run, small.scratch) == json.loads(run.path.read_text()) == found
    assert len(small.opened) == 1


def test_every_method_of_a_seed_begins_with_the_same_weights(small: SimpleNamespace) -> None:
    for method in ("uniform", "random"):
        small.training.execute(small.training.Run("fashion", 2, method, 1), small.scratch)
    starts = [path for path in (small.scratch / "starts").iterdir() if path.suffix == ".safetensors"]
    assert [path.name for path in starts] == ["fashion_1.safetensors"]
    uniform, random = (small.training.Run("fashion", 2, m, 1).result() for m in ("uniform", "random"))
    widths = list(uniform["levels"][0]["widths"].values())
    assert max(widths) - min(widths) <= 1
    assert uniform["levels"][0]["widths"] != random["levels"][0]["widths"]


def test_run_is_made_again_when_its_settings_have_changed(small: SimpleNamespace) -> None:
    run = small.training.Run.parse("fashion_2_magnitude_0")
    small.training.execute(run, small.scratch)
    stored = json.loads(run.path.read_text())
    stored["settings"]["tuning"]["epochs"] = 2
    run.path.write_text(json.dumps(stored))
    assert run.result() is None


def test_unknown_run_is_refused(benchmarks: SimpleNamespace) -> None:
    with pytest.raises(SystemExit, match="methods are"):
        benchmarks.training.Run.parse("fashion_4_nothing_0")


def test_figures_are_means_over_the_seeds_that_have_ended(
    benchmarks: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reds: ModuleType = benchmarks.reds
    run_type = benchmarks.training.Run
    monkeypatch.setattr(benchmarks.training, "RUNS", tmp_path)
    monkeypatch.setattr(reds, "FILE", reds.FigureFile("reds", folder=tmp_path / "results"))
    tests = {"best": (0.88, 0.90), "bestuniform": (0.85, 0.86, 0.87)}
    for method, accuracies in tests.items():
        for seed, accuracy in enumerate(accuracies):
            run = run_type("fashion", 4, method, seed)
            levels = [{"name": f"w{p}", "share": p / 100, "test": accuracy} for p in (25, 50, 75, 100)]
            run.path.write_text(json.dumps({"settings": run.settings(), "levels": levels}))
    reds.accuracies()
    found = {one.id: one for one in reds.FILE.figures().figures}
    assert (found["fmnist_25"].value, found["fmnist_25"].spread, found["fmnist_25"].seeds) == (
        89.0,
        (88.0, 90.0),
        (0, 1),
    )
    assert found["fmnist_25"].is_met is False
    assert (found["fmnist_25_uniform"].value, found["fmnist_25_uniform"].seeds) == (86.0, (0, 1, 2))
    paired = found["fmnist_25_over_uniform"]
    assert (paired.value, paired.spread, paired.seeds, paired.is_met) == (3.5, (3.0, 4.0), (0, 1), True)
    assert "fmnist_25_random" not in found


def test_pool_passes_over_runs_that_ended_or_are_held_and_names_those_that_failed(
    benchmarks: SimpleNamespace, tmp_path: Path
) -> None:
    ended, held, missing = (f"fashion_4_importance_{seed}" for seed in (0, 1, 2))
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv[2], 'was begun'); sys.exit(3)")
    ends: list[int] = []
    with benchmarks.starts.alone_with(tmp_path / held), pytest.raises(SystemExit, match=f"failed: {missing}"):
        benchmarks.runs.make_runs(
            script, [ended, held, missing], tmp_path, jobs=2, has_ended=ended.__eq__, ended=lambda: ends.append(1)
        )  # fmt: skip
    assert ends == [1]
    assert "was begun" in (tmp_path / f"{missing}.log").read_text()
    assert not (tmp_path / f"{held}.log").exists()


def test_costs_of_the_published_widths_are_the_printed_ones(
    benchmarks: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reds: ModuleType = benchmarks.reds
    monkeypatch.setattr(reds, "FILE", reds.FigureFile("reds", folder=tmp_path))
    reds.t6_rows({"t6_rows"})
    (found,) = reds.FILE.figures().figures
    assert (found.value, found.is_met) == (12, True)
