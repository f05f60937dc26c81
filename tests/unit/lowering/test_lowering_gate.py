from __future__ import annotations

import numpy as np
import pytest

from ebbtide.errors import EbbtideError
from ebbtide.lowering import Scores, compare, decisions, gate

THRESHOLDS = {"both": {0: 0.0, 1: 1.0}, "last": {1: 0.5}, "off": {}}


class Bent:
    """A lowered program one of whose methods answers differently for one sample."""

    def __init__(self, loaded, method, call, bend):
        self.loaded, self.method, self.call, self.bend = loaded, method, call, bend
        self.methods = loaded.methods
        self.calls = 0

    def run(self, method, tensor):
        outputs = self.loaded.run(method, tensor)
        if method == self.method:
            self.calls += 1
            if self.calls == self.call:
                return self.bend(*outputs)
        return outputs


def refuse(spec, loaded, samples, **extra):
    with pytest.raises(EbbtideError) as caught:
        gate(spec, loaded, samples, configurations=THRESHOLDS, **extra)
    return caught.value


def test_gate_passes_when_the_program_is_as_lowered(spec, loaded, samples):
    report = gate(spec, loaded, samples, configurations=THRESHOLDS)
    assert report.samples == 512
    assert report.configurations == ("both", "last", "off")
    assert [gap.method for gap in report.methods] == ["stage0", "exit0", "stage1", "exit1", "head"]
    assert all(0 <= gap.logits < 1e-3 and gap.confidence < 1e-3 and gap.labels == 0 for gap in report.methods)


def test_gate_names_method_sample_and_values_when_a_confidence_is_off(spec, loaded, samples):
    bent = Bent(loaded, "exit1", 101, lambda p, c, z: (p, c + 0.002, z))
    error = refuse(spec, bent, samples, ids=[f"img{i}" for i in range(512)])
    assert (error.code, error.exit_status) == ("lowering.gate", 3)
    assert "'exit1'" in error.message
    assert "img100" in error.message
    assert float(error.found.split()[0]) - float(error.expected.split()[0]) == pytest.approx(0.002, abs=2e-4)


def test_gate_refuses_when_a_confidence_is_not_a_number(spec, loaded, samples):
    bent = Bent(loaded, "head", 1, lambda p, c, z: (p, c * np.nan, z))
    assert refuse(spec, bent, samples).details["sample"] == "0"


def test_gate_refuses_when_only_a_label_differs(spec, loaded, samples):
    bent = Bent(loaded, "head", 7, lambda p, c, z: (p, c, -z))
    error = refuse(spec, bent, samples)
    assert (error.code, error.details["sample"], error.details["method"]) == ("lowering.gate", "6", "head")
    assert "label" in error.message


def test_gate_refuses_when_a_sample_leaves_elsewhere_within_the_tolerance(spec, loaded, samples):
    confidence = compare(spec, loaded, samples)[0].confidences["exit0"]
    middle = int(np.argsort(confidence)[256])
    bent = Bent(loaded, "exit0", middle + 1, lambda p, c, z: (p, c - 5e-4, z))
    with pytest.raises(EbbtideError) as caught:
        gate(spec, bent, samples, configurations={"tight": {0: float(confidence[middle]) - 2e-4}})
    assert "exit under 'tight'" in caught.value.message
    assert caught.value.details["sample"] == str(middle)


def test_gate_refuses_when_samples_are_too_few(spec, loaded, samples):
    assert refuse(spec, loaded, samples[:511]).code == "lowering.spec"


def test_gate_refuses_when_a_threshold_has_no_exit(spec, loaded, samples):
    with pytest.raises(EbbtideError) as caught:
        gate(spec, loaded, samples[:8], configurations={"c": {5: 0.0}}, minimum=8)
    assert caught.value.code == "lowering.spec"


def test_decisions_stay_when_the_confidence_equals_the_threshold():
    third = np.float32(0.1)
    logits = {"exit0": np.array([[0, 1], [0, 1]], np.float32), "head": np.array([[2, 1], [2, 1]], np.float32)}
    confidences = {"exit0": np.array([third, np.nextafter(third, np.float32(1))]), "head": np.zeros(2, np.float32)}
    scores = Scores(logits=logits, probabilities=logits, confidences=confidences)
    assert decisions(scores, {0: 0.1}) == [("head", 0), ("exit0", 1)]
