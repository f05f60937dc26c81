"""Makes walks.json, what a session does with recorded outputs, and its schema.json.

README.md beside this file says what the fields mean. The cases of `by_hand` carry expectations that a person wrote; the
generated samples have those of `left`, the rule written out plainly, against which the others are checked as well.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from session_parts import (
    EARLY,
    INF,
    LARGEST,
    LATE,
    NAN,
    SMALLEST,
    Sample,
    beside,
    case,
    energy,
    expected,
    float32,
    log_odds,
    one_exit,
    output,
    path,
    telling,
    turn,
)
from session_schema import schema

SEED, SAMPLES = 20_260_101, 1_000


def thresholds() -> Iterator[dict[str, Any]]:
    for name, why, value in (
        ("threshold", "left at only if the confidence is greater; equal goes on", float32(2.44)),
        ("threshold_negative", "the same below zero", float32(-1.7)),
        ("threshold_coarse", "where float32 has no fractions left", 2.0**24),
        ("threshold_fine", "where a comparison of rounded decimals would fail", float32(1e-30)),
    ):
        yield case(
            name,
            why,
            one_exit(value),
            [
                turn(value, leaves=False),
                turn(beside(value, 1), leaves=True),
                turn(beside(value, -1), leaves=False),
                turn(-value, leaves=value < 0),
            ],
        )
    yield case(
        "threshold_zero",
        "zero has two signs that are equal, and the least number above it is greater, not flushed to zero",
        one_exit(0.0),
        [turn(0.0, leaves=False), turn(-0.0, leaves=False), turn(SMALLEST, leaves=True), turn(-SMALLEST, leaves=False)],
    )
    yield case(
        "threshold_largest",
        "only infinity is greater than the largest float32",
        one_exit(LARGEST),
        [turn(LARGEST, leaves=False), turn(INF, leaves=True), turn(-INF, leaves=False)],
    )
    yield case(
        "threshold_least",
        "everything but the least float32 and minus infinity is greater than it",
        one_exit(-LARGEST),
        [turn(-LARGEST, leaves=False), turn(-INF, leaves=False), turn(beside(-LARGEST, 1), leaves=True)],
    )


def not_numbers() -> Iterator[dict[str, Any]]:
    nothing = [NAN, NAN, NAN]
    yield case(
        "nan_at_exit",
        "not a number is greater than nothing, so the path goes on, even past the least threshold",
        one_exit(-LARGEST),
        [
            {
                "outputs": [output(1, NAN, nothing, nothing), output(3, 4.0, LATE)],
                "expected": expected(3, 2, 0, 4.0),
            }
        ],
    )
    refused = {"error": "runtime.output"}
    yield case(
        "nan_at_head",
        "the end of a path has to say something: an error, and only if the end is reached",
        one_exit(1.0),
        [
            {"outputs": [output(1, 0.5, EARLY), output(3, NAN, nothing, nothing)], "expected": refused},
            {"outputs": [output(1, NAN, nothing, nothing), output(3, NAN, nothing, nothing)], "expected": refused},
            {
                "outputs": [output(1, 1.5, EARLY), output(3, NAN, nothing, nothing)],
                "expected": expected(1, 0, 2, 1.5),
            },
        ],
    )
    yield case(
        "infinite_confidence",
        "infinities are numbers: they compare, and the head may put them out",
        one_exit(1.0),
        [
            turn(INF, leaves=True),
            turn(-INF, leaves=False),
            turn(0.0, leaves=False, head=INF),
            turn(0.0, leaves=False, head=-INF),
        ],
    )


def labels() -> Iterator[dict[str, Any]]:
    def head(logits: Sequence[float], label: int, probabilities: Sequence[float] | None = None) -> Sample:
        return {"outputs": [output(1, 0.0, logits, probabilities)], "expected": expected(1, 1, label, 0.0)}

    yield case(
        "equal_logits",
        "the lowest index wins; zero has two signs that are equal",
        path("stage0", ("head", 1)),
        [
            head([1.0, 3.0, 3.0], 1),
            head([3.0, 1.0, 3.0], 0),
            head([2.0, 2.0, 2.0], 0),
            head([-1.0, -0.0, 0.0], 1),
            head([-1.0, 0.0, -0.0], 1),
            head([0.0, INF, INF], 1, [0.0, 0.5, 0.5]),
            head([-INF, -INF, -INF], 0, [0.25, 0.25, 0.5]),
            head([-INF, -LARGEST, -INF], 1, [0.0, 1.0, 0.0]),
        ],
    )
    yield case(
        "label_of_logits",
        "logits decide, not probabilities, which round to equal ones first",
        path("stage0", ("head", 1)),
        [
            head([1.0, beside(1.0, 1), 0.0], 1),
            head([30.0, beside(30.0, 1), -80.0], 1),
            head([1.0, 2.0, 0.0], 1, [0.5, 0.25, 0.25]),
        ],
    )


def shapes() -> Iterator[dict[str, Any]]:
    def sample(at: int, steps: Sequence[int], position: int) -> Sample:
        """Sure at step `at` alone; its label is its place among the outputs."""
        outputs = [
            output(step, 3.0 if step == at else -1.0, [2.0 if index == place % 3 else 0.0 for index in range(3)])
            for place, step in enumerate(steps)
        ]
        sure = 3.0 if at in steps else -1.0
        return {"outputs": outputs, "expected": expected(at, position, list(steps).index(at) % 3, sure)}

    yield case("no_exits", "the head alone", path("stage0", "stage1", ("head", 2)), [sample(2, [2], 2)])
    yield case("whole_model", "a path of one method", path(("forward", 0)), [sample(0, [0], 0)])
    yield case(
        "exit_is_first",
        "an exit before any stage",
        path(("exit0", 0, 1.0), "stage0", ("head", 1)),
        [sample(0, [0, 2], 0), sample(2, [0, 2], 1)],
    )
    yield case(
        "same_position",
        "several exits after one stage, in the order of the path; each takes what the stage put out",
        path("stage0", ("exit0", 0, 2.0), ("exit0_wide", 0, 2.5), "stage1", ("head", 2)),
        [sample(1, [1, 2, 4], 0), sample(2, [1, 2, 4], 0), sample(4, [1, 2, 4], 2)],
    )
    yield case(
        "three_exits",
        "the first that is sure enough ends the path, whatever later ones would say",
        path("stage0", ("exit0", 0, 2.0), "stage1", ("exit1", 1, 1.0), "stage2", ("exit2", 2, -0.5), ("head", 3)),
        [
            sample(1, [1, 3, 5, 6], 0),
            sample(3, [1, 3, 5, 6], 1),
            sample(5, [1, 3, 5, 6], 2),
            sample(6, [1, 3, 5, 6], 3),
            {
                "outputs": [output(step, 9.0, [0.0, 1.0, 0.0]) for step in (1, 3, 5, 6)],
                "expected": expected(1, 0, 1, 9.0),
            },
        ],
    )
    yield case(
        "two_programs",
        "methods are named by their programs, and a path may pass from one to another",
        [
            {"method": "w50-f32-cpu/stage0", "kind": "stage"},
            {"method": "w50-f32-cpu/exit0", "kind": "exit", "position": 0, "threshold": 2.0},
            {"method": "w100-f32-cpu/stage0", "kind": "stage"},
            {"method": "w100-f32-cpu/head", "kind": "head", "position": 1},
        ],
        [sample(1, [1, 3], 0), sample(3, [1, 3], 1)],
    )


def outsides() -> Iterator[dict[str, Any]]:
    steps = telling(one_exit(1.0), -2.5, -2.5)
    # Energies: EARLY -1.7, LATE -3.1.
    yield case(
        "outside",
        "strange above the threshold; the logits of the step that the path was left at count",
        steps,
        [
            {"outputs": [output(1, 2.0, EARLY), output(3, 4.0, LATE)], "expected": expected(1, 0, 2, 2.0, True)},
            {"outputs": [output(1, 0.5, EARLY), output(3, 4.0, LATE)], "expected": expected(3, 2, 0, 4.0, False)},
            {"outputs": [output(1, 2.0, LATE), output(3, 4.0, EARLY)], "expected": expected(1, 0, 0, 2.0, False)},
        ],
        "energy",
    )
    yield case(
        "outside_by_step",
        "the threshold is that of the step that the path was left at, too",
        telling(one_exit(1.0), -1.5, -3.5),
        [
            {"outputs": [output(1, 2.0, EARLY), output(3, 4.0, LATE)], "expected": expected(1, 0, 2, 2.0, False)},
            {"outputs": [output(1, 0.5, EARLY), output(3, 4.0, LATE)], "expected": expected(3, 2, 0, 4.0, True)},
        ],
        "energy",
    )
    near = [output(1, 2.0, [-4.0, -4.0, -4.0]), output(3, 4.0, LATE)]
    yield case(
        "outside_positive",
        "energies above zero",
        telling(one_exit(1.0), 2.875, 2.875),
        [{"outputs": near, "expected": expected(1, 0, 0, 2.0, True)}],
        "energy",
    )
    yield case(
        "outside_just_below",
        "the same energy, log(3) below 4, under a threshold a little greater",
        telling(one_exit(1.0), 2.90625, 2.90625),
        [{"outputs": near, "expected": expected(1, 0, 0, 2.0, False)}],
        "energy",
    )
    yield case(
        "outside_not_a_number",
        "an infinite largest logit has an energy that is not a number, which is above nothing; one that is minus "
        "infinity takes no part",
        telling(path("stage0", ("head", 1)), -2.5),
        [
            {"outputs": [output(1, INF, [0.0, INF, 0.0], [0, 1, 0])], "expected": expected(1, 1, 1, INF, False)},
            {"outputs": [output(1, -INF, [-INF] * 3, [0.25, 0.25, 0.5])], "expected": expected(1, 1, 0, -INF, False)},
            {"outputs": [output(1, 1.0, [-INF, 2.0, 1.0], [0, 0.75, 0.25])], "expected": expected(1, 1, 1, 1.0, True)},
        ],
        "energy",
    )
    yield case(
        "outside_large",
        "the largest logit is taken out before exponentials, so nothing overflows",
        telling(path("stage0", ("head", 1)), -2.5),
        [
            {"outputs": [output(1, 1.0, [1000.0, 998.0, 0.0])], "expected": expected(1, 1, 0, 1.0, False)},
            {"outputs": [output(1, 1.0, [-1000.0, -998.0, -2000.0])], "expected": expected(1, 1, 1, 1.0, True)},
        ],
        "energy",
    )
    yield from unsure()


def unsure() -> Iterator[dict[str, Any]]:
    """The confidence as the score: exact, so values on and beside the threshold can be asked for."""
    edge = float32(0.7)
    head = telling(path("stage0", ("head", 1)), -edge)

    def sample(confidence: float, *, outside: bool) -> Sample:
        return {"outputs": [output(1, confidence, LATE)], "expected": expected(1, 1, 0, confidence, outside)}

    yield case(
        "outside_confidence",
        "strange is what is less sure than the threshold negated; equal is not; logits have no say",
        head,
        [
            sample(edge, outside=False),
            sample(beside(edge, -1), outside=True),
            sample(beside(edge, 1), outside=False),
            sample(-4.0, outside=True),
            sample(INF, outside=False),
            sample(-INF, outside=True),
        ],
        "confidence",
    )
    yield case(
        "outside_confidence_at_exit",
        "an exit that is left is sure, so it may answer outside only if it asks for more",
        telling(one_exit(1.0), -3.0, -0.5),
        [
            {"outputs": [output(1, 2.0, EARLY), output(3, 0.25, LATE)], "expected": expected(1, 0, 2, 2.0, True)},
            {"outputs": [output(1, 4.0, EARLY), output(3, 0.25, LATE)], "expected": expected(1, 0, 2, 4.0, False)},
            {"outputs": [output(1, 0.5, EARLY), output(3, 0.25, LATE)], "expected": expected(3, 2, 0, 0.25, True)},
            {"outputs": [output(1, 0.5, EARLY), output(3, 0.75, LATE)], "expected": expected(3, 2, 0, 0.75, False)},
        ],
        "confidence",
    )


def by_hand() -> Iterator[dict[str, Any]]:
    yield from thresholds()
    yield from not_numbers()
    yield from labels()
    yield from shapes()
    yield from outsides()


def generated() -> dict[str, Any]:
    """`SAMPLES` samples of a network that gets surer with depth, by the generator that README.md describes."""
    state = SEED

    def uniform() -> float:
        nonlocal state
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        return (state >> 8) / 2**24

    steps = path(
        "stage0",
        ("exit0", 0, float32(1.7)),
        "stage1",
        ("exit1", 1, float32(1.9)),
        "stage2",
        ("exit2", 2, float32(1.6)),
        ("head", 3),
    )
    told = telling(steps, float32(-2.1), float32(-2.2), float32(-2.3), float32(-2.4))
    made = case("generated", "softmax values as a network puts them out", told, [], "energy")
    for _ in range(SAMPLES):
        truth = int(uniform() * 3)
        outputs = []
        for depth, step in enumerate((1, 3, 5, 6)):
            logits = [
                float32(5 * (uniform() - 0.5) + ((0.8 + 0.6 * depth) if index == truth else 0)) for index in range(3)
            ]
            outputs.append(output(step, log_odds(logits), logits))
        made["samples"].append({"outputs": outputs, "expected": left(made, outputs)})
    return made


def left(walk: dict[str, Any], outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rule, written out: where a path is left and what is said there."""
    said = {entry["step"]: entry for entry in outputs}
    for index, step in enumerate(walk["path"]):
        if step["kind"] == "stage":
            continue
        confidence, logits = said[index]["confidence"], said[index]["logits"]
        if step["kind"] == "exit" and not confidence > step["threshold"]:
            continue
        if math.isnan(confidence):
            return {"error": "runtime.output"}
        label = next(index for index, logit in enumerate(logits) if logit == max(logits))
        outside = None
        if walk["outside"] is not None:
            score = energy(logits) if walk["outside"] == "energy" else -confidence
            if walk["outside"] == "energy" and abs(score - step["outside"]) <= 1e-6 * abs(step["outside"]):
                raise ValueError(f"an energy of {score} is too close to its threshold for every language to agree")
            outside = score > step["outside"]
        return expected(index, step["position"], label, confidence, outside)
    raise ValueError(f"{walk['name']} ends without a head")


def walks() -> dict[str, Any]:
    cases = [*by_hand(), generated()]
    for one in cases:
        for number, sample in enumerate(one["samples"]):
            found = left(one, sample["outputs"])
            if _plain(found) != _plain(sample["expected"]):
                raise ValueError(f"{one['name']}[{number}]: {found} by the rule, {sample['expected']} by hand")
    return {"format": 1, "cases": cases}


def _plain(value: Any) -> Any:
    """JSON values: what JSON has no number for becomes a text."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def text(content: dict[str, Any]) -> str:
    """One sample a line: files whose changes can be read."""

    def line(value: Any) -> str:
        return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)

    cases = []
    for one in content["cases"]:
        head = {name: value for name, value in one.items() if name != "samples"}
        samples = ",\n".join(map(line, one["samples"]))
        cases.append(f'{line(head)[:-1]},"samples":[\n{samples}\n]}}')
    return f'{{"format":{content["format"]},"cases":[\n' + ",\n".join(cases) + "\n]}\n"


def files() -> dict[str, bytes]:
    """File name -> content."""
    return {
        "walks.json": text(walks()).encode(),
        "schema.json": (json.dumps(schema(), indent=1) + "\n").encode(),
    }
