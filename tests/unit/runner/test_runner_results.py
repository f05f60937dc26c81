"""What the runner measures: the results are whole, strict and current, and say what the commands print."""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from runtime_bundles import images, scaled

from ebbtide import api
from ebbtide.bundle import Bundle, PrivateKey, write_public_key
from ebbtide.errors import EbbtideError
from ebbtide.profiling import Results, parse_results
from ebbtide.profiling.results import drifted
from ebbtide.profiling.schema import SCHEMA_FILE, results_schema, schema_bytes
from ebbtide.runtime.runner import Runner, run_bench, run_overhead

TIERS = ("full", "sure", "small")
ROUNDS, SAMPLES, LOADS, SWITCHES = 5, 12, 2, 3


@pytest.fixture(scope="module")
def results(runner: Path, bundle: Bundle, key: PrivateKey) -> Results:
    inputs = scaled(images(SAMPLES))
    return run_bench(bundle.folder, inputs, rounds=ROUNDS, warm_up=2, loads=LOADS, switches=SWITCHES, key=key.public)


def document(results: Results) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(results.to_bytes())
    return made


def test_results_tell_everything_that_was_asked_for(results: Results, bundle: Bundle, runner: Path) -> None:
    assert [entry.id for entry in results.configurations] == list(TIERS)
    assert [entry.tier for entry in results.configurations] == [0, 1, 2]
    assert results.bundle.signature_checked
    assert results.runtime.version.startswith("1.5.1")
    assert results.runtime.backends == ("xnnpack",)
    assert results.device.platform == "linux"
    assert results.protocol.inputs == "given"
    assert {entry.id for entry in results.programs} == {"w100", "w50"}
    for program in results.programs:
        assert program.sha256 == next(
            entry.sha256 for entry in bundle.manifest.files if entry.path == f"programs/{program.id}.pte"
        )
        # w100 is loaded for two of the configurations.
        assert len(program.open_ns) == LOADS * (2 if program.id == "w100" else 1)
        assert [method.name for method in program.methods] == ["stage0", "exit0", "stage1", "head"]
    for entry in results.configurations:
        assert len(entry.load_ns) == len(entry.first_prediction_ns) == LOADS
        assert 0 < entry.timing.p50_us <= entry.timing.p90_us <= entry.p99_us
        assert entry.peak_bytes is None or entry.peak_bytes > 2**20
        inner = sum(method.timing.p50_us for method in entry.methods if method.timing and method.method != "w100/exit0")
        assert entry.p99_us > inner / 3
    pairs = [("full", "sure"), ("sure", "full"), ("sure", "small"), ("small", "sure")]
    assert [(s.before, s.after, s.residency) for s in results.switches] == [
        *((*pair, "all") for pair in pairs),
        *((*pair, "active") for pair in pairs),
    ]
    assert all(len(s.switch_ns) == SWITCHES for s in results.switches)
    # Loading takes longer than swapping a pointer, whatever else runs on this machine.
    anew = min(results.switches[6].switch_ns)
    assert anew > 10 * min(results.switches[2].switch_ns)


def test_exits_are_those_of_the_real_samples(results: Results, runner: Path, bundle: Bundle) -> None:
    with Runner(bundle.folder, configuration="sure") as opened:
        left_at = [answer.left_at for answer in opened.predict_all(images(SAMPLES))]
    shares = {name: left_at.count(name) / SAMPLES for name in set(left_at)}
    found = results.find("sure")
    assert found is not None
    assert found.exit_shares == pytest.approx(shares)
    reached = {entry.method: sum(map(len, entry.rounds_ns)) for entry in found.methods}
    assert reached["w100/exit0"] == ROUNDS * SAMPLES
    assert reached["w100/head"] == ROUNDS * left_at.count("w100/head")


def test_figures_are_those_of_the_raw_times(results: Results) -> None:
    entry = results.configurations[0]
    every = sorted(time for times in entry.rounds_ns for time in times)
    assert entry.timing.p50_us == pytest.approx(statistics.median(every) / 1000, abs=1e-3)
    assert entry.p99_us == pytest.approx(np.percentile(every, 99) / 1000, abs=1e-3)
    cut = len(every) // 10
    assert entry.trimmed_mean_us == pytest.approx(statistics.mean(every[cut : len(every) - cut]) / 1000, abs=1e-3)
    shown = results.summary()["configurations"][0]
    assert (shown["p50_us"], shown["p99_us"]) == (entry.timing.p50_us, entry.p99_us)
    assert "rounds_ns" not in json.dumps(results.summary())


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        ([[100]], False),
        ([[100], [111]], True),
        ([[100], [110]], False),
        ([[100], [90]], False),
        ([[100], [89]], True),
        ([[100, 1], [100, 121]], True),
        ([[100]] + [[500]] * 8 + [[105]], False),
        ([[100]] * 2 + [[100]] * 6 + [[150]] * 2, True),
    ],
)
def test_drift_compares_the_first_and_the_last_fifth_of_the_rounds(rounds: list[list[int]], expected: bool) -> None:
    assert drifted(rounds) is expected


def test_results_read_back_as_they_were_and_fit_the_schema(results: Results) -> None:
    assert parse_results(results.to_bytes()) == results
    jsonschema.Draft202012Validator(results_schema()).validate(document(results))


def test_schema_file_is_current() -> None:
    assert SCHEMA_FILE.read_bytes() == schema_bytes(), "run `make schemas`"


def last(results: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = results["configurations"][-1]
    return entry


MISTAKES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda d: d.update(format=2),
    "an unknown key": lambda d: d.update(host="mine"),
    "a missing key": lambda d: d.pop("rows"),
    "a float": lambda d: last(d)["load_ns"].__setitem__(0, 1.0),
    "a negative time": lambda d: last(d)["rounds_ns"][0].__setitem__(0, -1),
    "a text": lambda d: d["protocol"].update(threads="1"),
    "a lost sample": lambda d: last(d)["rounds_ns"][0].pop(),
    "a lost round": lambda d: last(d)["rounds_ns"].pop(),
    "a lost exit": lambda d: last(d)["left_at"].pop(),
    "a marker taken away or put on": lambda d: last(d).update(invalid=[] if last(d)["invalid"] else ["drift"]),
    "a hot start that is none": lambda d: d.update(invalid=["hot_start"]),
    "a hot start that is not said": lambda d: d["rows"][0].update(android_status=1),
    "rows out of order": lambda d: d["rows"].reverse(),
    "no configuration": lambda d: d.update(configurations=[]),
    "a configuration twice": lambda d: d["configurations"].append(d["configurations"][0]),
    "a hash": lambda d: d["bundle"].update(manifest_sha256="0"),
    "a status": lambda d: d["rows"][-1].update(android_status=7),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_results_that_are_wrong_are_refused(results: Results, mistake: str) -> None:
    wrong = copy.deepcopy(document(results))
    MISTAKES[mistake](wrong)
    with pytest.raises(EbbtideError) as caught:
        parse_results(json.dumps(wrong).encode(), place="results.json")
    assert caught.value.code == "profiling.results"
    assert str(caught.value.place).startswith("results.json")


def test_a_hot_start_is_marked(results: Results) -> None:
    hot = document(results)
    hot["rows"][0]["apple_state"] = 2
    hot["invalid"] = ["hot_start"]
    assert parse_results(json.dumps(hot).encode()).invalid == ("hot_start",)


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff", b'{"format": 1}'])
def test_what_is_no_results_file_is_refused(damaged: bytes) -> None:
    with pytest.raises(EbbtideError) as caught:
        parse_results(damaged)
    assert caught.value.code == "profiling.results"


def test_a_plan_out_of_range_is_refused_by_the_runner(runner: Path, bundle: Bundle) -> None:
    for plan in ({"rounds": 0}, {"loads": 0}, {"warm_up": -1}, {"switches": -1}, {"cool_down_ms": -1}):
        with pytest.raises(EbbtideError) as caught:
            run_bench(bundle.folder, **plan)
        assert caught.value.code == "profiling.plan"
    with pytest.raises(EbbtideError) as caught:
        run_bench(bundle.folder, configurations=["none"])
    assert caught.value.code == "runtime.configuration"
    with pytest.raises(EbbtideError) as caught:
        run_bench(bundle.folder, np.zeros((0, 1, 8, 8), np.float32))
    assert caught.value.code == "runtime.bench"


def test_without_inputs_the_results_say_that_they_are_of_zeros(runner: Path, bundle: Bundle) -> None:
    found = run_bench(bundle.folder, configurations=["extra"], rounds=1, warm_up=0, loads=1, cool_down_ms=1)
    assert (found.protocol.inputs, found.protocol.samples, found.switches) == ("zeros", 1, ())
    assert found.configurations[0].tier is None


def test_results_that_cannot_be_written_leave_nothing(runner: Path, bundle: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "none" / "results.json"
    command = [runner, "bench", bundle.folder, "--output", output, "--rounds", "1", "--loads", "1", "--switches", "0"]
    done = subprocess.run([*map(str, command)], capture_output=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["code"] == "steps.read_only"


def test_overhead_is_a_small_part_of_a_call(runner: Path, bundle: Bundle) -> None:
    found = run_overhead(bundle.folder, scaled(images(1)), configuration="full", rounds=20, repeats=20)
    assert (found["configuration"], found["calls"], found["rounds"]) == ("full", 3, 20)
    low, high = found["quartiles_ns_per_call"]
    assert low <= found["overhead_ns_per_call"] <= high
    assert abs(found["overhead_ns_per_call"]) < found["bare_p50_ns"]


def test_a_step_of_the_policy_is_timed(runner: Path) -> None:
    said = json.loads(subprocess.check_output([runner, "policy-step", "--rounds", "10000"]))
    assert said["rounds"] == 10_000
    assert 0 < said["policy_step_ns"] < 100_000


def test_ebb_bench_measures_with_the_runner(
    runner: Path, bundle: Bundle, key: PrivateKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ebbtide.cli import tables

    write_public_key(key.public, tmp_path / "public.pem")
    np.savez(tmp_path / "samples.npz", images=images(6))
    found = api.bench_runner(
        bundle.folder,
        tmp_path / "samples.npz",
        repeats=2,
        trusted=[tmp_path / "public.pem"],
        output=tmp_path / "out" / "results.json",
    )
    assert parse_results((tmp_path / "out" / "results.json").read_bytes()) == found
    assert found.bundle.signature_checked
    tables.measured(found)
    said = capsys.readouterr().out
    for name in (*(f"tier {index} ({name})" for index, name in enumerate(TIERS)), "p99", "loaded anew", "one thread"):
        assert name in said
