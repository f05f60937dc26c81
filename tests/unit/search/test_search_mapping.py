"""Which mappings are possible, why the others are not, and what the possible ones need."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from mapping_samples import block, blocks, device, link, problem, processor, two_processors

from ebbtide.device import Processing
from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey
from ebbtide.search.mapping import (
    Placement,
    Segment,
    count_exit_sets,
    enumerate_placements,
    mapped_costs,
    memory_bytes,
    transfers,
    worst_latency_us,
)
from ebbtide.search.mapping_problem import MappingProblem, mapping_problem

THREE = device(
    processor("cpu", 2e9, memory_bytes=6_500),
    processor("gpu", 8e9, "gpu", memory_bytes=20_000),
    processor("server", 1e12, "server"),
    links=[link("cpu", "gpu"), link("gpu", "server", 1e6, 2000.0), link("cpu", "server", 1e6, 2000.0)],
)


def all_placements(mapped: MappingProblem, most_exits: int) -> list[Placement]:
    """Every way to give parts to processors in order, with every set of exits, whether possible or not."""
    parts, processors = len(mapped.blocks.parts), len(mapped.processing.processors)
    found = []
    for owners in itertools.combinations_with_replacement(range(processors), parts):
        segments = []
        for owner, run in itertools.groupby(range(parts), key=lambda part: owners[part]):
            places = list(run)
            segments.append(Segment(owner, places[0], places[-1]))
        for size in range(most_exits + 1):
            found += [Placement(tuple(segments), exits) for exits in itertools.combinations(mapped.keys, size)]
    return found


def is_possible(mapped: MappingProblem, placement: Placement, limit_us: float | None) -> bool:
    processors, names = mapped.processing.processors, [one.name for one in mapped.processing.processors]
    before = 0
    for segment, needed in zip(placement.segments, memory_bytes(mapped, placement), strict=True):
        one = processors[segment.processor]
        if segment.processor != before and mapped.processing.link(names[before], one.name) is None:
            return False
        if segment.first == 0 and one.kind == "server":
            return False
        run = [*mapped.blocks.parts[segment.first : segment.last + 1]]
        run += [mapped.exits[key] for key in placement.exits if segment.first <= key.position <= segment.last]
        if any(one.cannot_run(part.operators) for part in run):
            return False
        if one.memory_bytes is not None and needed > one.memory_bytes.value:
            return False
        before = segment.processor
    return limit_us is None or worst_latency_us(mapped, placement) <= limit_us


@pytest.mark.parametrize("limit_us", [None, 2500.0, 1500.0, 10.0])
@pytest.mark.parametrize("processing", [two_processors(), two_processors(unsupported=["linear"]), THREE])
def test_enumeration_equals_trying_everything(processing: Processing, limit_us: float | None) -> None:
    mapped = problem(processing)
    found = enumerate_placements(mapped, limit_us=limit_us, most_exits=2)
    expected = {one for one in all_placements(mapped, 2) if is_possible(mapped, one, limit_us)}
    assert len(found.feasible) == len(set(found.feasible))
    assert set(found.feasible) == expected


def test_empty_list_has_reasons_when_latency_cannot_be_met() -> None:
    found = enumerate_placements(problem(), limit_us=1.0)
    assert found.feasible == ()
    assert set(found.reasons()) == {"latency"}
    assert all(one.found is not None and one.found > 1.0 == one.limit for one in found.rejects)
    # The sample's 3000 bytes take 130 us to the faster processor, 5.25 million MACs there 262.5 us.
    assert found.binding() == "Up to b0 on npu it takes at least 392 of 1 us."
    nowhere = two_processors(unsupported=["linear"], memory_bytes=20_000)
    full = device(processor("cpu", 2e9, memory_bytes=2_000), processor("npu", 2e10, memory_bytes=2_500))
    assert "cpu needs 3000 of 2000 bytes." in (enumerate_placements(problem(full)).binding() or "")
    assert enumerate_placements(problem(nowhere)).binding() is None


def test_rejects_name_what_was_too_much() -> None:
    small = two_processors(memory_bytes=4_000, unsupported=["linear"])
    found = enumerate_placements(problem(small), most_exits=1)
    reasons = {one.reason: one for one in found.rejects}
    assert reasons["memory"].processor == "npu"
    assert reasons["memory"].found > reasons["memory"].limit == 4_000
    assert reasons["unsupported"].detail == "linear"
    assert found.reasons()["unsupported"] >= 2
    alone = device(
        processor("a", 1e9), processor("b", 1e9), processor("c", 1e9), links=[link("a", "b"), link("b", "c")]
    )
    missing = [one for one in enumerate_placements(problem(alone)).rejects if one.reason == "link"]
    assert {one.detail for one in missing} == {"a -> c"}


def test_tightening_any_limit_only_shrinks_what_is_possible() -> None:
    generator = random.Random(0)
    for _ in range(30):
        limits = sorted(generator.uniform(200, 4000) for _ in range(2))
        memories = sorted(generator.randint(3_000, 12_000) for _ in range(2))
        refused = generator.sample(["linear", "conv2d", "gelu"], 2)
        wide = problem(two_processors(memory_bytes=memories[1], unsupported=refused[:1]))
        tight = problem(two_processors(memory_bytes=memories[0], unsupported=refused))
        loose = set(enumerate_placements(wide, limit_us=limits[1], most_exits=2).feasible)
        assert set(enumerate_placements(wide, limit_us=limits[0], most_exits=2).feasible) <= loose
        assert set(enumerate_placements(tight, limit_us=limits[1], most_exits=2).feasible) <= loose


def test_memory_and_delay_are_the_same_in_any_order() -> None:
    mapped = problem(THREE)
    placements = list(enumerate_placements(mapped, most_exits=2).feasible)
    first = {one: (memory_bytes(mapped, one), worst_latency_us(mapped, one)) for one in placements}
    random.Random(1).shuffle(placements)
    for one in placements:
        assert (memory_bytes(mapped, one), worst_latency_us(mapped, one)) == first[one]
    again = enumerate_placements(mapped, most_exits=2)
    assert again == enumerate_placements(problem(THREE), most_exits=2)


def test_segments_add_up_to_the_backbone_and_transfers_carry_what_was_put_out() -> None:
    mapped = problem(THREE)
    total = sum(part.macs for part in mapped.blocks.parts)
    for placement in enumerate_placements(mapped, most_exits=1).feasible:
        runs = [mapped.blocks.parts[one.first : one.last + 1] for one in placement.segments]
        assert sum(part.macs for run in runs for part in run) == total
        for part, start, end, us in transfers(mapped, placement):
            names = [one.name for one in mapped.processing.processors]
            carried = mapped.blocks.input_bytes if part == 0 else mapped.blocks.stages[part - 1].output_bytes
            road = mapped.processing.link(names[start], names[end])
            assert us == road.latency_us.value + carried / road.bytes_per_s.value * 1e6


def test_costs_by_hand_when_the_model_is_cut_in_two() -> None:
    mapped = problem(macs=20_000)
    placement = Placement((Segment(0, 0, 1), Segment(1, 2, 4)), (ExitKey(0, "pool-linear"), ExitKey(2, "pool-linear")))
    costs = mapped_costs(mapped, placement)
    carried = 100.0 + 2000 / 1e8 * 1e6
    assert costs.stages == pytest.approx((500.0, 600.0, 70.0 + carried, 80.0))
    assert costs.head == pytest.approx(2.5)
    assert costs.exits == pytest.approx({key: (10.0, 10.0, 1.0)[key.position] for key in mapped.keys})
    assert worst_latency_us(mapped, placement) == pytest.approx(500 + 600 + 70 + carried + 80 + 2.5 + 10 + 1)
    assert memory_bytes(mapped, placement) == (2 * 1000 + 500 + 2000, 3 * 1000 + 500 + 2000)


def test_one_processor_with_several_exits_is_possible() -> None:
    found = enumerate_placements(problem(device(processor("cpu", 1e9))), most_exits=3).feasible
    assert Placement((Segment(0, 0, 4),), tuple(ExitKey(p, "pool-linear") for p in (0, 1, 2))) in found
    assert len(found) == 8 == count_exit_sets(problem(), 3)


def test_nothing_begins_on_a_server() -> None:
    found = enumerate_placements(problem(THREE)).feasible
    assert all(one.segments[0].processor != 2 for one in found)
    assert any(one.segments[-1].processor == 2 for one in found)


def test_measured_times_are_used_when_they_are_of_this_model() -> None:
    graph = blocks(2)
    key = ExitKey(0, "pool-linear")
    times = {"model": "net", "cuts": ["b0", "b1"], "stages_us": [7.0, 8.0], "exits_us": {"0:pool-linear": 1.5}}
    times |= {"head_us": 2.0, "source": "a test", "date": "2026-11-27"}
    text = json.dumps({"processors": [processor("cpu", 1e9) | {"times": [times]}]})
    processing = Processing.model_validate_json(text)
    exits = {key: block(str(key), 1000, ops="linear")}
    measured = mapping_problem(graph, exits, processing, model="net").times[0]
    assert (measured.parts, measured.exits, measured.origin) == ((7.0, 8.0, 2.0), {key: 1.5}, "measured")
    assert mapping_problem(graph, exits, processing, model="other").times[0].origin == "throughput"
    times["cuts"] = ["b0", "elsewhere"]
    text = json.dumps({"processors": [{"name": "cpu", "kind": "cpu", "times": [times]}]})
    with pytest.raises(EbbtideError) as caught:
        mapping_problem(graph, exits, Processing.model_validate_json(text), model="net")
    assert caught.value.code == "search.mapping_times"
    assert "cpu" in str(caught.value)


def test_exit_is_refused_where_none_can_stand() -> None:
    graph = blocks(3)
    assert graph.candidates == (0, 1)
    with pytest.raises(EbbtideError) as caught:
        mapping_problem(graph, {ExitKey(2, "pool-linear"): block("e", 1)}, two_processors())
    assert caught.value.code == "search.mapping_exit"
