"""One table over all widths, and nothing of one width used with another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ebbtide.build.choice import Row, _search, score_row
from ebbtide.build.scores import Scorable, choose
from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey, Records
from ebbtide.recipe import Recipe
from ebbtide.search import Costs
from ebbtide.steps import silent

SAMPLES = 400
RECIPE = Recipe.model_validate({"model": {"timm": "a"}, "data": {"digits": True}, "training": {}})


def records(seed: int, *, exit_right: float, head_right: float) -> Records:
    """One exit and the head; both are surer where they are right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, SAMPLES)
    right = rng.random((2, SAMPLES)) < np.array([[exit_right], [head_right]])
    predictions = np.where(right, labels, (labels + 1) % 10)
    confidences = rng.normal(0, 1, (2, SAMPLES)) + 2.0 * right
    keys, scores = (ExitKey(0, "pool-linear"),), confidences.astype(np.float32)
    return Records(keys, labels, predictions, scores, "w100", "float32", "select")


def scorable(width: str, seed: int, factor: int, *, exit_right: float, head_right: float) -> Scorable:
    costs = Costs(stages=(100.0 * factor,), exits={0: 2.0 * factor}, head=300.0 * factor)
    return Scorable(width, records(seed, exit_right=exit_right, head_right=head_right), costs)


WIDE = scorable("w100", 0, 4, exit_right=0.8, head_right=0.97)
NARROW = scorable("w25", 1, 1, exit_right=0.7, head_right=0.92)


def test_tiers_are_chosen_over_all_widths_when_there_are_several() -> None:
    found = choose([WIDE, NARROW], recipe=RECIPE, classes=10)
    tiers = [found.rows[index] for index in found.tiers]
    costs = [row.score.mean_cost for row in tiers]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == len(costs)
    assert {row.width for row in tiers} == {"w100", "w25"}
    assert tiers[0].score.value == max(row.score.value for row in found.scored)


def test_every_width_ships_without_exits_when_it_is_on_no_front() -> None:
    useless = scorable("w50", 2, 3, exit_right=0.2, head_right=0.3)
    found = choose([WIDE, useless, NARROW], recipe=RECIPE, classes=10)
    plain = [row.width for row in found.rows if not row.thresholds]
    assert sorted(plain) == ["w100", "w25", "w50"]
    assert "w50" not in {found.rows[index].width for index in found.tiers}


def test_choice_of_one_width_is_that_of_the_search_alone() -> None:
    alone = choose([WIDE], recipe=RECIPE, classes=10)
    both = choose([WIDE, NARROW], recipe=RECIPE, classes=10)
    of_wide = [row for row in both.scored if row.width == "w100"]
    assert of_wide == alone.scored


def programs() -> Any:
    """As much of the lowered programs as the table needs."""
    methods = {"stage0": 100, "exit0": 2, "head": 300}

    def one(scored: Scorable, factor: int) -> Any:
        macs = {name: factor * m for name, m in methods.items()}
        return SimpleNamespace(width=scored.width, macs=macs, candidates=SimpleNamespace(reference=0.97))

    widths = (one(WIDE, 4), one(NARROW, 1))
    return SimpleNamespace(widths=widths, widest=widths[0])


def test_configuration_is_refused_when_it_is_scored_on_another_width() -> None:
    wide, narrow = programs().widths
    row = Row("w25-c0", "w25", {0: 1.5}, 0.9, 1.0, (0.5, 0.5))
    score_row(NARROW.records, narrow, row, metric="accuracy", classes=10)
    with pytest.raises(EbbtideError) as caught:
        score_row(WIDE.records, wide, row, metric="accuracy", classes=10)
    assert caught.value.code == "search.width"
    assert (caught.value.expected, caught.value.found) == ("w25", "w100")


def test_ids_are_unique_and_say_the_width_when_it_is_not_the_widest(monkeypatch: pytest.MonkeyPatch) -> None:
    made = programs()
    made.project = SimpleNamespace(recipe=RECIPE, progress=silent)
    made.universal = SimpleNamespace(classes=10, samples=lambda _: SAMPLES)
    scored = {"w100": WIDE, "w25": NARROW}
    monkeypatch.setattr("ebbtide.build.choice._scorable", lambda one, times: scored[one.width])
    content = _search(made, None)
    ids = [row["id"] for row in content["rows"]]
    assert len(set(ids)) == len(ids)
    assert {"dense", "w25-dense"} <= set(ids)
    for row in content["rows"]:
        assert row["id"].startswith("w25-") is (row["width"] == "w25")
    assert set(content["tiers"]) <= set(ids)
