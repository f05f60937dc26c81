from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ebbtide.engine import EagerEngine
from ebbtide.errors import EbbtideError


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, 2 * x


@pytest.fixture
def loaded():
    modules = {"stage0": nn.Flatten(), "head": Twice(), "linear": nn.Linear(3, 2)}
    return EagerEngine({"w100": modules}).load(Path("programs/w100.pte"))


def test_methods_are_sorted_when_loaded(loaded):
    assert loaded.methods == ("head", "linear", "stage0")


def test_outputs_own_their_memory_when_a_module_returns_its_input(loaded):
    x = np.ones((1, 3), np.float32)
    same, twice = loaded.run("head", x)
    x[:] = 7
    assert same.tolist() == [[1, 1, 1]]
    assert twice.tolist() == [[2, 2, 2]]


def test_input_of_a_read_only_strided_array_is_accepted_when_values_fit(loaded):
    x = np.broadcast_to(np.float32(3), (1, 2, 3))
    assert loaded.run("stage0", x)[0].tolist() == [[3] * 6]


@pytest.mark.parametrize(
    ("method", "value", "code"),
    [
        ("haed", np.zeros((1, 3), np.float32), "engine.unknown_method"),
        ("head", np.zeros((1, 3), np.float64), "engine.input"),
        ("linear", np.zeros((1, 4), np.float32), "engine.failed"),
    ],
)
def test_run_refuses_with_its_code_when_the_call_is_wrong(loaded, method, value, code):
    with pytest.raises(EbbtideError) as caught:
        loaded.run(method, value)
    assert caught.value.code == code
    assert caught.value.place == method


def test_run_refuses_when_closed_even_twice(loaded):
    loaded.close()
    loaded.close()
    with pytest.raises(EbbtideError) as caught:
        loaded.run("head", np.zeros((1, 3), np.float32))
    assert caught.value.code == "engine.closed"


def test_load_names_the_nearest_program_when_unknown():
    with pytest.raises(EbbtideError) as caught:
        EagerEngine({"w100-f32-cpu": {}}).load(Path("w100-f32-cqu.pte"))
    assert caught.value.code == "engine.no_program"
    assert "w100-f32-cpu" in (caught.value.hint or "")
