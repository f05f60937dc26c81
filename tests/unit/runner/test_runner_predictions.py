"""The C++ runner predicts as the Python session does, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from runtime_bundles import images, scaled

from ebbtide.bundle import Bundle
from ebbtide.engine import ExecuTorchEngine
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Result, Session
from ebbtide.runtime.runner import Answer, Runner, find_runner

NAMES = ("full", "sure", "small", "extra")


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> Iterator[Session]:
    with Session(bundle, ExecuTorchEngine()) as opened:
        yield opened


@pytest.fixture
def running(runner: Path, bundle: Bundle) -> Iterator[Runner]:
    with Runner(bundle.folder) as opened:
        yield opened


def assert_equal(found: Answer, expected: Result) -> None:
    for name in ("label", "class_name", "confidence", "position", "left_at", "outside"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()
    assert found.logits.tobytes() == expected.logits.tobytes()
    assert [method for method, _ in found.methods_ns] == [method for method, _ in expected.times.methods]


@pytest.mark.parametrize("residency", ["all", "active"])
def test_every_bit_equals_the_session_when_configurations_are_switched(runner, bundle, session, residency):
    pixels = images(60)
    outside = set()
    with Runner(bundle.folder, residency=residency) as found:
        for name in (*NAMES, *reversed(NAMES)):
            session.switch(name)
            found.switch(name)
            assert (found.configuration, found.tier) == (session.current.configuration, session.current.tier)
            left_at = set()
            for image, answer in zip(pixels, found.predict_all(scaled(pixels)), strict=True):
                expected = session.predict(image)
                assert_equal(answer, expected)
                left_at.add(answer.left_at)
                outside.add(answer.outside)
            assert len(left_at) == (2 if name in {"sure", "small"} else 1)
    assert outside == {True, False}


def test_pictures_of_any_size_are_preprocessed_as_in_python(running, session):
    generator = np.random.default_rng(5)
    session.switch("sure")
    running.switch("sure")
    for shape in ((8, 8), (8, 8, 1), (21, 13), (7, 30, 3), (64, 64, 3)):
        picture = generator.integers(0, 256, shape, dtype=np.uint8)
        assert_equal(running.predict(picture), session.predict(picture))


def test_order_of_memory_of_the_input_does_not_matter(running, session):
    sample = scaled(images(1))[0]
    backwards = np.asfortranarray(sample.transpose(0, 2, 1)).transpose(0, 2, 1)
    session.switch("full")
    assert_equal(running.predict(backwards), session.predict_tensor(sample))


def test_a_bad_sample_is_refused_and_the_next_one_is_right(running, session):
    good = images(1)[0]
    session.switch("full")
    expected = session.predict(good)
    refusals = [
        (np.zeros((1, 9, 9), np.float32), "runtime.input"),
        (np.zeros((1, 8, 8), np.float64), "runtime.input"),
        (np.zeros((8, 8, 4), np.uint8), "runtime.input"),
        (np.zeros((2, 3, 8, 8), np.uint8), "runtime.input"),
        (np.full((1, 8, 8), np.nan, np.float32), "runtime.output"),
    ]
    for sample, code in refusals:
        with pytest.raises(EbbtideError) as caught:
            running.predict(sample)
        assert caught.value.code == code, sample.dtype
        assert_equal(running.predict(good), expected)


def test_a_failed_switch_leaves_the_configuration_in_force(running, session):
    session.switch("full")
    image = images(1)[0]
    for switch, code in (
        (lambda: running.switch("none"), "runtime.configuration"),
        (lambda: running.switch_tier(3), "runtime.tier"),
        (lambda: running.switch_tier(-1), "runtime.tier"),
        (lambda: running._request({"switch": 1}), "runtime.input"),
        (lambda: running._request({"jump": "full"}), "runtime.input"),
    ):
        with pytest.raises(EbbtideError) as caught:
            switch()
        assert caught.value.code == code
        assert running.configuration == "full"
        assert_equal(running.predict(image), session.predict(image))
    running.switch_tier(2)
    assert (running.configuration, running.tier) == ("small", 2)


def test_what_is_no_array_ends_the_stream_with_its_code(running):
    running._stdin.write(b"PK\x03\x04 not an array")
    running._stdin.close()
    with pytest.raises(EbbtideError) as caught:
        running._read()
    assert caught.value.code == "runtime.input"


def test_thread_count_is_fixed_before_the_first_load(runner, bundle, session):
    session.switch("sure")
    pixels = images(20)
    with Runner(bundle.folder, configuration="sure", threads=2) as found:
        for image in pixels:
            assert_equal(found.predict(image), session.predict(image))
    with pytest.raises(EbbtideError) as caught:
        Runner(bundle.folder, threads=0)
    assert caught.value.code == "engine.threads"


def test_a_missing_runner_says_how_to_build_it(monkeypatch, tmp_path):
    monkeypatch.setenv("EBBTIDE_RUNNER", str(tmp_path / "none"))
    with pytest.raises(EbbtideError) as caught:
        find_runner()
    assert caught.value.code == "runtime.runner"
    monkeypatch.delenv("EBBTIDE_RUNNER")
    monkeypatch.setattr("ebbtide.runtime.runner._BUILT", tmp_path / "none")
    with pytest.raises(EbbtideError) as caught:
        find_runner()
    assert caught.value.hint == "make runner"


def test_a_runner_that_dies_is_an_error_with_its_status(monkeypatch, tmp_path, bundle):
    program = tmp_path / "runner"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 7\n")
    program.chmod(0o755)
    monkeypatch.setenv("EBBTIDE_RUNNER", str(program))
    with pytest.raises(EbbtideError) as caught:
        Runner(bundle.folder)
    assert caught.value.code == "runtime.runner"
    assert "7" in str(caught.value.found)
    assert "broken" in str(caught.value.found)
