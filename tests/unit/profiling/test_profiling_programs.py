from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ebbtide.engine import Array, EagerEngine, Loaded
from ebbtide.errors import EbbtideError
from ebbtide.profiling import (
    MeasurementRecord,
    Plan,
    Target,
    chain_inputs,
    machine_facts,
    measure,
    parse_record,
    path_call,
    path_targets,
)
from ebbtide.profiling.machine import _cpu_model

SHA = "ab" * 32
QUICK = Plan(warm_up=1, rounds=2, repeats=2)


class Add(nn.Module):
    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.amount


class Classify(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = x.flatten(1)
        return logits.softmax(1), logits.amax(1), logits


@pytest.fixture
def loaded() -> Loaded:
    modules = {f"stage{number}": Add(1.0) for number in range(12)}
    return EagerEngine({"p": {**modules, "exit1": Classify(), "head": Classify()}}).load(Path("p.pte"))


@pytest.fixture
def sample() -> Array:
    return np.zeros((1, 3), dtype=np.float32)


def test_chain_inputs_follow_the_path_when_there_are_more_than_ten_stages(loaded: Loaded, sample: Array) -> None:
    inputs = chain_inputs(loaded, sample)
    assert set(inputs) == set(loaded.methods)
    assert [inputs[f"stage{number}"][0, 0] for number in range(12)] == list(range(12))
    assert inputs["exit1"][0, 0] == 2
    assert inputs["head"][0, 0] == 12


def test_chain_inputs_give_the_sample_when_the_program_is_a_single_method(sample: Array) -> None:
    program = EagerEngine({"dense": {"forward": Classify()}}).load(Path("dense.pte"))
    assert chain_inputs(program, sample)["forward"] is sample


def test_chain_inputs_refuse_when_an_exit_has_no_stage(sample: Array) -> None:
    program = EagerEngine({"p": {"stage0": Add(1.0), "exit3": Classify(), "head": Classify()}}).load(Path("p.pte"))
    with pytest.raises(EbbtideError) as caught:
        chain_inputs(program, sample)
    assert (caught.value.code, caught.value.place) == ("profiling.methods", "exit3")


def test_path_call_feeds_stages_and_not_exits_when_run(loaded: Loaded, sample: Array) -> None:
    seen: list[tuple[str, float]] = []

    class Spy:
        methods = loaded.methods

        def run(self, method: str, tensor: Array) -> tuple[Array, ...]:
            seen.append((method, float(tensor[0, 0])))
            return loaded.run(method, tensor)

        def close(self) -> None:
            return

    spy = Spy()
    path_call([(spy, "stage0"), (spy, "exit1"), (spy, "stage1"), (spy, "head")], sample)()
    assert seen == [("stage0", 0), ("exit1", 1), ("stage1", 1), ("head", 2)]


def test_measure_records_every_method_and_path_when_given_programs(loaded: Loaded, sample: Array) -> None:
    target = Target(loaded, SHA)
    paths = path_targets({"w": target}, {"early": ["w/stage0", "w/stage1", "w/exit1"], "first": ["w/stage0"]})
    record = measure([target], sample=sample, engine="eager", paths=paths, plan=QUICK, threads=1)
    assert {entry.method for entry in record.measurements} == set(loaded.methods)
    assert all(entry.threads == 1 and entry.engine == "eager" for entry in record.measurements)
    entry = record.find(SHA, "exit1")
    assert entry is not None
    assert entry.input_shape == (1, 3)
    assert entry.timing.calls == QUICK.rounds * QUICK.repeats
    early = record.find_path("early")
    assert early is not None
    assert early.steps == ((SHA, "stage0"), (SHA, "stage1"), (SHA, "exit1"))
    assert record.find(SHA, "missing") is None
    assert record.find("cd" * 32, "exit1") is None


def test_measure_orders_methods_by_cost_when_one_sleeps(sample: Array) -> None:
    class Slow(Add):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.002)
            return super().forward(x)

    program = EagerEngine({"p": {"stage0": Add(1), "stage1": Slow(1), "head": Classify()}}).load(Path("p.pte"))
    record = measure([Target(program, SHA)], sample=sample, engine="eager", plan=QUICK)
    slow, fast = record.find(SHA, "stage1"), record.find(SHA, "stage0")
    assert slow is not None
    assert fast is not None
    assert slow.timing.p50_us > 2000 > fast.timing.p50_us


def test_sum_p50_adds_steps_and_is_none_when_one_is_missing(loaded: Loaded, sample: Array) -> None:
    record = measure([Target(loaded, SHA)], sample=sample, engine="eager", plan=QUICK)
    parts = [record.find(SHA, name) for name in ("stage0", "head")]
    expected = sum(part.timing.p50_us for part in parts if part is not None)
    assert record.sum_p50_us([(SHA, "stage0"), (SHA, "head")]) == pytest.approx(expected)
    assert record.sum_p50_us([(SHA, "stage0"), (SHA, "other")]) is None


def test_path_targets_refuse_when_a_program_is_unknown(loaded: Loaded) -> None:
    with pytest.raises(EbbtideError) as caught:
        path_targets({"w": Target(loaded, SHA)}, {"early": ["v/stage0"]})
    assert caught.value.code == "profiling.methods"


def test_record_is_equal_when_written_and_read(loaded: Loaded, sample: Array) -> None:
    target = Target(loaded, SHA)
    paths = path_targets({"w": target}, {"first": ["w/stage0"]})
    record = measure([target], sample=sample, engine="eager", paths=paths, plan=QUICK)
    again = parse_record(record.to_bytes())
    assert again == record
    assert again.to_bytes() == record.to_bytes()


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (b'"format":1', b'"format":2', "$.format"),
        (SHA.encode(), b"short", "$.measurements.0.program_sha256"),
        (b'"measurements"', b'"measurments"', "$.measurments"),
        (b"{", b"", None),
    ],
)
def test_record_is_refused_with_its_place_when_damaged(
    loaded: Loaded, sample: Array, old: bytes, new: bytes, where: str | None
) -> None:
    data = measure([Target(loaded, SHA)], sample=sample, engine="eager", plan=QUICK).to_bytes()
    with pytest.raises(EbbtideError) as caught:
        parse_record(data.replace(old, new, 1), place="times.json")
    assert caught.value.code == "profiling.record"
    assert caught.value.place is not None
    assert caught.value.place.startswith("times.json")
    if where:
        assert caught.value.place.endswith(where)


def test_machine_facts_name_no_host_or_user_when_written() -> None:
    facts = machine_facts()
    text = facts.model_dump_json()
    assert facts.cores_logical >= facts.cores_usable >= 1
    assert facts.memory_bytes > 2**28
    assert facts.versions["numpy"] == np.__version__
    assert str(Path.home()) not in text
    assert MeasurementRecord(machine=facts).find_path("any") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("processor : 0\nmodel name\t: Some CPU @ 2GHz\n", "Some CPU @ 2GHz"), ("Hardware\t: Board 9\n", "Board 9")],
)
def test_cpu_model_is_read_when_the_kernel_names_it(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert _cpu_model(tmp_path / "cpuinfo") == expected
    assert _cpu_model(tmp_path / "absent")
