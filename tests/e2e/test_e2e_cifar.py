"""Real trained weights on real images: what comes out of the bundle is what is known of the weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest_e2e import ROOT, Ebb

DATA = Path(os.environ.get("EBBTIDE_DATA") or ROOT.parent / "shared" / "data")
RECIPES = ROOT / "pipeline" / "benchmarks" / "recipes"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not (DATA / "meta.json").is_file(), reason="the shared benchmark data are not here (EBBTIDE_DATA)")
@pytest.mark.parametrize(("network", "percent"), [("resnet20", 91.73), ("resnet56", 93.39)])
def test_dense_configuration_has_the_known_accuracy_through_executorch(
    ebb: Ebb, tmp_path: Path, network: str, percent: float
) -> None:
    recipe = RECIPES / f"cifar10_{network}.yaml"
    record = ebb.json("build", recipe, "--output", tmp_path / "out", "--cache", tmp_path / "cache")["record"]
    (dense,) = (one for one in record["configurations"] if one["id"] == "dense")
    assert dense["test"]["n"] == 10_000
    assert 100 * dense["test"]["accuracy"] == pytest.approx(percent, abs=0.05)
    assert 100 * record["dense"]["test"]["accuracy"] == pytest.approx(percent, abs=0.05)
