"""The policy vectors, step by step."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from policy_restated import decide

from ebbtide.bundle.manifest import PolicyEntry
from ebbtide.errors import EbbtideError
from ebbtide.runtime.policy import DEMANDING, Policy
from ebbtide.runtime.policy_signals import signals_of_json

FOLDER = Path(__file__).parents[2] / "vectors" / "policy"
FILES = ("traces.json", "random.json")


@cache
def load(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_bytes())


def cases() -> list[Any]:
    return [
        pytest.param(load(name)["policy"], trace, id=trace["name"]) for name in FILES for trace in load(name)["traces"]
    ]


def entry_of(policy: dict[str, Any], trace: dict[str, Any]) -> PolicyEntry:
    return PolicyEntry.model_validate({**policy, **trace["policy"]})


@pytest.mark.parametrize(("policy", "trace"), cases())
def test_decision_equals_the_vector_when_replayed(policy, trace):
    decider = Policy(
        entry_of(policy, trace), trace["tiers"], minimum_tier=trace["minimum_tier"], maximum_tier=trace["maximum_tier"]
    )
    for number, step in enumerate(trace["steps"]):
        before = decider.state
        try:
            if "limits" in step:
                decider.limit(*step["limits"])
            decision = decider.step(signals_of_json(step["in"]))
            made = {"tier": decision.tier, "reason": decision.reason}
            assert decider.tier == decision.tier
        except EbbtideError as error:
            made = {"error": error.code}
            assert decider.state == before
        assert made == {key: step[key] for key in step if key not in ("in", "limits")}, f"step {number}: {step}"


@pytest.mark.parametrize(("policy", "trace"), cases())
def test_restated_rule_agrees_when_it_sees_the_whole_trace(policy, trace):
    history, limits, expected = [], [], []
    now = (trace["minimum_tier"], trace["maximum_tier"])
    for step in trace["steps"]:
        if step.get("error") != "policy.limits":
            now = tuple(step.get("limits", now))
        if "error" not in step:
            history.append(signals_of_json(step["in"]))
            limits.append(now)
            expected.append((step["tier"], step["reason"]))
    assert decide(entry_of(policy, trace), trace["tiers"], history, limits) == expected


def test_files_fit_their_schema_when_validated():
    schema = load("schema.json")
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for name in FILES:
        check.validate(load(name))
    broken = json.loads((FOLDER / "traces.json").read_bytes())
    broken["traces"][0]["steps"][0]["reason"] = "because"
    assert not check.is_valid(broken)


def test_steps_cover_every_reason_and_error_when_counted():
    steps = [step for name in FILES for trace in load(name)["traces"] for step in trace["steps"]]
    reasons = {f"{move}:{name}" for move in ("keep", "down") for name in DEMANDING}
    assert {step["reason"] for step in steps if "reason" in step} == {
        *reasons,
        "keep:none",
        "hold",
        "up",
        "up:application",
    }
    assert {step["error"] for step in steps if "error" in step} == {"policy.limits", "policy.signal", "policy.time"}


def test_random_walks_are_eight_of_a_thousand_steps_that_move():
    walks = load("random.json")["traces"]
    assert [len(walk["steps"]) for walk in walks] == [1000] * 8
    for walk in walks:
        tiers = [step["tier"] for step in walk["steps"] if "tier" in step]
        assert sum(before != after for before, after in pairwise(tiers)) >= 4, walk["name"]
        allowed = range(walk["minimum_tier"], min(walk["maximum_tier"] + 1, walk["tiers"]))
        assert set(tiers) >= set(allowed), walk["name"]


def test_names_are_unique_when_listed():
    names = [trace["name"] for name in FILES for trace in load(name)["traces"]]
    assert len(names) == len(set(names))
