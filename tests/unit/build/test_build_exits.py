"""Limits on a table, what the search does for few samples, and mappings of a table to a device."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ebbtide.build.choice import Row
from ebbtide.build.draft import path_of
from ebbtide.build.mapping import DeviceMapping, map_rows
from ebbtide.build.scores import Scorable, choose, search_settings, settle, ways
from ebbtide.device import Processing
from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey, Records
from ebbtide.recipe import Recipe
from ebbtide.search import Block, BlockGraph, Costs, MappingProblem, mapping_problem

SAMPLES = 400
KEYS = tuple(ExitKey(position, kind) for position in (0, 1) for kind in ("pool-linear", "pool-mlp"))
COSTS = Costs(stages=(100.0, 100.0, 100.0), exits={0: 2.0, 1: 2.0}, head=100.0)


def recipe(**exits: Any) -> Recipe:
    base = {"model": {"timm": "a"}, "data": {"digits": True}, "training": {}}
    return Recipe.model_validate({**base, "exits": {**exits, "search": {"folds": 0, **exits.get("search", {})}}})


def records(keys: tuple[ExitKey, ...] = KEYS) -> Records:
    """Each exit is better than the one before, and surer where it is right."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, SAMPLES)
    right = rng.random((len(keys) + 1, SAMPLES)) < np.linspace(0.7, 0.97, len(keys) + 1)[:, None]
    predictions = np.where(right, labels, (labels + 1) % 10)
    confidences = (rng.normal(0, 1, right.shape) + 2.0 * right).astype(np.float32)
    return Records(keys, labels, predictions, confidences, "w100", "float32", "select")


ONE_TYPE = tuple(key for key in KEYS if key.type == "pool-mlp")


def width(**more: Any) -> Scorable:
    return Scorable("w100", records(ONE_TYPE), COSTS, **more)


def test_every_row_with_exits_keeps_the_limit_on_loss() -> None:
    found = choose([width()], recipe=recipe(constraint={"max_drop_points": 1.0}), classes=10)
    plain = next(row.score.value for row in found.rows if not row.thresholds)
    assert all(row.score.value >= plain - 0.01 - 1e-9 for row in found.rows)
    free = choose([width()], recipe=recipe(), classes=10)
    assert min(row.score.value for row in free.rows) < plain - 0.01


def test_limit_that_nothing_keeps_is_named_with_the_nearest_value() -> None:
    times = replace(COSTS, stages=(1000.0, 10.0, 10.0))
    limits = recipe(constraint={"max_latency_us": 500.0})
    with pytest.raises(EbbtideError) as caught:
        choose([width(times=times)], recipe=limits, classes=10)
    error = caught.value
    assert (error.code, error.place, error.found) == ("search.no_configuration", "exits.constraint", "max_latency_us")
    assert "the nearest takes 1002" in error.message
    # While positions are chosen there are no times yet.
    assert choose([width()], recipe=limits, classes=10).rows


def test_loss_is_counted_against_the_model_as_it_came() -> None:
    limits = recipe(constraint={"max_drop_points": 1.0})
    plain = choose([width()], recipe=limits, classes=10).tiers
    assert plain
    with pytest.raises(EbbtideError):
        choose([width()], recipe=limits, classes=10, reference=1.0)


def test_few_samples_are_searched_with_more_caution() -> None:
    automatic = Recipe.model_validate({"model": {"timm": "a"}, "data": {"digits": True}, "training": {}, "exits": {}})
    few, many = search_settings(automatic, 300), search_settings(automatic, 5000)
    assert (few.head_share, few.folds, few.least_leaving) == (0.5, 5, 3)
    assert (many.head_share, many.folds, many.least_leaving) == (0.0, 5, 50)
    given = recipe(search={"head_share": 0.2, "least_leaving": 7, "trade_offs": [0.5], "method": "single-pass"})
    settings = search_settings(given, 300)
    assert (settings.head_share, settings.least_leaving, settings.trade_offs) == (0.2, 7, (0.5,))
    assert settings.method == "single-pass"


def test_settled_exits_have_one_type_a_position_and_their_front_is_no_worse_than_simpler_ways() -> None:
    everything = Scorable("w100", records(), COSTS)
    few = recipe(search={"positions": 2, "head_share": 0.0, "least_leaving": 1})
    kept = settle(everything, recipe=few, classes=10).keys
    assert [key.position for key in kept] == [0, 1]
    own, once, shared = ways(everything, kept, recipe=few, classes=10)
    assert [own["name"], once["name"], shared["name"]] == ["this search", "single pass", "one threshold for all exits"]
    for trade_off in (0.6, 0.9):
        values = [
            min(trade_off * (1 - value) + (1 - trade_off) * macs / COSTS.total for value, macs in way["points"])
            for way in (own, once)
        ]
        assert values[0] <= values[1] + 1e-9
    only = settle(everything, recipe=recipe(search={"positions": 1}), classes=10).keys
    assert len(only) == 1


# Mapping.


def block(name: str, macs: int, ops: str = "conv2d") -> Block:
    return Block(name, macs, 1000, 2000, 400, frozenset({ops}), ops)


def problem(*, latency_us: float) -> MappingProblem:
    """Two stages with exits, the rest and the head; a server fifty times as fast as the phone."""

    def stated(value: float) -> dict[str, Any]:
        return {"value": value, "assumption": "made up for a test"}

    places = [("cpu", "cpu", 1e9), ("server", "server", 5e10)]
    processing = Processing.model_validate(
        {
            "processors": [{"name": n, "kind": kind, "macs_per_s": stated(speed)} for n, kind, speed in places],
            "links": [
                {"start": "cpu", "end": "server", "bytes_per_s": stated(1e9), "latency_us": stated(latency_us)},
            ],
        }
    )
    stages = tuple(block(f"b{index}", 1_000_000) for index in range(3))
    blocks = BlockGraph(stages, block("head", 10_000, "linear"), input_bytes=3000)
    exits = {key: block(str(key), 1000, "linear") for key in ONE_TYPE}
    return mapping_problem(blocks, exits, processing)


def row(name: str, thresholds: dict[int, float]) -> Row:
    return Row(name, "w100", thresholds, 0.9, 1.0, (0.3, 0.3, 0.4))


ROWS = [row("c0", {0: 1.0, 1: 1.0}), row("dense", {})]


def mapped(latency_us: float, limit_us: float | None = None) -> dict[str, Any]:
    return map_rows(problem(latency_us=latency_us), records(ONE_TYPE), ROWS, limit_us=limit_us, classes=10)


def test_end_goes_to_a_server_that_is_near_and_stays_when_it_is_far() -> None:
    near, far = mapped(10.0)["rows"], mapped(1e6)["rows"]
    assert near["dense"]["server_from"] == "stage1"
    assert near["dense"]["drawing"]["mean_us"] < near["dense"]["first_us"]
    assert [one["server_from"] for one in far.values()] == [None, None]
    assert far["c0"]["drawing"]["mean_us"] == far["c0"]["first_us"]


def test_expected_time_counts_every_sample_where_it_leaves() -> None:
    found = mapped(1e6)["rows"]["c0"]["drawing"]
    seen = records(ONE_TYPE).confidences
    first = seen[0] > 1.0
    second = ~first & (seen[1] > 1.0)
    shares = [first.mean(), second.mean(), 1 - first.mean() - second.mean()]
    assert found["mean_us"] == pytest.approx(np.dot(shares, [1001.0, 2002.0, 3012.0]))


def test_server_takes_over_only_where_the_program_has_a_boundary() -> None:
    for found in mapped(10.0)["rows"].values():
        for one in found["drawing"]["segments"]:
            assert one["stages"] != ["head"]


def test_limit_that_no_mapping_keeps_is_told_with_its_reason() -> None:
    found = mapped(1e6, limit_us=1500.0)
    assert {one["drawing"] for one in found["rows"].values()} == {None}
    assert "of 1500 us" in found["rows"]["dense"]["binding"]
    assert found["why_not"]["reasons"] == {"latency": found["why_not"]["reasons"]["latency"]}


def test_manifest_marks_the_end_of_a_path_for_the_server() -> None:
    names = ("stage0", "exit0", "stage1", "exit1", "head")
    methods = tuple({"name": n, "kind": n.rstrip("01"), "position": int(n[-1]) if n != "head" else 2} for n in names)
    program: Any = SimpleNamespace(id="p", methods=methods)
    device = DeviceMapping("phone", {"c0": {"server_from": "stage1"}}, {})
    steps = path_of(program, ROWS[0], server_from=device.server_from(ROWS[0]))
    assert [step.at for step in steps] == [None, None, "server", "server", "server"]
    assert {step.at for step in path_of(program, ROWS[1], server_from=device.server_from(ROWS[1]))} == {None}
