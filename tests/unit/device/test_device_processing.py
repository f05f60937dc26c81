"""Processors, links and servers of device profiles: what is stated, and what is refused."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ebbtide.device import Processing, Stated, load_profile
from ebbtide.device.operators import OPERATORS
from ebbtide.errors import EbbtideError
from ebbtide.model import operators

EXAMPLES = {
    "example-cpu-npu": ["cpu", "npu"],
    "example-cpu-gpu": ["cpu", "gpu"],
    "example-phone-server": ["cpu", "server"],
}


def document(name: str = "example-cpu-npu") -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parents[3] / "devices" / "profiles" / f"{name}.yaml").read_bytes())


def refused(tmp_path: Path, change: Any) -> EbbtideError:
    changed = copy.deepcopy(document()) | {"id": "mine"}
    change(changed["processing"])
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(EbbtideError) as caught:
        load_profile("mine", folder=tmp_path)
    assert caught.value.code == "device.profile"
    assert "processing" in (caught.value.place or "")
    return caught.value


def link(start: str, end: str) -> dict[str, Any]:
    return document()["processing"]["links"][0] | {"start": start, "end": end}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_value_of_an_example_has_a_source_or_is_called_an_assumption(name: str) -> None:
    processing = load_profile(name).processing
    assert processing is not None
    assert [one.kind for one in processing.processors] == EXAMPLES[name]
    assert (processing.server is not None) == (name == "example-phone-server")

    def values(part: Any) -> list[Stated[Any]]:
        if isinstance(part, Stated):
            return [part]
        found = part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
        fields = [getattr(part, field) for field in getattr(type(part), "model_fields", {})]
        return [value for inner in (*found, *fields) for value in values(inner)]

    stated = values(processing)
    assert len(stated) >= 6
    for one in stated:
        assert (one.assumption is None) == (one.source is not None) == (one.date is not None)
    assert any(one.source for one in stated)


def test_example_throughputs_follow_from_the_times_they_name() -> None:
    for name in EXAMPLES:
        for one in load_profile(name).processing.processors:
            if one.macs_per_s.source is not None:
                milliseconds = float(one.macs_per_s.source.split(" ms;")[0].split()[-1])
                assert one.macs_per_s.value == pytest.approx(569e6 / (milliseconds / 1e3), rel=0.005)


def test_profiles_without_processors_stay_as_they_were() -> None:
    assert load_profile("pixel-8").processing is None


def test_missing_link_is_refused(tmp_path: Path) -> None:
    assert "a link is missing: none reaches npu" in refused(tmp_path, lambda one: one.pop("links")).message
    error = refused(tmp_path, lambda one: one["links"].append(link("cpu", "npux")))
    assert "npux" in error.message
    assert "did you mean 'npu'" in error.message


def test_cycle_is_refused_and_shown(tmp_path: Path) -> None:
    error = refused(tmp_path, lambda one: one["links"].append(link("npu", "cpu")))
    assert "cycle: cpu -> npu -> cpu" in error.message
    assert "cycle: cpu -> cpu" in refused(tmp_path, lambda one: one["links"].append(link("cpu", "cpu"))).message
    assert "goes back" in refused(tmp_path, lambda one: one["processors"].reverse()).message
    assert "two links" in refused(tmp_path, lambda one: one["links"].append(link("cpu", "npu"))).message


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "fast"])
def test_throughput_is_refused_when_it_is_no_speed(tmp_path: Path, value: object) -> None:
    error = refused(tmp_path, lambda one: one["processors"][0]["macs_per_s"].update(value=value))
    assert "macs_per_s.value" in (error.place or "")
    assert refused(tmp_path, lambda one: one["links"][0]["bytes_per_s"].update(value=value))


def test_unknown_operator_is_refused_with_the_nearest(tmp_path: Path) -> None:
    error = refused(tmp_path, lambda one: one["processors"][1]["unsupported"].update(value=["layernorm"]))
    assert "'layernorm'" in error.message
    assert "did you mean 'layer_norm'" in error.message


def test_values_are_refused_without_ground(tmp_path: Path) -> None:
    def change(one: dict[str, Any], **more: object) -> None:
        one["links"][0]["latency_us"] = {"value": 5, **more}

    both = {"source": "s", "date": datetime.date(2026, 1, 1), "assumption": "a"}
    for more in ({}, {"source": "s"}, both):
        error = refused(tmp_path, lambda one, more=more: change(one, **more))
        assert "source" in error.message


def test_processors_and_servers_are_refused_where_they_make_no_sense(tmp_path: Path) -> None:
    def first_is_server(one: dict[str, Any]) -> None:
        one["processors"][0]["kind"] = "server"

    assert "at most one server" in refused(tmp_path, first_is_server).message
    assert "same name" in refused(tmp_path, lambda one: one["processors"][1].update(name="cpu")).message
    assert (
        "neither macs_per_s nor times" in refused(tmp_path, lambda one: one["processors"][0].pop("macs_per_s")).message
    )
    times = {"model": "m", "cuts": ["a"], "stages_us": [1.0, 2.0], "head_us": 1.0, "source": "s"}
    error = refused(
        tmp_path,
        lambda one: one["processors"][0].update(times=[times | {"date": datetime.date(2026, 1, 1)}]),
    )
    assert "1 cuts, but times of 2 stages" in error.message


def test_transfer_takes_the_latency_and_the_bytes() -> None:
    processing = load_profile("example-cpu-npu").processing
    road = processing.link("cpu", "npu")
    assert road.transfer_us(1_000_000) == pytest.approx(200 + 1000)
    assert processing.link("npu", "cpu") is None


def test_operators_in_place_are_meant_too() -> None:
    npu = load_profile("example-cpu-npu").processing.processors[1]
    assert npu.cannot_run(frozenset({"gelu_", "conv2d", "layer_norm"})) == ("gelu", "layer_norm")
    assert isinstance(Processing.model_validate(load_profile("example-cpu-npu").processing.model_dump()), Processing)


def test_operator_names_are_those_of_torch_and_of_the_model_package() -> None:
    kinds = [value for name, value in vars(operators).items() if name.isupper() and isinstance(value, frozenset)]
    named = {"RECURRENT", "DATA_TO_PYTHON", "CHECKS"}  # never in a graph
    for name in ("CONVOLUTIONS", "TRANSPOSED", "PRODUCTS", "ATTENTION", "REDUCTIONS", "REARRANGING"):
        assert getattr(operators, name) - OPERATORS == set(), name
    assert len(kinds) > len(named)
    unknown = [name for name in OPERATORS - {"getitem"} if not hasattr(torch.ops.aten, name)]
    assert unknown == []
