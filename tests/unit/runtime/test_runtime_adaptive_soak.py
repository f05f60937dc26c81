"""Eight threads predict while random signals choose the tier: nothing is lost, wrong or kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebbtide.lowering import LoweredProgram
from ebbtide.runtime.decision_log import DecisionLine, ProblemLine, read_decisions


@pytest.fixture(scope="module")
def soak(benchmarks: None) -> object:
    import soak

    return soak


@pytest.mark.parametrize("residency", ["all", "active"])
def test_nothing_is_lost_or_wrong_when_signals_are_random(
    soak: object, programs: tuple[LoweredProgram, ...], residency: str, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    found = soak.adaptive_soak(programs, predictions=8_000, residency=residency, log=log)
    assert (found.errors, found.lost, found.wrong, found.predictions) == ([], 0, 0, 8_000)
    assert len(found.by_configuration) > 1
    assert found.switches >= 5
    lines = list(read_decisions(log))
    assert sum(isinstance(line, DecisionLine) for line in lines) == found.decisions
    assert not any(isinstance(line, ProblemLine) for line in lines)
    # The line of an override is the one that lies between two ticks, so times never fall.
    times = [line.t_ms for line in lines if isinstance(line, DecisionLine)]
    assert times == sorted(times)


def test_wrong_answers_are_counted_when_programs_are_mixed_up(
    soak: object, programs: tuple[LoweredProgram, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = soak.answers
    others = {"w100": "w50", "w50": "w25", "w25": "w100"}
    monkeypatch.setattr(soak, "answers", lambda session, name, inputs: answers(session, others[name], inputs))
    found = soak.adaptive_soak(programs, predictions=400)
    assert (found.wrong, found.lost) == (400, 0)


@pytest.mark.slow
@pytest.mark.parametrize("residency", ["all", "active"])
def test_nothing_is_lost_wrong_or_kept_when_a_million_predictions_adapt(
    soak: object, programs: tuple[LoweredProgram, ...], residency: str, tmp_path: Path
) -> None:
    found = soak.adaptive_soak(programs, predictions=1_000_000, residency=residency, log=tmp_path / "log.jsonl")
    assert (found.errors, found.lost, found.wrong, found.predictions) == ([], 0, 0, 1_000_000)
    assert found.switches > 100
    assert found.growth_kib < 4096, found.rss_kib
