"""Every table of figures in README and docs is what the stored results say; and the scoreboard that keeps it so."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ebbtide.errors import EbbtideError

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "pipeline" / "benchmarks"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("figures")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def scoreboard(figures: ModuleType) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("scoreboard")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def results(tmp_path: Path, figures: ModuleType) -> Path:
    folder = tmp_path / "results"
    road = figures.FigureFile("road", folder=folder, now=NOON)
    road.record(
        "demo_s", value=41.26, unit="s", spread=(40.0, 43.5), goal="< 60", command="make demo", about="the demo"
    )
    road.record(
        "rebuild_s", value=6.1, unit="s", spread=0.2, goal="<= 5", command="road.py", seeds=[0, 1], key={"a": 1}
    )
    road.record("images", value=10_000, unit="", command="road.py", anchor="CIFAR-10's test split")
    return folder


def test_tables_equal_the_stored_results(scoreboard: ModuleType) -> None:
    assert scoreboard.differing(ROOT, results=BENCHMARKS / "results", write=False) == [], "run `make scoreboard`"


def test_stored_results_are_valid(figures: ModuleType) -> None:
    for path in sorted((BENCHMARKS / "results").glob("*.json")):
        for one in figures.read_figures(path).figures:
            facts = json.dumps([one.machine, one.command, one.anchor])
            assert "/root" not in facts
            assert "/home/" not in facts


@pytest.mark.parametrize(
    ("goal", "met", "missed"),
    [
        ("< 60", 59.999, 60.0),
        ("<= 2", 2.0, 2.0001),
        ("> 1", 1.0001, 1.0),
        (">= 97.5", 97.5, 97.4),
        ("== 0", 0.0, 1e-9),
        ("= -3", -3.0, 3.0),
        ("91.73 +- 0.05", 91.78, 91.7801),
        ("91.73 ± 0.05", 91.68, 91.67),
        ("<1e-3", 9e-4, 1e-3),
    ],
)
def test_goal_judges_both_sides_of_its_edge(figures: ModuleType, goal: str, met: float, missed: float) -> None:
    assert figures.Goal.parse(goal).is_met_by(met)
    assert not figures.Goal.parse(goal).is_met_by(missed)


@pytest.mark.parametrize("goal", ["", "60", "< sixty", "=> 3", "1 to 2", "< 60 s", "nan +- 1"])
def test_goal_is_refused_when_it_cannot_be_read(figures: ModuleType, goal: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        figures.Goal.parse(goal)
    assert caught.value.code == "report.figures"
    assert "91.73 +- 0.05" in (caught.value.expected or "")


def test_figure_carries_versions_machine_and_date_without_names_of_people_or_places(
    figures: ModuleType, results: Path
) -> None:
    one = figures.read_figures(results / "road.json").get("demo_s", place="here")
    assert one.date == "2026-03-02T12:00:00Z"
    assert one.versions["torch"].startswith("2.")
    assert {"python", "executorch", "ebbtide"} <= set(one.versions)
    assert one.machine["memory_bytes"] > 0
    assert "cpu_model" in one.machine
    words = json.dumps(one.machine)
    assert str(Path.home()) not in words
    assert str(ROOT) not in words


def test_file_holds_exactly_the_named_fields(results: Path) -> None:
    stored = json.loads((results / "road.json").read_text())
    assert list(stored) == ["figures"]
    assert set(stored["figures"][0]) == {
        *("id", "about", "value", "unit", "spread", "seeds", "goal", "anchor", "command"),
        *("versions", "machine", "date", "key"),
    }


def test_benchmark_resumes_when_the_inputs_are_the_same(figures: ModuleType, results: Path) -> None:
    road = figures.FigureFile("road", folder=results)
    assert road.has("rebuild_s", {"a": 1})
    assert road.has("rebuild_s")
    assert not road.has("rebuild_s", {"a": 2})
    assert not road.has("demo_s", {"a": 1})
    assert not road.has("help_s")
    assert not figures.FigureFile("none", folder=results).has("demo_s")


def test_new_value_takes_the_place_of_the_old_one_and_leaves_the_others(figures: ModuleType, results: Path) -> None:
    before = figures.read_figures(results / "road.json").figures
    figures.FigureFile("road", folder=results, now=NOON).record("rebuild_s", value=3, unit="s", command="road.py")
    after = figures.read_figures(results / "road.json").figures
    assert [one.id for one in after] == ["demo_s", "rebuild_s", "images"]
    assert after[1].value == 3
    assert (after[0], after[2]) == (before[0], before[2])
    assert sorted(path.name for path in results.iterdir()) == ["road.json"]


def test_figures_are_kept_when_writing_fails(
    figures: ModuleType, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (results / "road.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        figures.FigureFile("road", folder=results).record("help_s", value=0.3, unit="s", command="road.py")
    assert (results / "road.json").read_bytes() == before


def test_two_processes_lose_no_figure(results: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import figures, pathlib\n"
        "figures._facts = lambda: ({}, {})\n"
        "road = figures.FigureFile('busy', folder=pathlib.Path(sys.argv[2]))\n"
        "[road.record(f'f{sys.argv[3]}_{i}', value=i, unit='', command='x') for i in range(25)]\n"
    )
    command = [sys.executable, "-c", code, str(BENCHMARKS), str(results)]
    running = [subprocess.Popen([*command, str(index)]) for index in range(3)]
    assert [one.wait(timeout=120) for one in running] == [0, 0, 0]
    stored = json.loads((results / "busy.json").read_text())
    assert len(stored["figures"]) == 75


@pytest.mark.parametrize(
    "changes",
    [
        {"value": float("nan")},
        {"value": float("inf")},
        {"goal": "fast"},
        {"figure_id": "Demo"},
    ],
    ids=["nan", "inf", "goal", "id"],
)
def test_record_refuses_what_could_not_be_believed(
    figures: ModuleType, tmp_path: Path, changes: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {"figure_id": "x", "value": 1.0, "unit": "s", "command": "x", **changes}
    with pytest.raises(EbbtideError) as caught:
        figures.FigureFile("road", folder=tmp_path).record(arguments.pop("figure_id"), **arguments)
    assert caught.value.code == "report.figures"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "whole file"),
        ('{"figures": [{"id": "a"}]}', "figures.0.value"),
        ('{"figures": [], "more": 1}', "more"),
        ("TWICE", "appear twice: demo_s"),
    ],
)
def test_damaged_results_are_refused_with_their_place(figures: ModuleType, results: Path, text: str, said: str) -> None:
    path = results / "road.json"
    if text == "TWICE":
        stored = json.loads(path.read_text())
        text = json.dumps({"figures": [stored["figures"][0]] * 2})
    path.write_text(text)
    with pytest.raises(EbbtideError) as caught:
        figures.read_figures(path)
    assert caught.value.place == "road.json"
    assert said in caught.value.message


def test_results_file_name_cannot_leave_the_folder(figures: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(EbbtideError):
        figures.FigureFile("../road", folder=tmp_path)


PAGE = """# Title

<!-- figures: road ids=rebuild_s,demo_s -->
old
<!-- /figures -->

```
<!-- figures: road -->
```

<!-- figures: road -->
<!-- /figures -->
"""


def project(tmp_path: Path, readme: str, page: str = "") -> Path:
    root = tmp_path / "project"
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "README.md").write_text(readme)
    (root / "docs" / "deep" / "page.md").write_text(page)
    return root


def test_tables_are_rewritten_and_then_equal(scoreboard: ModuleType, results: Path, tmp_path: Path) -> None:
    root = project(tmp_path, "nothing here\n", PAGE)
    assert scoreboard.differing(root, results=results, write=False) == ["docs/deep/page.md"]
    assert (root / "docs/deep/page.md").read_text() == PAGE
    assert scoreboard.differing(root, results=results, write=True) == ["docs/deep/page.md"]
    lines = (root / "docs/deep/page.md").read_text().split("\n")
    assert lines[2:8] == [
        "<!-- figures: road ids=rebuild_s,demo_s -->",
        "| figure | measured | goal | |",
        "|---|---:|---:|---|",
        "| `rebuild_s` | 6.1 s ± 0.2 | ≤ 5 | **not met** |",
        "| the demo (`demo_s`) | 41.26 s (40 to 43.5) | &lt; 60 | met |",
        "<!-- /figures -->",
    ]
    assert "| `images` | 10,000 |  |  |" in lines
    assert lines[9:12] == ["```", "<!-- figures: road -->", "```"]
    assert scoreboard.differing(root, results=results, write=False) == []
    assert not list(root.rglob(".*.new"))


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("<!-- figures: road -->\n", "not closed", 1),
        ("\n<!-- /figures -->\n", "not opened", 2),
        ("<!-- figures: road -->\n<!-- figures: road -->\n", "inside another", 2),
        ("<!-- figures: road id=demo_s -->\n<!-- /figures -->\n", "cannot be read", 1),
        ("<!-- figures: road ids=demos_s -->\n<!-- /figures -->\n", "no figure 'demos_s'", 1),
        ("<!-- figures: rode -->\n<!-- /figures -->\n", "cannot be read", None),
    ],
    ids=["open", "closed", "nested", "misspelt", "unknown-id", "unknown-file"],
)
def test_bad_mark_is_an_error_with_its_line(
    scoreboard: ModuleType, results: Path, tmp_path: Path, text: str, said: str, line: int | None
) -> None:
    with pytest.raises(EbbtideError) as caught:
        scoreboard.differing(project(tmp_path, text), results=results, write=True)
    assert caught.value.code == "report.figures"
    assert said in caught.value.message
    assert caught.value.place == ("rode.json" if line is None else f"README.md:{line}")
    assert (tmp_path / "project/README.md").read_text() == text


def test_unknown_figure_is_answered_with_the_nearest(scoreboard: ModuleType, results: Path, tmp_path: Path) -> None:
    root = project(tmp_path, "<!-- figures: road ids=demos_s -->\n<!-- /figures -->\n")
    with pytest.raises(EbbtideError, match="Did you mean 'demo_s'"):
        scoreboard.differing(root, results=results, write=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [(91.73, "91.73"), (0.31456, "0.3146"), (12345.6, "12,346"), (40, "40"), (-2.5, "-2.5"), (0, "0")],
)
def test_value_is_shown_with_the_digits_that_matter(scoreboard: ModuleType, value: float, text: str) -> None:
    assert scoreboard.shown(value) == text


def test_command_prints_all_figures_and_checks(results: Path, tmp_path: Path) -> None:
    root = project(tmp_path, PAGE)
    command = [sys.executable, str(BENCHMARKS / "scoreboard.py"), "--root", str(root), "--results", str(results)]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, timeout=120, check=False)

    differs = run("--check")
    assert differs.returncode == 1
    assert "README.md: its tables differ" in differs.stdout
    written = run()
    assert written.returncode == 0
    for word in ("demo_s", "41.26 s (40 to 43.5)", "not met", "1 goal not met.", "README.md: rewritten"):
        assert word in written.stdout
    assert run("--check").returncode == 0
    (results / "road.json").write_text("{")
    broken = run("--check")
    assert broken.returncode == 2
    assert "[report.figures]" in broken.stderr


def test_grid_makes_a_row_and_a_column_of_each_name(
    figures: ModuleType, scoreboard: ModuleType, tmp_path: Path
) -> None:
    file = figures.FigureFile("demo", folder=tmp_path)
    for figure, value in (("tier_0__mean_macs", 2.0), ("tier_0__p50", 130.0), ("dense__mean_macs", 4.7)):
        file.record(figure, value=value, unit="M", command="none")
    text = scoreboard.updated("<!-- figures: demo grid -->\n<!-- /figures -->", results=tmp_path, place="README.md")
    assert text.split("\n")[1:-1] == [
        "| | mean macs | p50 |",
        "|---|---:|---:|",
        "| tier 0 | 2 M | 130 M |",
        "| dense | 4.7 M |  |",
    ]


def test_grid_refuses_a_figure_that_is_no_cell(figures: ModuleType, scoreboard: ModuleType, tmp_path: Path) -> None:
    figures.FigureFile("demo", folder=tmp_path).record("plain", value=1.0, unit="", command="none")
    with pytest.raises(EbbtideError, match="no cell"):
        scoreboard.updated("<!-- figures: demo grid -->\n<!-- /figures -->", results=tmp_path, place="README.md")
