"""Sources of signals, recordings, and the conversions at the boundary."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.bundle import DEFAULT_POLICY
from ebbtide.errors import EbbtideError
from ebbtide.runtime.policy import Policy, Signals
from ebbtide.runtime.signals import (
    ANDROID_STATUS,
    APPLE_STATE,
    HeadroomMemory,
    HeadroomProbe,
    RecordedSource,
    Recorder,
    ScriptedSource,
    SignalSource,
    android_battery_percent,
    android_status,
    android_thresholds,
    apple_battery_percent,
    apple_state,
    headroom_mh,
    headroom_mh_of_temperature,
    milli_to_deci_celsius,
    read_recording,
)

NAN = math.nan
HEADER = '{"format":1,"kind":"signals","about":{}}'


def code_of(call, *arguments) -> str:
    with pytest.raises(EbbtideError) as caught:
        call(*arguments)
    return caught.value.code


# Conversions


@pytest.mark.parametrize(
    ("headroom", "expected"),
    [
        (None, None),
        (NAN, None),
        (-NAN, None),
        (0, 0),
        (-0.0, 0),
        (0.0004, 0),
        (0.0005, 1),
        (0.7494, 749),
        (0.7495, 750),
        (0.85, 850),
        (0.8500000238418579, 850),  # what a float of 0.85 is as a double
        (1, 1000),
        (10, 10_000),
    ],
)
def test_headroom_rounds_half_up_when_converted(headroom, expected):
    assert headroom_mh(headroom) == expected


@given(st.floats(0, 9.5, width=32))
def test_headroom_is_within_half_a_thousandth_when_any_float(headroom):
    assert abs(headroom_mh(headroom) - 1000 * headroom) <= 0.5 + 1e-9


@pytest.mark.parametrize("headroom", [-0.1, math.inf, -math.inf, 10.001, "0.5", True])
def test_headroom_is_refused_when_no_system_gives_it(headroom):
    assert code_of(headroom_mh, headroom) == "signals.value"


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ({}, (None, None)),
        ({1: 0.8, 2: 0.9333333, 3: 1.0, 4: 1.05}, (800, 933)),
        ({3: 1.0}, (None, None)),
        ({1: NAN, 2: 0.9}, (None, 900)),
    ],
)
def test_thresholds_are_those_of_light_and_moderate_when_converted(thresholds, expected):
    assert android_thresholds(thresholds) == expected


@pytest.mark.parametrize(
    ("level", "scale", "expected"),
    [
        (50, 100, 50),
        (199, 1000, 19),
        (1, 3, 33),
        (100, 100, 100),
        (0, 100, 0),
        (-1, 100, None),
        (5, -1, None),
        (5, 0, None),
    ],
)
def test_android_battery_rounds_down_when_converted(level, scale, expected):
    assert android_battery_percent(level, scale) == expected


@pytest.mark.parametrize(
    ("level", "expected"), [(-1.0, None), (0.0, 0), (0.2, 20), (0.29, 29), (0.995, 100), (0.9949, 99), (1, 100)]
)
def test_apple_battery_rounds_half_up_when_converted(level, expected):
    assert apple_battery_percent(level) == expected


@pytest.mark.parametrize("level", [NAN, math.inf, 1.1, "1", True])
def test_apple_battery_is_refused_when_no_level(level):
    assert code_of(apple_battery_percent, level) == "signals.value"


@pytest.mark.parametrize(("level", "scale"), [(101, 100), (50.0, 100), (50, True)])
def test_android_battery_is_refused_when_no_level(level, scale):
    assert code_of(android_battery_percent, level, scale) == "signals.value"


def test_statuses_pass_when_they_exist():
    assert [android_status(status) for status in ANDROID_STATUS.values()] == list(range(7))
    assert [apple_state(state) for state in APPLE_STATE.values()] == list(range(4))
    assert (android_status(None), apple_state(None)) == (None, None)
    assert {code_of(android_status, wrong) for wrong in (-1, 7, True, 1.0)} == {"signals.value"}
    assert {code_of(apple_state, wrong) for wrong in (-1, 4, "fair")} == {"signals.value"}


@pytest.mark.parametrize(
    ("milli", "expected"),
    [(0, 0), (49, 0), (50, 1), (-50, 0), (-51, -1), (38_949, 389), (38_950, 390), (150_000, 1500)],
)
def test_temperature_rounds_half_up_when_converted(milli, expected):
    assert milli_to_deci_celsius(milli) == expected


def test_temperature_is_refused_when_no_sensor_gives_it():
    assert {code_of(milli_to_deci_celsius, wrong) for wrong in (-40_051, 150_050)} == {"signals.value"}


@pytest.mark.parametrize(
    ("celsius", "expected"), [(45, 1000), (15, 0), (-10, 0), (39, 800), (43, 933), (46.5, 1050), (52, 1233), (55, 1333)]
)
def test_headroom_equals_the_pixel_table_when_derived_from_its_thresholds(celsius, expected):
    assert headroom_mh_of_temperature(round(celsius * 1000), 45_000) == expected


# Headroom over time


def test_headroom_is_kept_with_its_age_when_a_nan_comes_between():
    memory = HeadroomMemory(15_000)
    assert memory.update(0, NAN) == (None, 0)
    assert memory.update(5000, 0.8) == (800, 0)
    assert memory.update(10_000, NAN) == (800, 5000)
    assert memory.update(20_000, None) == (800, 15_000)
    assert memory.update(20_001, NAN) == (None, 0)
    assert memory.update(20_001, 0.0) == (0, 0)


def test_memory_is_unchanged_when_time_or_value_is_wrong():
    memory = HeadroomMemory(15_000)
    memory.update(5000, 0.8)
    assert code_of(memory.update, 4999, 0.9) == "policy.time"
    assert code_of(memory.update, 6000, math.inf) == "signals.value"
    assert memory.update(5000, NAN) == (800, 0)


def test_headroom_is_unsupported_when_five_answers_a_second_apart_are_nan():
    probe = HeadroomProbe()
    for t_ms in (0, 1000, 2000, 3000):
        assert probe.due(t_ms)
        assert probe.answer(t_ms, NAN) is None
    assert not probe.due(3999)
    assert probe.answer(3999, NAN) is None  # too soon: Android says NaN to that whatever it has
    assert probe.answer(4000, NAN) is False
    assert not probe.due(9000)
    assert probe.answer(9000, 0.5) is False


def test_headroom_is_supported_when_one_answer_is_good():
    probe = HeadroomProbe()
    assert probe.answer(0, NAN) is None
    assert probe.answer(100, 0.0) is True  # a cold phone truly reads 0
    assert not probe.due(5000)
    assert HeadroomProbe().answer(0, 1.2) is True


def test_probe_is_unchanged_when_time_runs_backwards():
    probe = HeadroomProbe()
    probe.answer(1000, NAN)
    assert code_of(probe.answer, 0, 0.5) == "policy.time"
    assert probe.supported is None


# Scripts


def test_script_gives_the_reading_that_holds_when_read():
    source: SignalSource = ScriptedSource([Signals(10, 700), Signals(20, 800, 5), Signals(20, saver=True)])
    assert source.read(9) == Signals(9)
    assert source.read(10) == Signals(10, 700)
    assert source.read(19) == Signals(19, 700)
    assert source.read(1000) == Signals(1000, saver=True)


def test_script_tells_its_listeners_when_a_reading_is_put():
    source = ScriptedSource()
    heard: list[str] = []
    stop = source.listen(lambda: heard.append("first"))
    source.listen(lambda: heard.append("second"))
    source.put(Signals(5, charging=True))
    assert (heard, source.read(5).charging) == (["first", "second"], True)
    stop()
    stop()
    source.put(Signals(6))
    assert heard == ["first", "second", "second"]
    source.close()
    source.put(Signals(7))
    assert len(heard) == 3


def test_script_is_refused_when_out_of_order_or_range():
    source = ScriptedSource([Signals(5)])
    assert code_of(source.put, Signals(4)) == "signals.script"
    assert code_of(source.put, Signals(6, android_status=7)) == "policy.signal"
    assert source.read(10) == Signals(10)


# Recordings


def recorded(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_bytes(("\n".join(lines) + end).encode())
    return path


def test_recording_gives_the_same_decisions_when_stepped_again(tmp_path):
    script = [Signals(t, 700 + t // 100, t % 7, saver=t > 20_000) for t in range(0, 40_000, 5000)]
    policy = Policy(DEFAULT_POLICY, 4)
    with Recorder(ScriptedSource(script), tmp_path / "run.jsonl", about={"phone": "a script"}) as recorder:
        made = [policy.step(recorder.read(t_ms)) for t_ms in range(0, 40_000, 2500)]
    recording = read_recording(tmp_path / "run.jsonl")
    assert recording.about == {"phone": "a script"}
    again = Policy(DEFAULT_POLICY, 4)
    assert [again.step(signals) for signals in recording.readings] == made
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {"t_ms": 0, "headroom_mh": 700}


def test_recorded_source_plays_at_the_same_distances_when_read_later(tmp_path):
    path = recorded(
        tmp_path / "a.jsonl", HEADER, '{"t_ms":500,"headroom_mh":700,"headroom_age_ms":3}', '{"t_ms":5500,"saver":true}'
    )
    source: SignalSource = RecordedSource(path)
    assert source.read(90_000) == Signals(90_000, 700, 3)
    assert source.read(94_999) == Signals(94_999, 700, 5002)
    assert source.read(95_000) == Signals(95_000, saver=True)
    assert source.read(999_000) == Signals(999_000, saver=True)
    source.listen(lambda: pytest.fail("a recording tells of no events"))()
    source.close()
    assert RecordedSource(path).duration_ms == 5000


def test_recorder_passes_events_and_closes_its_source_when_used(tmp_path):
    source, heard = ScriptedSource(), []
    recorder = Recorder(source, tmp_path / "a.jsonl")
    recorder.listen(lambda: heard.append(1))
    source.put(Signals(0))
    recorder.close()
    recorder.close()
    source.put(Signals(1))
    assert heard == [1]
    assert code_of(recorder.read, 5) == "signals.recording"


def test_recorder_is_refused_when_the_file_is_there(tmp_path):
    recorded(tmp_path / "a.jsonl", HEADER)
    assert code_of(Recorder, ScriptedSource(), tmp_path / "a.jsonl") == "signals.recording"
    assert code_of(Recorder, ScriptedSource(), tmp_path / "no" / "a.jsonl") == "signals.recording"
    assert (tmp_path / "a.jsonl").read_text() == HEADER + "\n"


def test_recorder_fails_loudly_when_the_disk_takes_no_more(tmp_path):
    resource = pytest.importorskip("resource")
    recorder = Recorder(ScriptedSource(), tmp_path / "a.jsonl")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(HEADER) + 1, before[1]))
    try:
        assert code_of(recorder.read, 0) == "signals.recording"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    recorder.close()


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("", None),
        ("[]", None),
        ("5", None),
        ("{", None),
        ('{"t_ms":1}x', None),
        ('{"t_ms":1,"t_ms":2}', None),
        ('{"t_ms":NaN}', None),
        ('{"t_ms":' + "9" * 5000 + "}", None),
        ("[" * 60_000, None),
        ('{"headroom_mh":700}', "t_ms"),
        ('{"t_ms":1,"headrom_mh":700}', "headrom_mh"),
        ('{"t_ms":1,"headroom_mh":700.0}', "headroom_mh"),
        ('{"t_ms":1,"headroom_mh":10001}', "headroom_mh"),
        ('{"t_ms":1,"charging":1}', "charging"),
        ('{"t_ms":1,"saver":"true"}', "saver"),
        ('{"t_ms":1' + " " * 70_000 + "}", None),
    ],
)
def test_recording_is_refused_with_its_line_when_damaged(tmp_path, line, field):
    path = recorded(tmp_path / "a.jsonl", HEADER, '{"t_ms":0}', line, '{"t_ms":9}')
    with pytest.raises(EbbtideError) as caught:
        read_recording(path)
    assert caught.value.code == "signals.recording"
    assert caught.value.place == f"{path}:3" + (f": {field}" if field else "")


def test_recording_is_refused_when_time_runs_backwards(tmp_path):
    path = recorded(tmp_path / "a.jsonl", HEADER, '{"t_ms":5}', '{"t_ms":5}', '{"t_ms":4}')
    with pytest.raises(EbbtideError) as caught:
        read_recording(path)
    assert (caught.value.code, caught.value.place) == ("signals.recording", f"{path}:4")


@pytest.mark.parametrize(
    "header",
    [
        '{"t_ms":0}',
        '{"format":2,"kind":"signals","about":{}}',
        '{"format":true,"kind":"signals","about":{}}',
        '{"format":1,"kind":"decisions","about":{}}',
        '{"format":1,"kind":"signals","about":[]}',
        '{"format":1,"kind":"signals"}',
        "\ufeff" + HEADER,
    ],
)
def test_recording_is_refused_when_its_header_is_another(tmp_path, header):
    path = recorded(tmp_path / "a.jsonl", header, '{"t_ms":0}')
    with pytest.raises(EbbtideError) as caught:
        read_recording(path)
    assert (caught.value.code, caught.value.place) == ("signals.recording", f"{path}:1")


def test_recording_is_refused_when_cut_off_empty_or_missing(tmp_path):
    cut = recorded(tmp_path / "cut.jsonl", HEADER, '{"t_ms":0}', '{"t_ms":5', end="")
    with pytest.raises(EbbtideError) as caught:
        read_recording(cut)
    assert caught.value.place == f"{cut}:3"
    assert "last line" in (caught.value.hint or "")
    (tmp_path / "empty.jsonl").touch()
    assert code_of(read_recording, tmp_path / "empty.jsonl") == "signals.recording"
    assert code_of(read_recording, tmp_path / "none.jsonl") == "signals.recording"
    assert code_of(read_recording, tmp_path) == "signals.recording"
    assert code_of(RecordedSource, recorded(tmp_path / "b.jsonl", HEADER)) == "signals.recording"
    (tmp_path / "latin.jsonl").write_bytes(b'{"format":1,"kind":"signals","about":{"phone":"\xe9"}}\n')
    assert code_of(read_recording, tmp_path / "latin.jsonl") == "signals.recording"
