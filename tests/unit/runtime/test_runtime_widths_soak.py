"""Widths through ExecuTorch: eight threads predict while another switches, and nothing is lost, wrong or kept."""

from __future__ import annotations

import pytest

from ebbtide.lowering import LoweredProgram


@pytest.fixture(scope="module")
def runtime(benchmarks: None) -> object:
    import widths_runtime

    return widths_runtime


@pytest.mark.parametrize("residency", ["all", "active"])
def test_nothing_is_lost_or_wrong_when_widths_are_switched_under_load(
    runtime: object, programs: tuple[LoweredProgram, ...], residency: str
) -> None:
    assert all([method.name for method in program.methods] == ["stage0", "head"] for program in programs)
    found = runtime.soak(programs, residency=residency, predictions=4_000, every_s=0.005)
    assert (found.errors, found.lost, found.wrong) == ([], 0, 0)
    assert found.switches >= 5
    assert sum(found.by_configuration.values()) == found.predictions == 4_000
    assert len(found.by_configuration) > 1


@pytest.mark.parametrize("residency", ["all", "active"])
def test_outputs_are_bit_equal_when_widths_go_down_and_up(
    runtime: object, programs: tuple[LoweredProgram, ...], residency: str
) -> None:
    assert runtime.down_and_up(programs, residency=residency) == 0


def test_soak_counts_wrong_answers_when_programs_are_mixed_up(
    runtime: object, programs: tuple[LoweredProgram, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = runtime.answers
    shifted = {"w100": "w50", "w50": "w100", "w25": "w25"}
    monkeypatch.setattr(runtime, "answers", lambda session, name, inputs: answers(session, shifted[name], inputs))
    found = runtime.soak(programs, residency="all", predictions=600, every_s=0.002)
    mixed = sum(count for name, count in found.by_configuration.items() if name != "w25")
    assert found.wrong == mixed > 0


def test_old_width_answers_when_a_switch_loads_through_executorch(
    runtime: object, programs: tuple[LoweredProgram, ...]
) -> None:
    found = runtime.switch_active(programs, before="w25", after="w100", rounds=3)
    assert len(found.first_ms) == 3
    assert all(0 < longest <= first for longest, first in zip(found.longest_ms, found.first_ms, strict=True))


def test_first_prediction_after_a_resident_switch_is_timed_for_all_neighbours(
    runtime: object, programs: tuple[LoweredProgram, ...]
) -> None:
    found = runtime.switch_resident(programs, rounds=2)
    assert set(found.pairs) <= {"w100 to w50", "w50 to w100", "w50 to w25", "w25 to w50"}
    assert len(found.added_us) == len(found.call_us) == len(found.cold_us) == len(found.pairs)


@pytest.mark.slow
@pytest.mark.parametrize("residency", ["all", "active"])
def test_nothing_is_lost_wrong_or_kept_when_a_million_predictions_are_made(
    runtime: object, programs: tuple[LoweredProgram, ...], residency: str
) -> None:
    found = runtime.soak(programs, residency=residency, predictions=1_000_000, every_s=0.05)
    assert (found.errors, found.lost, found.wrong, found.predictions) == ([], 0, 0, 1_000_000)
    assert found.switches > 100
    assert found.growth_kib < 4096, found.rss_kib
