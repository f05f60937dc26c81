"""Switching between widths in the background, while predictions go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from runtime_bundles import CountingEngine, all_modules, images, open_session, scaled

from ebbtide.engine import Loaded
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Session

ONE = images(1)[0]


class SlowEngine(CountingEngine):
    """Loads, once it is told to be slow, only when it is let."""

    def __init__(self) -> None:
        super().__init__(all_modules())
        self.slow = False
        self.loading, self.let = threading.Event(), threading.Event()

    def load(self, path: Path) -> Loaded:
        if self.slow:
            self.loading.set()
            assert self.let.wait(20)
        return super().load(path)


@pytest.fixture
def engine() -> SlowEngine:
    return SlowEngine()


@pytest.fixture
def session(engine: SlowEngine) -> Iterator[Session]:
    with open_session(engine, residency="active") as opened:
        engine.slow = True
        yield opened
        engine.let.set()


def test_old_width_answers_when_the_new_one_is_loading(engine: SlowEngine, session: Session) -> None:
    begun = session.begin_switch("small", reason="hot")
    assert engine.loading.wait(10)
    for _ in range(20):
        assert session.predict(ONE).configuration == "full"
    assert not begun.done()
    assert session.current.configuration == "full"
    with session.pinned() as pinned:
        engine.let.set()
        deadline = time.monotonic() + 10
        while session.current.configuration != "small" and time.monotonic() < deadline:
            time.sleep(0.001)
        result = session.predict(ONE)
        assert (result.configuration, result.reason) == ("small", "hot")
        assert sorted(engine.open) == ["w100", "w50"], "the old program stays for its last prediction"
        assert pinned.steps[0].run("stage0", scaled(images(1)))[0].shape == (1, 6, 8, 8)
    assert begun.result(10).configuration == "small"
    assert engine.open == ["w50"]


def test_waiting_switch_is_cancelled_when_a_newer_one_is_begun(engine: SlowEngine, session: Session) -> None:
    first = session.begin_switch("small")
    assert engine.loading.wait(10)
    second, third = session.begin_switch("sure"), session.begin_switch_tier(0, reason="cool")
    with pytest.raises(CancelledError):
        second.result(10)
    engine.let.set()
    assert first.result(10).configuration == "small"
    assert (third.result(10).configuration, third.result().reason) == ("full", "cool")
    assert engine.open == ["w100"]


def test_next_switch_can_be_begun_when_a_cancelled_one_is_told(engine: SlowEngine, session: Session) -> None:
    first = session.begin_switch("small")
    assert engine.loading.wait(10)
    told = threading.Event()
    second = session.begin_switch("sure")
    second.add_done_callback(lambda _: (session.begin_switch("extra"), told.set()))
    third = session.begin_switch("full")
    assert told.wait(10)
    engine.let.set()
    first.result(10)
    with pytest.raises(CancelledError):
        third.result(10)


def test_switch_begun_is_refused_at_once_when_it_cannot_be_made(engine: SlowEngine, session: Session) -> None:
    for call, code in (
        (lambda: session.begin_switch("smal"), "runtime.configuration"),
        (lambda: session.begin_switch_tier(3), "runtime.tier"),
    ):
        with pytest.raises(EbbtideError) as caught:
            call()
        assert caught.value.code == code
    engine.slow = False
    session.set_minimum_accuracy(0.9)
    with pytest.raises(EbbtideError) as caught:
        session.begin_switch("small")
    assert caught.value.code == "runtime.below_floor"
    assert session.begin_switch_tier(2).result(10).configuration == "sure"


def test_width_in_force_stays_when_a_load_in_the_background_fails(engine: SlowEngine, session: Session) -> None:
    engine.slow = False
    engine.broken.add("w50")
    with pytest.raises(OSError, match="flash"):
        session.begin_switch("small").result(10)
    assert session.predict(ONE).configuration == "full"
    engine.broken.clear()
    assert session.begin_switch("small").result(10).configuration == "small"


def test_close_ends_what_is_loading_and_cancels_what_waits(engine: SlowEngine, session: Session) -> None:
    first = session.begin_switch("small")
    assert engine.loading.wait(10)
    second = session.begin_switch("full")
    closer = threading.Thread(target=session.close)
    closer.start()
    with pytest.raises(CancelledError):
        second.result(10)
    engine.let.set()
    closer.join(10)
    assert not closer.is_alive()
    assert first.done()
    assert engine.open == []
    for begin in (lambda: session.begin_switch("small"), lambda: session.begin_switch_tier(0)):
        with pytest.raises(EbbtideError) as caught:
            begin()
        assert caught.value.code == "runtime.closed"


def test_switch_waits_for_no_prediction_when_it_keeps_the_programs(engine: SlowEngine, session: Session) -> None:
    with session.pinned() as pinned:
        assert session.switch("sure").configuration == "sure"
        assert session.predict(ONE).configuration == "sure"
        assert pinned.id == "full"
    assert (engine.open, engine.loads) == (["w100"], 1)
