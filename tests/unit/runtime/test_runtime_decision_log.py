from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from ebbtide.errors import EbbtideError
from ebbtide.runtime.decision_log import (
    DecisionLine,
    DecisionLog,
    OverrideLine,
    ProblemLine,
    line_schema,
    read_decisions,
    wall_time,
)

IN_FORCE = {"configuration": "full", "configuration_tier": 0, "configuration_reason": "start"}


def decision(t_ms: int = 5) -> DecisionLine:
    return DecisionLine(
        time=wall_time(),
        t_ms=t_ms,
        **IN_FORCE,
        tier=0,
        reason="keep:none",
        used={"charging": False},
        signals={"t_ms": t_ms, "charging": False, "saver": False, "headroom_age_ms": 0},
        minimum_tier=0,
        maximum_tier=2,
        override_tier=None,
        switched=False,
        should_stop=False,
        xi_q10=1024,
        profiled_us=None,
        profiled_from=None,
        predictions=0,
    )


def override() -> OverrideLine:
    return OverrideLine(time=wall_time(), t_ms=6, **IN_FORCE, override_tier=2)


def problem() -> ProblemLine:
    return ProblemLine(time=wall_time(), t_ms=7, **IN_FORCE, code="policy.time", message="Back.", place="t_ms")


def test_log_appends_one_line_at_a_time_when_opened_again(tmp_path: Path) -> None:
    path, lines = tmp_path / "new" / "decisions.jsonl", [decision(), override(), problem()]
    for line in lines:
        with DecisionLog(path) as log:
            before = path.stat().st_size
            log.write(line)
            assert path.read_bytes()[before:] == line.model_dump_json().encode() + b"\n", "on the disk at once"
    assert list(read_decisions(path)) == lines


def test_lines_follow_their_schema_when_written() -> None:
    schema = line_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for line in (decision(), override(), problem()):
        value = json.loads(line.model_dump_json())
        validator.validate(value)
        assert value["event"] == type(line).__name__.removesuffix("Line").lower()
        assert not validator.is_valid({**value, "event": "unknown"})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_log_says_once_that_lines_are_lost_when_the_disk_is_full(caplog: pytest.LogCaptureFixture) -> None:
    with DecisionLog(Path("/dev/full")) as log:
        for _ in range(3):
            log.write(decision())
        assert log.lost == 3
    assert [record.message for record in caplog.records] == [
        "[runtime.log] /dev/full: decisions are not recorded: No space left on device"
    ]


def test_log_takes_a_line_back_when_the_disk_takes_a_part_of_it(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    path, whole = tmp_path / "decisions.jsonl", len(decision().model_dump_json()) + 1
    with DecisionLog(path) as log:
        log.write(decision())
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The kernel takes what fits below the limit, and nothing after it: as a disk does that runs full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole + 10, limits[1]))
        try:
            log.write(decision())
            log.write(decision())
            assert (log.lost, path.stat().st_size) == (2, whole)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        log.write(problem())
    assert [line.event for line in read_decisions(path)] == ["decision", "problem"]


def test_log_refuses_when_it_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "log.jsonl", tmp_path):
        with pytest.raises(EbbtideError) as caught:
            DecisionLog(path)
        assert (caught.value.code, caught.value.place) == ("runtime.log", str(path))


def test_log_writes_nothing_when_closed(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "log.jsonl")
    log.close()
    log.close()
    log.write(decision())
    assert (tmp_path / "log.jsonl").read_bytes() == b""


def test_read_leaves_a_last_line_out_when_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with DecisionLog(path) as log:
        log.write(override())
        log.write(problem())
    os.truncate(path, path.stat().st_size - 1)
    assert [line.event for line in read_decisions(path)] == ["override"]


@pytest.mark.parametrize("text", ["{}", "not json", '{"event":"decision"}', "[1]", '{"event":"override","format":2}'])
def test_read_refuses_when_a_line_is_something_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.jsonl"
    with DecisionLog(path) as log:
        log.write(override())
    with path.open("a") as stream:
        stream.write(text + "\n")
    with pytest.raises(EbbtideError) as caught:
        list(read_decisions(path))
    assert (caught.value.code, caught.value.place) == ("runtime.log", f"{path}:2")


def test_read_refuses_when_there_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(EbbtideError) as caught:
        list(read_decisions(tmp_path / "none.jsonl"))
    assert caught.value.code == "runtime.log"
