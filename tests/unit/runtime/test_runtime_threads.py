from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from runtime_bundles import CountingEngine, all_modules, images, open_session

from ebbtide.runtime import Result

NAMES = ("full", "sure", "small", "extra")
PREDICTORS = 8
SECONDS = 2.0


@pytest.fixture(autouse=True)
def _eager_interpreter() -> Iterator[None]:
    """Change threads fifty times as often as usual, so that a race has a chance to show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("residency", ["all", "active"])
def test_every_result_equals_the_configuration_it_reports_when_another_thread_switches(residency: str) -> None:
    """Eight threads predict while one switches; not one prediction is lost, mixed or run in a closed program."""
    pixels = images(16)
    engine = CountingEngine(all_modules())
    with open_session(engine, residency=residency) as session:
        alone: dict[str, list[Result]] = {}
        for name in NAMES:
            session.switch(name)
            alone[name] = [session.predict(image) for image in pixels]
        stop = threading.Event()
        found: list[list[tuple[int, Result]]] = [[] for _ in range(PREDICTORS)]
        failures: list[BaseException] = []
        switches = 0

        def predict(worker: int) -> None:
            turn = random.Random(worker)
            try:
                while not stop.is_set():
                    index = turn.randrange(len(pixels))
                    found[worker].append((index, session.predict(pixels[index])))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=predict, args=(worker,)) for worker in range(PREDICTORS)]
        for thread in threads:
            thread.start()
        turn = random.Random(99)
        start = time.monotonic()
        while switches < 60 or time.monotonic() < start + SECONDS:
            name = turn.choice(NAMES)
            assert session.switch(name, reason=f"to {name}").configuration == name
            assert session.current.configuration == name
            switches += 1
            time.sleep(0.0005)
        stop.set()
        for thread in threads:
            thread.join(30)
        assert not failures
        assert engine.most <= 2
    assert engine.open == []
    results = [pair for worker in found for pair in worker]
    assert {result.configuration for _, result in results} == set(NAMES)
    for index, result in results:
        expected = alone[result.configuration][index]
        assert result.reason == f"to {result.configuration}" or result.configuration == NAMES[-1]
        assert (result.label, result.left_at, result.tier) == (expected.label, expected.left_at, expected.tier)
        np.testing.assert_array_equal(result.logits, expected.logits)
        assert [name for name, _ in result.times.methods] == [name for name, _ in expected.times.methods]


def test_switches_of_several_threads_leave_one_program_loaded_when_residency_is_active() -> None:
    engine = CountingEngine(all_modules())
    with open_session(engine, residency="active") as session:

        def switch(worker: int) -> None:
            turn = random.Random(worker)
            for _ in range(40):
                session.switch(turn.choice(NAMES))

        threads = [threading.Thread(target=switch, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        width = "w50" if session.current.configuration in {"small", "extra"} else "w100"
        assert engine.open == [width]
        assert engine.most == 2


def test_switch_waits_for_running_predictions_before_it_closes_a_program_when_residency_is_active() -> None:
    engine = CountingEngine(all_modules())
    with open_session(engine, residency="active") as session:
        with session.pinned() as pinned:
            switcher = threading.Thread(target=session.switch, args=("small",))
            switcher.start()
            deadline = time.monotonic() + 10
            while session.current.configuration != "small" and time.monotonic() < deadline:
                time.sleep(0.001)
            assert session.predict(images(1)[0]).configuration == "small", "new predictions do not wait"
            assert switcher.is_alive()
            assert sorted(engine.open) == ["w100", "w50"]
            assert pinned.id == "full"
        switcher.join(10)
        assert engine.open == ["w50"]
