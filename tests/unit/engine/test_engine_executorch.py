from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from ebbtide.engine import ExecuTorchEngine, executorch
from ebbtide.engine.layout import input_layouts
from ebbtide.errors import EbbtideError
from ebbtide.lowering import ProgramSpec, lower

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    stage = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return stage.eval(), head.eval()


@pytest.fixture(scope="module")
def program(net, tmp_path_factory):
    stage, head = net
    file = tmp_path_factory.mktemp("engine") / "tiny.pte"
    lower(ProgramSpec("tiny", [stage], {}, head, {"head": 1.0}, SHAPE), file)
    return file


@pytest.fixture
def loaded(program):
    loaded = ExecuTorchEngine().load(program)
    yield loaded
    loaded.close()


def images(count):
    return np.random.default_rng(1).standard_normal((count, *SHAPE)).astype(np.float32)


def test_stage_output_is_that_of_the_module_when_run(loaded, net):
    x = images(1)
    (y,) = loaded.run("stage0", x)
    assert loaded.methods == ("head", "stage0")
    assert np.abs(y - net[0](torch.from_numpy(x)).detach().numpy()).max() < 1e-5


def test_outputs_stay_when_the_method_runs_again(loaded):
    first, second = images(2)[:, None]
    (y,) = loaded.run("stage0", first)
    before = y.copy()
    loaded.run("stage0", second)
    assert np.array_equal(y, before)


def test_input_is_put_in_order_when_it_is_channels_last(loaded):
    x = images(1)
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not channels_last.flags.c_contiguous
    assert np.array_equal(loaded.run("stage0", channels_last)[0], loaded.run("stage0", x)[0])


def test_stage_output_is_taken_as_it_is_when_it_is_in_the_order_of_the_next_method(loaded, monkeypatch):
    (y,) = loaded.run("stage0", images(1))
    assert loaded._methods["head"].layout == "channels_last"
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    monkeypatch.setattr(executorch, "checked_input", None)
    loaded.run("head", y)


def frozen(x):
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    "form",
    [
        np.ascontiguousarray,
        lambda y: np.ascontiguousarray(y.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1),
        lambda y: np.repeat(y, 2, axis=3)[..., ::2],
        lambda y: y[0][None],
        lambda y: frozen(y.copy("K")),
    ],
)
def test_result_is_the_same_when_the_input_of_a_channels_last_method_is_in_another_form(loaded, form):
    (y,) = loaded.run("stage0", images(1))
    given = form(y)
    assert np.array_equal(given, y)
    for ours, theirs in zip(loaded.run("head", given), loaded.run("head", y), strict=True):
        assert np.array_equal(ours, theirs)


def test_layouts_are_those_of_the_file_when_read(program):
    assert input_layouts(program) == {"head": "channels_last", "stage0": "contiguous"}


@pytest.mark.parametrize("content", [b"\0" * 64, b"\xff" * 64, bytes(range(256)), b"x"])
def test_layouts_are_refused_when_the_file_is_no_program(tmp_path, content):
    file = tmp_path / "p.pte"
    file.write_bytes(content)
    with pytest.raises(ValueError):
        input_layouts(file)


def test_load_refuses_when_an_input_is_in_an_unknown_order(program, tmp_path):
    # The order of the head's input, as the file spells it: a count and a byte for each dimension.
    data = program.read_bytes()
    assert data.count(b"\4\0\0\0\0\2\3\1") >= 1
    other = tmp_path / "other.pte"
    other.write_bytes(data.replace(b"\4\0\0\0\0\2\3\1", b"\4\0\0\0\0\3\2\1"))
    with pytest.raises(EbbtideError) as caught:
        ExecuTorchEngine().load(other)
    assert caught.value.code == "engine.load"


def test_results_are_those_of_one_thread_when_many_call(loaded):
    x = images(32)
    expected = [loaded.run("stage0", x[i : i + 1])[0] for i in range(32)]
    results = [None] * 32

    def call(start):
        for i in range(start, 32, 4):
            results[i] = loaded.run("stage0", x[i : i + 1])[0]

    threads = [threading.Thread(target=call, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize(
    ("method", "value", "code"),
    [
        ("stage1", np.zeros((1, *SHAPE), np.float32), "engine.unknown_method"),
        ("stage0", np.zeros((1, 3, 8, 9), np.float32), "engine.input"),
        ("stage0", np.zeros((2, *SHAPE), np.float32), "engine.input"),
        ("stage0", [[0.0]], "engine.input"),
    ],
)
def test_run_refuses_with_its_code_when_the_call_is_wrong(loaded, method, value, code):
    with pytest.raises(EbbtideError) as caught:
        loaded.run(method, value)
    assert caught.value.code == code


def test_run_refuses_when_closed(program):
    loaded = ExecuTorchEngine().load(program)
    loaded.close()
    loaded.close()
    with pytest.raises(EbbtideError) as caught:
        loaded.run("stage0", images(1))
    assert caught.value.code == "engine.closed"


def test_run_reports_the_method_when_the_runtime_fails(loaded):
    def fail(*_):
        raise RuntimeError("method->execute() failed with error 0x12")

    loaded._methods["stage0"] = loaded._methods["stage0"]._replace(call=fail)
    with pytest.raises(EbbtideError) as caught:
        loaded.run("stage0", images(1))
    assert (caught.value.code, caught.value.place) == ("engine.failed", "stage0")


def test_load_refuses_when_the_file_is_missing(tmp_path):
    with pytest.raises(EbbtideError) as caught:
        ExecuTorchEngine().load(tmp_path / "none.pte")
    assert caught.value.code == "engine.no_program"


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_load_refuses_when_the_file_is_cut_off(program, tmp_path, size):
    cut = tmp_path / "cut.pte"
    cut.write_bytes(program.read_bytes()[:size])
    with pytest.raises(EbbtideError) as caught:
        ExecuTorchEngine().load(cut)
    assert caught.value.code == "engine.load"


def test_threads_are_refused_when_another_count_is_fixed():
    fixed = ExecuTorchEngine().threads
    assert ExecuTorchEngine(fixed).threads == fixed
    with pytest.raises(EbbtideError) as caught:
        ExecuTorchEngine(fixed + 1)
    assert caught.value.code == "engine.threads"


def test_threads_are_refused_when_not_positive():
    with pytest.raises(EbbtideError) as caught:
        ExecuTorchEngine(0)
    assert caught.value.code == "engine.threads"


def test_threads_are_as_asked_when_fixed_before_anything_is_loaded():
    code = "from ebbtide.engine import ExecuTorchEngine as E; print('count', E(1).threads)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "count 1" in result.stdout
