"""Mappings and thresholds together: exact scores, the corrected edges, and what the published weights would choose."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from mapping_samples import CLASSES, choices_of, device, problem, processor, records_of, scoring_of, two_processors

from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey, Records
from ebbtide.search import score
from ebbtide.search.mapping import Placement, Segment, enumerate_placements, mapped_costs, worst_latency_us
from ebbtide.search.mapping_drawing import mapping_drawing, rejects_drawing
from ebbtide.search.mapping_edges import CorrectedEdges
from ebbtide.search.mapping_problem import MappingProblem
from ebbtide.search.mapping_score import Goal, Scoring
from ebbtide.search.mapping_search import MappingSearch, search_mapping

BENCHMARKS = Path(__file__).resolve().parents[3] / "pipeline" / "benchmarks"


def search(mapped: MappingProblem, records: Records, **more: object) -> MappingSearch:
    settings = {"goal": Goal(), "choices": choices_of(records), "metric": "accuracy", "classes": CLASSES, "grid": 6}
    return search_mapping(mapped, records, **(settings | more))


def by_loops(scoring: Scoring, placement: Placement, chosen: tuple[int, ...]) -> tuple[float, float]:
    """Mean microseconds and accuracy, sample by sample and part by part."""
    mapped, records = scoring.problem, scoring.records
    owner, names = 0, [one.name for one in mapped.processing.processors]
    paid = right = 0.0
    limits = {key: scoring.grids[scoring.row[key]][k] for key, k in zip(placement.exits, chosen, strict=True)}
    for sample in range(len(records)):
        owner, answer = 0, records.predictions[-1, sample]
        for part in range(len(mapped.blocks.parts)):
            here = placement.processor_of(part)
            if here != owner:
                paid += mapped.processing.link(names[owner], names[here]).transfer_us(mapped.blocks.carried_bytes(part))
            owner = here
            paid += mapped.times[here].parts[part]
            key = next((key for key in placement.exits if key.position == part), None)
            if key is not None:
                paid += mapped.times[here].exits[key]
                if records.confidences[scoring.row[key], sample] > limits[key]:
                    answer = records.predictions[scoring.row[key], sample]
                    break
        right += answer == records.labels[sample]
    return paid / len(records), right / len(records)


def brute_force(scoring: Scoring, placements: tuple[Placement, ...]) -> float:
    """The least objective over all mappings and thresholds, by the evaluator of every search."""
    best = np.inf
    for placement in placements:
        records, costs = scoring.records.only(placement.exits), mapped_costs(scoring.problem, placement)
        grids = [scoring.grids[scoring.row[key]] for key in placement.exits]
        for thresholds in itertools.product(*grids):
            row = np.array(thresholds, dtype=np.float32)
            found = score(records, costs, row, metric="accuracy", classes=CLASSES)
            if scoring.allows(1 - found.value):
                best = min(best, float(scoring.value(found.mean_cost, 1 - found.value)))
    return best


@pytest.mark.parametrize("drop", [None, 1.0])
@pytest.mark.parametrize("types", [("pool-linear",), ("pool-linear", "pool-mlp")])
@pytest.mark.parametrize("seed", range(2))
def test_search_equals_brute_force(seed: int, types: tuple[str, ...], drop: float | None) -> None:
    mapped = problem(types=types, stages=4 if len(types) == 1 else 3)
    records = records_of(mapped.keys, 150, seed=seed)
    goal, limit = Goal(0.8, max_drop_points=drop), 3000.0
    found = search(mapped, records, goal=goal, limit_us=limit, grid=5)
    assert found.method == "exact"
    enumeration = enumerate_placements(mapped, limit_us=limit)
    base = min(worst_latency_us(mapped, one) for one in enumeration.feasible if not one.exits)
    scoring = scoring_of(mapped, records, grid=5, goal=goal, base_us=base)
    assert found.best is not None
    assert found.best.objective == pytest.approx(brute_force(scoring, enumeration.feasible), abs=1e-12)
    assert found.best.candidate.score.worst_cost <= limit


def test_table_of_thresholds_equals_loops_over_samples() -> None:
    mapped = problem(stages=5)
    records = records_of(mapped.keys, 120, seed=3)
    scoring = scoring_of(mapped, records, grid=4)
    generator = np.random.default_rng(0)
    for placement in enumerate_placements(mapped).feasible[::7]:
        table = scoring.table(placement.exits)
        chosen = tuple(int(generator.integers(len(scoring.grids[scoring.row[key]]))) for key in placement.exits)
        us, accuracy = by_loops(scoring, placement, chosen)
        whole = np.broadcast_to(table.error, tuple(len(scoring.grids[scoring.row[key]]) for key in placement.exits))
        assert float(whole[chosen]) == pytest.approx(1 - accuracy)
        exact = scoring.scored(placement, chosen)
        assert exact is not None
        assert (exact.candidate.score.mean_cost, exact.candidate.score.value) == pytest.approx((us, accuracy))
        assert exact.candidate.score.worst_cost == pytest.approx(worst_latency_us(mapped, placement))


def nested(mapped: MappingProblem, count: int = 200) -> Records:
    """Whoever is sure at an exit is surer at the next one."""
    records = records_of(mapped.keys, count, seed=5)
    for row in range(1, len(records.confidences)):
        records.confidences[row] = records.confidences[0] + row
    return records


def test_path_sum_is_exact_where_confident_sets_are_nested() -> None:
    mapped = problem(stages=5)
    scoring = scoring_of(mapped, nested(mapped), grid=6)
    edges, checked = CorrectedEdges(scoring), 0
    for placement in enumerate_placements(mapped).feasible[::5]:
        rows = [scoring.row[key] for key in placement.exits]
        for chosen in itertools.product(*(range(len(scoring.grids[row])) for row in rows)):
            leaves = [scoring.bins[row] > k for row, k in zip(rows, chosen, strict=True)]
            if all((inner <= outer).all() for inner, outer in itertools.pairwise(leaves)):
                found = scoring.scored(placement, chosen)
                assert edges.path_sum(placement, chosen) == pytest.approx(found.objective, abs=1e-12)
                checked += len(chosen) > 1
    assert checked > 100


def test_path_sum_is_exact_for_every_mapping_with_one_exit() -> None:
    mapped = problem(types=("pool-linear", "pool-mlp"))
    scoring = scoring_of(mapped, records_of(mapped.keys, seed=1))
    edges = CorrectedEdges(scoring)
    for placement in enumerate_placements(mapped, most_exits=1).feasible:
        size = len(scoring.grids[scoring.row[placement.exits[0]]]) if placement.exits else 1
        for k in range(size):
            chosen = (k,) if placement.exits else ()
            assert edges.path_sum(placement, chosen) == pytest.approx(scoring.scored(placement, chosen).objective)


@pytest.mark.parametrize("limit", [None, 1900.0])
def test_edges_find_the_least_path_and_report_the_gap(limit: float | None) -> None:
    mapped = problem(two_processors(memory_bytes=6_600), types=("pool-linear", "pool-mlp"))
    records = records_of(mapped.keys, 200, seed=2)
    by_edges = search(mapped, records, method="edges", limit_us=limit)
    exact = search(mapped, records, method="exact", limit_us=limit)
    assert by_edges.largest_gap is not None
    assert by_edges.largest_gap > 1e-6
    assert by_edges.best.objective == pytest.approx(by_edges.best.estimate + by_edges.best.gap)
    possible = set(exact.enumeration.feasible)
    assert {one.placement for one in by_edges.found} <= possible
    assert 0 <= by_edges.best.objective - exact.best.objective < 0.01


def test_path_search_finds_the_least_sum_of_all_paths() -> None:
    mapped = problem(two_processors(memory_bytes=6_600), types=("pool-linear", "pool-mlp"))
    records, limit = records_of(mapped.keys, 200, seed=2), 1900.0
    edges = CorrectedEdges(scoring_of(mapped, records, grid=6))
    sums = [
        edges.path_sum(one, chosen)
        for one in enumerate_placements(mapped, limit_us=limit).feasible
        for chosen in itertools.product(*(range(len(edges.scoring.grids[edges.scoring.row[k]])) for k in one.exits))
    ]
    found = [
        path
        for segments in enumerate_placements(mapped, limit_us=limit, most_exits=0).feasible
        for path in edges.search(segments, trade_off=0.5, limit_us=limit, most_exits=3, keep=4)
    ]
    assert min(path.estimate for path in found) == pytest.approx(min(sums), abs=1e-12)
    for path in found:
        assert edges.path_sum(path.placement, path.chosen) == pytest.approx(path.estimate, abs=1e-12)


def test_edges_are_exact_when_confident_sets_are_nested() -> None:
    mapped = problem()
    found = search(mapped, nested(mapped), method="edges", goal=Goal(0.9))
    exact = search(mapped, nested(mapped), method="exact", goal=Goal(0.9))
    assert found.best.gap == pytest.approx(0.0, abs=1e-9)
    assert found.best.objective == pytest.approx(exact.best.objective, abs=1e-9)


def test_limit_on_what_may_be_lost_holds_with_either_method() -> None:
    mapped = problem(stages=6)
    records = records_of(mapped.keys, 300, seed=4)
    head = float((records.predictions[-1] == records.labels).mean())
    free = search(mapped, records, goal=Goal(0.3))
    assert head - free.best.candidate.score.value > 0.005
    for method in ("exact", "edges"):
        found = search(mapped, records, goal=Goal(0.3, max_drop_points=0.5), method=method)
        assert found.best.placement.exits
        assert all(head - one.candidate.score.value <= 0.005 + 1e-9 for one in found.found)


def test_nothing_is_found_when_no_mapping_is_possible() -> None:
    mapped = problem()
    found = search(mapped, records_of(mapped.keys), limit_us=1.0)
    assert found.best is None
    assert found.enumeration.reasons() == {"latency": len(found.enumeration.rejects)}


def test_cost_never_rises_as_more_samples_stop_at_an_exit() -> None:
    mapped = problem(device(processor("cpu", 1e9)), stages=6)
    scoring = scoring_of(mapped, records_of(mapped.keys, seed=6), grid=20)
    for key in mapped.keys:
        placement = Placement((Segment(0, 0, 6),), (key,))
        costs = [scoring.scored(placement, (k,)).candidate.score.mean_cost for k in range(len(scoring.grids[0]))]
        assert costs == sorted(costs)
        assert costs[0] < costs[-1]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import eenn_published

    yield eenn_published
    sys.modules.pop("eenn_published")


def test_published_cost_rises_as_more_samples_stop_at_a_deep_exit(published) -> None:
    mapped = problem(device(processor("cpu", 1e9)), stages=6)
    placement = Placement((Segment(0, 0, 6),), (ExitKey(4, "pool-linear"),))
    base = worst_latency_us(mapped, Placement((Segment(0, 0, 6),), ()))
    scoring = scoring_of(mapped, records_of(mapped.keys, seed=6), grid=20, base_us=base)
    cost = published.published_cost(scoring, placement)
    assert (np.diff(cost) <= 1e-12).all()  # falls with the threshold, so it rises with the share that stops
    assert cost[0] > cost[-1]
    early = published.published_cost(scoring, Placement((Segment(0, 0, 6),), (ExitKey(0, "pool-linear"),)))
    assert early[0] < early[-1]


def test_published_lengths_ignore_later_thresholds_in_their_accuracy(published) -> None:
    mapped = problem(device(processor("cpu", 1e9)), stages=5)
    keys = tuple(ExitKey(p, "pool-linear") for p in (0, 2, 3))
    placement = Placement((Segment(0, 0, 5),), keys)
    scoring = scoring_of(mapped, records_of(mapped.keys, seed=7), goal=Goal(1.0))
    lengths = published.published_lengths(scoring, placement)
    assert np.ptp(lengths, axis=(1, 2)).max() < 1e-12
    above = scoring.records.confidences[0][:, None] > scoring.grids[0][None, :]
    right = (scoring.records.predictions[0] == scoring.records.labels)[:, None]
    first = (above & right).sum(axis=0) / np.maximum(above.sum(axis=0), 1)
    assert lengths[:, 0, 0] == pytest.approx(4 - 2 * first + (1 - scoring.head_error))


def test_published_choice_is_never_better_and_sometimes_much_worse(published) -> None:
    excess = []
    for seed in range(4):
        mapped = problem(stages=5)
        records = records_of(mapped.keys, 400, seed=seed)
        found = search(mapped, records, goal=Goal(0.8), grid=8)
        base = min(worst_latency_us(mapped, one) for one in found.enumeration.feasible if not one.exits)
        scoring = scoring_of(mapped, records, goal=Goal(0.8), base_us=base)
        for some_exit in (False, True):
            compared = published.compare(scoring, found.enumeration, found.best, some_exit=some_exit)
            assert compared.objective_excess >= -1e-12
            excess.append(compared.objective_excess)
    assert min(max(excess[::2]), max(excess[1::2])) > 0.02


def test_records_of_other_exits_or_of_test_are_refused() -> None:
    mapped = problem()
    records = records_of(mapped.keys)
    with pytest.raises(EbbtideError) as caught:
        search(mapped, records.only(mapped.keys[:1]))
    assert caught.value.code == "search.mapping_exit"
    with pytest.raises(EbbtideError) as caught:
        search(mapped, records.samples(np.arange(50), split="test"))
    assert caught.value.code == "search.split"
    with pytest.raises(EbbtideError) as caught:
        Goal(1.5)
    assert caught.value.code == "search.trade_off"


def test_drawing_holds_segments_transfers_exits_and_rejects() -> None:
    mapped = problem(two_processors(memory_bytes=6_600))
    found = search(mapped, records_of(mapped.keys), limit_us=2500.0)
    halves = next(one for one in found.found if len(one.placement.segments) == 2 and one.placement.exits)
    drawn = mapping_drawing(mapped, halves.placement, halves)
    assert json.loads(json.dumps(drawn)) == drawn
    assert [part for one in drawn["segments"] for part in one["stages"]] == ["b0", "b1", "b2", "b3", "head"]
    assert [one["processor"] for one in drawn["segments"]] == ["cpu", "npu"]
    assert {one["origin"] for one in drawn["segments"]} == {"throughput"}
    (transfer,) = drawn["transfers"]
    assert (transfer["from"], transfer["to"]) == ("cpu", "npu")
    spent = sum(one["us"] + sum(end["us"] for end in one["exits"]) for one in drawn["segments"]) + transfer["us"]
    assert drawn["worst_us"] == pytest.approx(spent) == pytest.approx(halves.candidate.score.worst_cost)
    shares = [end["share"] for one in drawn["segments"] for end in one["exits"]]
    assert sum(shares) + drawn["head_share"] == pytest.approx(1.0)
    rejects = rejects_drawing(mapped, found.enumeration)
    assert json.loads(json.dumps(rejects)) == rejects
    assert rejects["reasons"]["memory"] > 0


def test_figures_of_the_example_devices_put_the_published_choice_beside_the_exact_one(published) -> None:
    import exits_mapping

    mapped = problem(stages=5)
    records = records_of(mapped.keys, 300, seed=1)
    for profile in exits_mapping.PROFILES:
        figures = exits_mapping.mapping_figures(
            profile,
            mapped.blocks,
            mapped.exits,
            records,
            choices=choices_of(records),
            classes=CLASSES,
            trade_off=0.8,
            grid=6,
        )
        assert json.loads(json.dumps(figures)) == figures
        assert figures["published"]["objective_excess"] >= -1e-12
        assert figures["edges"]["objective"] >= figures["objective"] - 1e-12
    sys.modules.pop("exits_mapping")
