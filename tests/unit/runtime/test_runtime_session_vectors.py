"""The session against its vectors: recorded outputs in, through a real session, and out comes where, what and why."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from runtime_bundles import manifest, tensor

from ebbtide.bundle.manifest import (
    ConfigurationEntry,
    Manifest,
    MethodEntry,
    OutsideEntry,
    PathStep,
    ProgramEntry,
)
from ebbtide.engine import Array
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Session

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "session"
NUMBERS = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


@cache
def cases() -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in json.loads((VECTORS / "walks.json").read_bytes())["cases"]}


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("session_vectors_generate", VECTORS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def floats(values: Any) -> Array:
    """Recorded numbers as a program hands them out; a number that is no float32 would be changed by it."""
    doubles = np.array([NUMBERS.get(value, value) for value in np.atleast_1d(np.array(values, dtype=object))], float)
    narrow = doubles.astype(np.float32)
    np.testing.assert_array_equal(narrow.astype(float), doubles)
    return narrow


class Recorded:
    """An engine whose exits and heads put out what a sample recorded; stages put out what they are given."""

    name = "recorded"

    def __init__(self, case: Mapping[str, Any]) -> None:
        self._steps = {step["method"]: index for index, step in enumerate(case["path"])}
        self.outputs: dict[int, tuple[Array, ...]] = {}
        self.ran: list[str] = []

    def record(self, outputs: list[Mapping[str, Any]]) -> None:
        self.ran = []
        self.outputs = {
            entry["step"]: (
                floats(entry["probabilities"])[None],
                floats(entry["confidence"]),
                floats(entry["logits"])[None],
            )
            for entry in outputs
        }

    def load(self, path: Path) -> RecordedProgram:
        return RecordedProgram(self, path.stem)

    def run(self, reference: str, value: Array) -> tuple[Array, ...]:
        self.ran.append(reference)
        return self.outputs.get(self._steps[reference], (value,))


class RecordedProgram:
    methods: tuple[str, ...] = ()

    def __init__(self, engine: Recorded, program: str) -> None:
        self._engine, self._program = engine, program

    def run(self, method: str, value: Array) -> tuple[Array, ...]:
        return self._engine.run(f"{self._program}/{method}", value)

    def close(self) -> None:
        pass


class Walk:
    """A bundle of one configuration, which is a case's path."""

    def __init__(self, case: Mapping[str, Any]) -> None:
        base, outputs = manifest(), (tensor(1, case["classes"]), tensor(1), tensor(1, case["classes"]))
        methods: dict[str, list[MethodEntry]] = {}
        for step in case["path"]:
            program, _, name = step["method"].rpartition("/")
            stage = step["kind"] == "stage"
            methods.setdefault(program, []).append(
                MethodEntry(
                    name=name,
                    kind=step["kind"],
                    position=step.get("position", 0),
                    inputs=(tensor(1, 1, 8, 8),),
                    outputs=(tensor(1, 1, 8, 8),) if stage else outputs,
                    macs=1,
                    peak_bytes=1,
                )
            )
        path = tuple(
            PathStep(method=step["method"], threshold=step.get("threshold"), outside=step.get("outside"))
            for step in case["path"]
        )
        rule = None if case["outside"] is None else OutsideEntry(score=case["outside"], fallback=None)
        entry = base.programs[0]
        self.manifest: Manifest = base.model_copy(
            update={
                "model": base.model.model_copy(
                    update={"classes": tuple(f"class {i}" for i in range(case["classes"])), "outside": rule}
                ),
                "programs": tuple(
                    ProgramEntry(
                        id=program,
                        width="w100",
                        precision=entry.precision,
                        processor=entry.processor,
                        format=entry.format,
                        file=f"programs/{program}.pte",
                        methods=tuple(found),
                    )
                    for program, found in methods.items()
                ),
                "configurations": (ConfigurationEntry(id="walk", path=path, expected=base.configurations[0].expected),),
                "tiers": ("walk",),
            }
        )

    def path_of(self, path: str) -> Path:
        return Path(path)


def said(session: Session, case: Mapping[str, Any]) -> dict[str, Any]:
    """What a session makes of the sample that its engine has recorded, in the words of the vectors."""
    try:
        result = session.predict_tensor(np.zeros((1, 1, 8, 8), np.float32))
    except EbbtideError as error:
        return {"error": error.code}
    return {
        "step": [step["method"] for step in case["path"]].index(result.left_at),
        "position": result.position,
        "label": result.label,
        "confidence": result.confidence,
        "outside": result.outside,
    }


@pytest.mark.parametrize("name", list(cases()))
def test_session_says_what_the_vectors_expect_when_outputs_are_recorded(name: str) -> None:
    case = cases()[name]
    engine = Recorded(case)
    with Session(Walk(case), engine, warm_up=0) as session:
        for number, sample in enumerate(case["samples"]):
            engine.record(sample["outputs"])
            expected = dict(sample["expected"])
            if "confidence" in expected:
                expected["confidence"] = float(floats(expected["confidence"])[0])
            found = said(session, case)
            assert found == expected, f"sample {number}"
            last = found.get("step", len(case["path"]) - 1)
            assert engine.ran == [step["method"] for step in case["path"][: last + 1]], "nothing runs that need not"


def test_generated_samples_leave_everywhere_and_lie_on_both_sides_of_outside() -> None:
    case = cases()["generated"]
    expected = [sample["expected"] for sample in case["samples"]]
    ends = [index for index, step in enumerate(case["path"]) if step["kind"] != "stage"]
    assert len(expected) == 1_000
    assert min(sum(found["step"] == end for found in expected) for end in ends) > 100
    assert min(sum(found["label"] == label for found in expected) for label in range(case["classes"])) > 100
    assert min(sum(found["outside"] is outside for found in expected) for outside in (True, False)) > 100


def test_rule_of_the_generator_refuses_when_a_hand_written_expectation_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = generator()
    wrong = made.case("wrong", "equal does not leave", made.one_exit(1.0), [made.turn(1.0, leaves=True)])
    monkeypatch.setattr(made, "by_hand", lambda: [wrong])
    with pytest.raises(ValueError, match="by the rule"):
        made.walks()
