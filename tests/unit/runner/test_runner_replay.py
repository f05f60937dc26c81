"""The C++ core against the vectors that all languages share: every step equal, and nothing that differs overlooked."""

from __future__ import annotations

import copy
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ebbtide.errors import CODES

ROOT = Path(__file__).parents[3]
VECTORS = ROOT / "tests" / "vectors"
FILES = sorted(path for path in VECTORS.glob("*/*.json") if path.name != "schema.json")
# How many expected values of a file are changed, one at a time.
CHANGED = 12


@cache
def load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def replay(runner: Path, kind: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([runner, "replay", kind, path], capture_output=True, text=True, check=False, timeout=120)


def replay_document(runner: Path, kind: str, document: Any, path: Path) -> dict[str, Any]:
    """The line of a document that differs."""
    path.write_text(json.dumps(document), encoding="utf-8")
    run = replay(runner, kind, path)
    assert run.returncode == 1, run.stdout + run.stderr
    assert run.stderr == ""
    line: dict[str, Any] = json.loads(run.stdout)
    return line


def steps_of(kind: str, document: Any) -> int:
    """How many steps a file has, counted as its kind counts them."""
    if kind == "policy":
        return sum(len(trace["steps"]) for trace in document["traces"])
    if kind == "session":
        return sum(len(case["samples"]) for case in document["cases"])
    return len(document if kind == "manifest" else document["cases"])


def expectations(kind: str, document: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What a file expects: the path to each of its values, and the value."""
    if kind == "policy":
        for t, trace in enumerate(document["traces"]):
            for s, step in enumerate(trace["steps"]):
                told = {key: step[key] for key in ("tier", "reason", "error") if key in step}
                yield from leaves(told, ("traces", t, "steps", s))
    elif kind == "session":
        for c, case in enumerate(document["cases"]):
            for s, sample in enumerate(case["samples"]):
                yield from leaves(sample["expected"], ("cases", c, "samples", s, "expected"))
    elif kind == "manifest":
        for v, vector in enumerate(document):
            yield from leaves(vector.get("error", {}), (v, "error"))
    else:
        for c, case in enumerate(document["cases"]):
            key = "rows" if "rows" in case else "expected"
            yield from leaves(case[key], ("cases", c, key))


def leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if children is None:
        yield path, value
        return
    for key, child in children:
        yield from leaves(child, (*path, key))


def another(path: tuple[Any, ...], value: Any) -> Any:
    """A value as near as possible to an expected one, and as well formed."""
    if value is None:
        return "profile" if "excluded" in path else "ram-large" if path[-1] == "group" else True
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value - 1 if value else 1
    if isinstance(value, float):
        return 0.5 if value != 0.5 else 1.5
    if path[-1] == "sha256":
        return ("0" if value[0] != "0" else "1") + value[1:]
    if path[-1] == "confidence":
        return 0.0
    return value + "x"


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a document with one value changed."""
    made = copy.deepcopy(document)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


def json_path(path: tuple[Any, ...]) -> str:
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def test_files_of_every_kind_are_there() -> None:
    assert {"choice", "manifest", "policy", "preprocessing", "session"} == {path.parent.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_step_is_equal_when_replayed(runner: Path, path: Path) -> None:
    run = replay(runner, path.parent.name, path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("\n") == 1
    steps = steps_of(path.parent.name, load(path))
    assert steps > 0
    assert json.loads(run.stdout) == {
        "kind": path.parent.name,
        "file": path.name,
        "steps": steps,
        "equal": steps,
        "first_difference": None,
    }


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_difference_is_found_where_an_expected_value_was_changed(runner: Path, path: Path, tmp_path: Path) -> None:
    kind, document = path.parent.name, load(path)
    told = list(expectations(kind, document))
    if not told:
        assert path.name == "valid.json"  # that these are read is all that is expected of them
        return
    for place, value in random.Random(7).sample(told, min(CHANGED, len(told))):
        changed = another(place, value)
        line = replay_document(runner, kind, replaced(document, place, changed), tmp_path / path.name)
        steps = steps_of(kind, document)
        # A policy goes on from where it is, so a wrong expectation makes one step wrong and no other.
        assert (line["steps"], line["equal"]) == (steps, steps - 1), place
        found = line["first_difference"]
        assert json_path(place).startswith(found["place"]), place
        if found["place"] == json_path(place):
            assert (found["expected"], found["found"]) == (changed, value)


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name != "preprocessing"], ids=name_of)
def test_difference_is_found_where_an_error_was_expected_or_not(runner: Path, path: Path, tmp_path: Path) -> None:
    kind, document = path.parent.name, load(path)
    made = copy.deepcopy(document)
    if kind == "manifest":
        good = load(VECTORS / "manifest" / "valid.json")[0]["text"]
        bad = load(VECTORS / "manifest" / "invalid.json")[0]["text"]
        made[2] = made[2] | {"text": bad if path.name == "valid.json" else good}
        place = "$[2]" if path.name == "valid.json" else "$[2].error.code"
    elif kind == "policy":
        step = made["traces"][0]["steps"][2]
        made["traces"][0]["steps"][2] = {"in": step["in"], "error": "policy.time"}
        place = "$.traces[0].steps[2].error"
    elif kind == "session":
        made["cases"][0]["samples"][2]["expected"] = {"error": "runtime.output"}
        place = "$.cases[0].samples[2].expected.error"
    else:
        made["cases"][2]["expected"] = {"error": "device.no_bundle"}
        place = "$.cases[2].expected.error"
    line = replay_document(runner, kind, made, tmp_path / path.name)
    assert line["equal"] == line["steps"] - 1
    assert line["first_difference"]["place"] == place


def test_one_unit_in_the_last_place_is_a_difference_when_replayed(runner: Path, tmp_path: Path) -> None:
    session = load(VECTORS / "session" / "walks.json")
    place = ("cases", 0, "samples", 0, "expected", "confidence")
    near = replaced(session, place, 4.000000476837158)
    assert session["cases"][0]["samples"][0]["expected"]["confidence"] == 4.0
    line = replay_document(runner, "session", near, tmp_path / "walks.json")
    assert line["first_difference"] == {"place": json_path(place), "expected": 4.000000476837158, "found": 4.0}

    images = load(VECTORS / "preprocessing" / "images.json")
    place = ("cases", 0, "expected", "tensor_bits", 5)
    bits = images["cases"][0]["expected"]["tensor_bits"][5]
    line = replay_document(runner, "preprocessing", replaced(images, place, bits + 1), tmp_path / "images.json")
    assert line["first_difference"] == {"place": json_path(place), "expected": bits + 1, "found": bits}


def test_first_of_several_differences_is_told_when_replayed(runner: Path, tmp_path: Path) -> None:
    document = load(VECTORS / "policy" / "traces.json")
    for step in (9, 4):
        place = ("traces", 0, "steps", step, "reason")
        document = replaced(document, place, "hold")
    document = replaced(document, ("traces", 0, "steps", 4, "tier"), 3)  # one step, two values
    line = replay_document(runner, "policy", document, tmp_path / "traces.json")
    assert line["equal"] == line["steps"] - 2
    assert line["first_difference"]["place"] == "$.traces[0].steps[4].tier"


def test_minus_zero_differs_from_zero_and_nan_equals_nan_when_replayed(runner: Path, tmp_path: Path) -> None:
    outputs = {"step": 0, "probabilities": [0.5, 0.5], "confidence": -0.0, "logits": ["nan", 1.0]}
    wanted = {"step": 0, "position": 1, "label": 0, "confidence": -0.0, "outside": False}
    path = tmp_path / "walks.json"

    def document(confidence: float) -> dict[str, Any]:
        expected = wanted | {"confidence": confidence}
        return {
            "format": 1,
            "cases": [
                {
                    "name": "one",
                    "why": "signs",
                    "classes": 2,
                    "path": [{"method": "p/head", "kind": "head", "position": 1, "outside": "-inf"}],
                    "outside": "energy",
                    "samples": [{"outputs": [outputs], "expected": expected}],
                }
            ],
        }

    line = replay_document(runner, "session", document(0.0), path)
    assert line["first_difference"]["place"].endswith(".confidence")
    path.write_text(json.dumps(document(-0.0)), encoding="utf-8")
    assert replay(runner, "session", path).returncode == 0


def without(*path: Any) -> Callable[[Any], Any]:
    def change(document: Any) -> Any:
        made = copy.deepcopy(document)
        inner = made
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return made

    return change


def with_value(*path: Any, value: Any) -> Callable[[Any], Any]:
    return lambda document: replaced(document, path, value)


DEEP: Any = 0
for _ in range(40):
    DEEP = [DEEP]

MALFORMED = [
    pytest.param("policy/traces.json", with_value("format", value=2), "$.format", id="another version"),
    pytest.param("policy/traces.json", without("format"), "$", id="no version"),
    pytest.param("policy/traces.json", with_value("traces", value=[]), "", id="no steps"),
    pytest.param("policy/traces.json", with_value("traces", value={}), "$.traces", id="not a list"),
    pytest.param("policy/traces.json", with_value("extra", value=1), "$.extra", id="unknown key"),
    pytest.param("policy/traces.json", with_value("extra", value=DEEP), "", id="nested too deeply"),
    pytest.param(
        "policy/traces.json", without("traces", 0, "steps", 1, "tier"), "$.traces[0].steps[1]", id="nothing expected"
    ),
    pytest.param(
        "policy/traces.json",
        with_value("policy", "enter_mh", value=[1, 2]),
        "$.policy.enter_mh",
        id="too few parameters",
    ),
    pytest.param(
        "policy/traces.json",
        with_value("policy", "enter_mh", value=[750, 650, 950]),
        "$.traces[0]",
        id="parameters out of order",
    ),
    pytest.param("policy/traces.json", with_value("traces", 0, "tiers", value=5), "$.traces[0].tiers", id="five tiers"),
    pytest.param(
        "session/walks.json",
        with_value("cases", 0, "samples", 0, "outputs", 0, "confidence", value=0.1),
        "$.cases[0].samples[0].outputs[0].confidence",
        id="no float32",
    ),
    pytest.param(
        "session/walks.json",
        with_value("cases", 0, "samples", 0, "outputs", 0, "confidence", value=1e300),
        "$.cases[0].samples[0].outputs[0].confidence",
        id="beyond float32",
    ),
    pytest.param(
        "session/walks.json",
        with_value("cases", 0, "samples", 0, "outputs", 0, "step", value=99),
        "$.cases[0].samples[0].outputs[0].step",
        id="no such step",
    ),
    pytest.param(
        "session/walks.json",
        with_value("cases", 0, "samples", 0, "outputs", value=[]),
        "$.cases[0].samples[0].outputs",
        id="step without outputs",
    ),
    pytest.param(
        "session/walks.json",
        without("cases", 0, "samples", 0, "outputs", 0, "logits", 0),
        "$.cases[0].samples[0].outputs[0]",
        id="too few logits",
    ),
    pytest.param("choice/cases.json", without("catalog", "groups"), "$.catalog", id="no groups"),
    pytest.param(
        "choice/cases.json",
        with_value("cases", 0, "candidates", 0, "sequence", value=-1),
        "$.cases[0].candidates[0].sequence",
        id="negative sequence",
    ),
    pytest.param("manifest/valid.json", without(3, "text"), "$[3]", id="no document"),
    pytest.param("manifest/valid.json", lambda document: {"format": 1}, "$", id="no list"),
    pytest.param(
        "preprocessing/images.json",
        with_value("cases", 0, "image", "pixels", 0, value=256),
        "$.cases[0].image.pixels[0]",
        id="no byte",
    ),
    pytest.param(
        "preprocessing/images.json",
        with_value("cases", 1, "image", "width", value=0),
        "$.cases[1].image.width",
        id="zero",
    ),
    pytest.param(
        "preprocessing/weights.json", with_value("cases", 0, "rows", 0, value=[0]), "$.cases[0].rows[0]", id="row"
    ),
]


@pytest.mark.parametrize(("name", "change", "place"), MALFORMED)
def test_malformed_file_is_refused_when_replayed(
    runner: Path, tmp_path: Path, name: str, change: Callable[[Any], Any], place: str
) -> None:
    path = tmp_path / Path(name).name
    path.write_text(json.dumps(change(load(VECTORS / name))), encoding="utf-8")
    assert refusal(replay(runner, name.split("/", maxsplit=1)[0], path)) == (f"{path}: {place}" if place else str(path))


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format":1}' * 2, b"null", b"7"],
    ids=lambda data: repr(data[:8]),
)
@pytest.mark.parametrize("kind", ["choice", "manifest", "policy", "preprocessing", "session"])
def test_file_that_is_no_document_is_refused_when_replayed(
    runner: Path, tmp_path: Path, kind: str, data: bytes
) -> None:
    path = tmp_path / "vectors.json"
    path.write_bytes(data)
    assert refusal(replay(runner, kind, path)).startswith(str(path))


def test_missing_file_folder_and_unknown_kind_are_refused_when_replayed(runner: Path, tmp_path: Path) -> None:
    assert refusal(replay(runner, "policy", tmp_path / "none.json")) == str(tmp_path / "none.json")
    assert refusal(replay(runner, "policy", tmp_path)) == str(tmp_path)
    refusal(replay(runner, "posture", VECTORS / "policy" / "traces.json"))


def refusal(run: subprocess.CompletedProcess[str]) -> str:
    """The place of the error that a replay ended with."""
    assert run.returncode == 2, run.stdout + run.stderr
    assert run.stdout == ""
    error = json.loads(run.stderr)["error"]
    assert error["code"] == "runtime.vectors"
    assert error["code"] in CODES
    return error["place"] or ""
