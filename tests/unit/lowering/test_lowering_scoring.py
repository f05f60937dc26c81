from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ebbtide.exits import confidences
from ebbtide.lowering import Scored


def scored(logits, temperature=1.0):
    return Scored(nn.Identity(), temperature)(torch.tensor(logits, dtype=torch.float32))


def test_confidence_is_that_of_float64_when_logits_are_ordinary():
    logits = np.random.default_rng(0).normal(0, 4, (1000, 7)).astype(np.float32)
    probabilities, confidence, same = scored(logits, 1.7)
    _, expected = confidences(logits, 1.7)
    assert confidence.shape == (1000,)
    assert np.abs(confidence.numpy() - expected).max() < 1e-5
    assert np.abs(probabilities.sum(1).numpy() - 1).max() < 1e-6
    assert np.array_equal(same.numpy(), logits)


def test_confidence_does_not_saturate_when_the_probability_is_one():
    probabilities, confidence, _ = scored([[50.0, 0.0], [400.0, 0.0], [-3e4, 3e4]])
    assert probabilities.max(1).values.tolist() == [1, 1, 1]
    assert confidence.tolist() == [50, 400, 6e4]


def test_confidence_counts_the_twin_among_the_others_when_the_best_is_tied():
    _, confidence, _ = scored([[2.0, 2.0, -100.0], [0.0, 0.0, 0.0]])
    assert confidence[0].item() == 0
    assert abs(confidence[1].item() + np.log(2)) < 1e-6


def test_confidence_is_divided_by_the_temperature_when_there_are_two_classes():
    assert scored([[3.0, 1.0]], 4.0)[1].item() == 0.5
