"""The adapter for the shared benchmark data; skipped where they are not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ebbtide.data import FrozenChoices, InputDefaults, fingerprint, load_prepared, open_source, prepare
from ebbtide.errors import EbbtideError
from ebbtide.recipe.code import code_entry

ADAPTERS = Path(__file__).resolve().parents[3] / "pipeline" / "benchmarks" / "adapters"
SPLIT = SimpleNamespace(train=0.81, select=0.09, test=0.1, seed=0)


def section(name: str) -> Any:
    return SimpleNamespace(function=f"{ADAPTERS / 'shared_data.py'}:{name}", split=SPLIT, input=None)


@pytest.fixture
def shared() -> None:
    try:
        code_entry("shared_data.py:data_folder", ADAPTERS).load()()
    except EbbtideError as error:
        pytest.skip(f"no shared data: {error.place}")


def test_adapter_is_refused_when_data_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBBTIDE_DATA", str(tmp_path))
    for ask in (open_source, fingerprint):
        with pytest.raises(EbbtideError) as caught:
            ask(section("cifar10"))
        assert (caught.value.code, caught.value.place) == ("data.missing", str(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("shared")
def test_cifar10_gives_official_test_and_5000_for_select(tmp_path: Path) -> None:
    source = open_source(section("cifar10"))
    assert (len(source.ids), source.ids[12345], source.ids[-1]) == (60_000, "train/012345", "test/009999")
    assert np.bincount(source.labels).tolist() == [6000] * 10
    prepare(section("cifar10"), classes="all", seed=0, folder=tmp_path)
    data = load_prepared(tmp_path)
    assert (len(data.train), len(data.select), len(data.test)) == (45_000, 5_000, 10_000)


@pytest.mark.slow
@pytest.mark.usefixtures("shared")
def test_cifar100_keeps_held_out_images_for_select(tmp_path: Path) -> None:
    prepare(section("cifar100"), classes="all", seed=0, folder=tmp_path)
    data = load_prepared(tmp_path)
    assert (len(data.select), len(data.test)) == (5_000, 10_000)
    assert all(int(name[6:]) >= 40_000 and int(name[6:]) % 100 >= 50 for name in data.select.ids)
    # Copies of test and select images leave train.
    assert len(data.train) == 45_000 - data.provenance["duplicates"]["dropped"]


@pytest.mark.slow
@pytest.mark.usefixtures("shared")
def test_resnet20_has_its_accuracy_on_all_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("EBBTIDE_WEIGHTS", str(tmp_path / "weights"))
    network = code_entry("resnet_cifar.py:cifar10_resnet20", ADAPTERS).load()()
    known = InputDefaults(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    (tmp_path / "data").mkdir()
    prepare(section("cifar10"), classes="all", seed=0, input_defaults=known, folder=tmp_path / "data")
    test = load_prepared(tmp_path / "data").test.open(FrozenChoices.of({"model": "cifar10_resnet20"}))
    with torch.inference_mode():
        right = sum(int((network(x).argmax(1) == y).sum()) for x, y in test.batches(500))
    assert abs(100 * right / len(test) - 91.73) <= 0.05
    assert "shared_data" not in sys.modules
