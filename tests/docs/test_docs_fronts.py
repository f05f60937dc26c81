"""Pictures of fronts that the benchmarks draw for the docs, and that those in the docs are of the stored runs."""

from __future__ import annotations

import importlib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "pipeline" / "benchmarks"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def fronts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fronts

    return fronts


def drawn(fronts: Any, path: Path, **more: Any) -> ElementTree.Element:
    ours = fronts.Series("ours", "own", ((20.0, 90.0), (50.0, 92.0), (100.0, 93.0), (200.0, 94.0)))
    others = fronts.Series("cut off", "control", ((50.0, 85.0), (60.0, 10.0)), joined=False)
    panels = [
        fronts.Panel(f"network {number}", (10.0, 110.0), (80.0, 95.0), (ours, others), **more) for number in (1, 2)
    ]
    fronts.draw_fronts(path, panels, title="Ours", cost="MACs, %", accuracy="accuracy, %")
    return ElementTree.fromstring(path.read_bytes())


def test_picture_shows_points_on_the_axes_and_every_name_once(fronts: Any, tmp_path: Path) -> None:
    picture = drawn(fronts, tmp_path / "a.svg", whole=93.0)
    # Three of four points in each panel lie on the axes, and one stands in the legend; likewise one of two crosses.
    assert len(picture.findall(f"{SVG}circle")) == 2 * 3 + 1
    assert len([one for one in picture.findall(f"{SVG}path") if one.get("class") == "control"]) == 2 * 1 + 1
    assert len(picture.findall(f"{SVG}polyline")) == 2
    words = [one.text for one in picture.findall(f"{SVG}text")]
    assert [words.count(name) for name in ("ours", "cut off", "network 1", "network 2")] == [1, 1, 1, 1]
    assert "network 1: ours 90.0 to 94.0, cut off 10.0 to 85.0" in str(picture.findtext(f"{SVG}desc"))


def test_line_of_the_whole_network_is_drawn_where_it_is_known(fronts: Any, tmp_path: Path) -> None:
    dashed = [
        sum(one.get("class") == "dense-line" for one in drawn(fronts, tmp_path / f"{name}.svg", **more).iter())
        for name, more in (("with", {"whole": 93.0}), ("without", {}))
    ]
    assert dashed == [2, 0]


def test_equal_results_give_equal_bytes(fronts: Any, tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        drawn(fronts, tmp_path / place / "a.svg", logarithmic=True)
    assert (tmp_path / "one" / "a.svg").read_bytes() == (tmp_path / "two" / "a.svg").read_bytes()


@pytest.mark.parametrize(("script", "page"), [("reds", "widths"), ("crisp", "sparsity"), ("exits", "exits")])
def test_pictures_in_the_docs_are_of_the_stored_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, page: str
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    importlib.import_module(script).picture(tmp_path / f"{page}.svg")
    stored = (ROOT / "docs" / f"{page}.svg").read_bytes()
    assert (tmp_path / f"{page}.svg").read_bytes() == stored, f"run python pipeline/benchmarks/{script}.py --no-runs"
    assert f"]({page}.svg)" in (ROOT / "docs" / f"{page}.md").read_text()
