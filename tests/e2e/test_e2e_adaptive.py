"""`ebb run --adaptive` on a real bundle: by a recording, in its own time, and by this machine's signals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest_e2e import BuiltOnce, Ebb

from ebbtide.runtime.decision_log import DecisionLine, read_decisions
from ebbtide.runtime.policy import Policy
from ebbtide.runtime.policy_signals import Signals, signals_json, signals_of_json
from ebbtide.runtime.signals import read_recording

# An hour in which a phone heats up and cools, a reading every 5 s: more readings than there are samples.
HEAT = [400] * 20 + [760] * 10 + [860] * 10 + [980] * 30 + [500] * 650


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signals") / "hour.jsonl"
    lines: list[dict[str, object]] = [{"format": 1, "kind": "signals", "about": {}}]
    lines += [signals_json(Signals(7_000 + 5_000 * index, heat)) for index, heat in enumerate(HEAT)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_run_adapts_as_the_policy_does_when_a_recording_is_replayed(
    ebb: Ebb, built: BuiltOnce, recording: Path, tmp_path: Path
) -> None:
    log = tmp_path / "decisions.jsonl"
    words = ["run", built.bundle, built.output / "samples.npz", "--key", built.key]
    ran = ebb.json(*words, "--signals", recording, "--decisions", log)["predictions"]
    manifest = json.loads((built.bundle / "manifest.json").read_bytes())
    readings = read_recording(recording).readings
    rule = Policy(policy_of(manifest), len(manifest["tiers"]))
    decided = [rule.step(reading) for reading in readings]
    assert [one["t_ms"] for one in ran] == [reading.t_ms for reading in readings]
    assert [one["tier"] for one in ran] == [decision.tier for decision in decided]
    assert [one["configuration"] for one in ran] == [manifest["tiers"][decision.tier] for decision in decided]
    assert {one["reason"] for one in ran} == {"start", "down:headroom", "up"}
    assert {one["input"] for one in ran} == {f"samples.npz[{index}]" for index in range(32)}
    lines = list(read_decisions(log))
    assert all(isinstance(line, DecisionLine) for line in lines)
    assert [(line.tier, line.reason) for line in lines] == [(one.tier, one.reason) for one in decided]
    assert [signals_of_json(line.signals) for line in lines] == list(readings), "a log holds all that it was decided by"


def policy_of(manifest: dict[str, object]) -> object:
    from ebbtide.bundle.manifest import PolicyEntry

    return PolicyEntry.model_validate(manifest["policy"])


def test_run_shows_tier_and_reason_of_each_prediction_when_adaptive(
    ebb: Ebb, built: BuiltOnce, recording: Path
) -> None:
    said = ebb("run", built.bundle, built.output / "samples.npz", "--key", built.key, "--signals", recording)
    header = said.splitlines()[1].split()
    assert header[:4] == ["input", "at", "tier", "reason"]
    assert "107.0 s" in said
    assert "down:headroom" in said


def test_run_adapts_to_this_machine_when_no_recording_is_given(ebb: Ebb, built: BuiltOnce, tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    words = ["run", built.bundle, built.output / "samples.npz", "--key", built.key, "--decisions", log]
    ran = ebb.json(*words)["predictions"]
    (first, *_) = read_decisions(log)
    assert len(ran) == 32
    assert "t_ms" not in ran[0]
    assert (ran[0]["configuration"], ran[0]["reason"]) == (first.configuration, first.configuration_reason)


def test_run_refuses_when_the_recording_is_none(ebb: Ebb, built: BuiltOnce, tmp_path: Path) -> None:
    words = ["run", built.bundle, built.output / "samples.npz", "--key", built.key, "--signals"]
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"format":1,"kind":"signals","about":{}}\n')
    for path in (tmp_path / "none.jsonl", empty):
        assert "signals.recording" in ebb(*words, path, status=2)
    assert "runtime.log" in ebb(*words[:-1], "--adaptive", "--decisions", tmp_path, status=2)
