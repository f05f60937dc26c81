"""The adaptive session with its thread: when it reads signals, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from runtime_adapting import HOT, IMAGE, Readings, Stepped, Threaded
from runtime_bundles import CountingEngine, Folder, all_modules, manifest, open_session

from ebbtide.engine import Array, Loaded
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Session
from ebbtide.runtime.policy import Decision, Signals
from ebbtide.runtime.signals import ScriptedSource


@pytest.fixture
def threaded(session: Session) -> Iterator[Threaded]:
    made = Threaded(session)
    with made.adaptive:
        yield made


def test_signals_are_read_while_predictions_are_made_and_not_when_idle(threaded: Threaded) -> None:
    reads = threaded.source.reads
    assert reads == []
    with threaded.time.settled():
        threaded.adaptive.predict(IMAGE)
    assert reads == [1_000], "at once with the first prediction"
    for _ in range(3):
        threaded.time.advance(5_000)
        threaded.adaptive.predict(IMAGE)
    assert reads == [1_000, 6_000, 11_000, 16_000]
    for _ in range(7):
        threaded.time.advance(5_000)
    assert reads[-1] == 41_000, "the last reading before 30 s without a prediction"
    assert threaded.time.waits[-1] is None
    threaded.time.advance(600_000)
    assert reads[-1] == 41_000
    threaded.source.heat(HOT)
    with threaded.time.settled():
        assert threaded.adaptive.predict(IMAGE).tier == 0, "no prediction waits for a reading"
    assert reads[-1] == threaded.time.now_ms
    result = threaded.adaptive.predict(IMAGE)
    assert (result.tier, result.reason) == (2, "down:headroom")


@pytest.mark.parametrize("how", ["notify", "listener"])
def test_signals_are_read_at_once_when_there_is_an_event(threaded: Threaded, how: str) -> None:
    with threaded.time.settled():
        threaded.adaptive.predict(IMAGE)
    threaded.time.advance(1_000)
    threaded.source.heat(HOT)
    with threaded.time.settled():
        if how == "notify":
            threaded.adaptive.notify()
        else:
            threaded.source.listener()
    assert threaded.source.reads == [1_000, 2_000]
    assert threaded.adaptive.predict(IMAGE).tier == 2
    assert threaded.time.waits[-1] == 5.0, "the next one is an interval later"


def test_event_is_read_once_when_idle(threaded: Threaded) -> None:
    with threaded.time.settled():
        threaded.adaptive.notify()
    assert threaded.source.reads == [1_000]
    assert threaded.time.waits == [None]


def test_failed_switch_is_tried_again_at_the_next_interval() -> None:
    engine = CountingEngine(all_modules())
    with open_session(engine, residency="active") as session:
        threaded = Threaded(session, Readings(HOT))
        engine.broken = {"w50"}
        with threaded.adaptive:
            with threaded.time.settled():
                threaded.adaptive.predict(IMAGE)
            assert threaded.adaptive.predict(IMAGE).tier == 0
            engine.broken = set()
            threaded.time.advance(5_000)
            assert threaded.adaptive.predict(IMAGE).tier == 2


class Held:
    """An engine whose programs wait, while `hold` is set, until they are let go."""

    name = "eager"

    def __init__(self) -> None:
        self._engine = CountingEngine(all_modules())
        self.hold, self.inside, self.go = False, threading.Event(), threading.Event()

    def load(self, path: Path) -> Loaded:
        loaded = self._engine.load(path)
        run = loaded.run

        def held(method: str, value: Array) -> tuple[Array, ...]:
            if self.hold:
                self.inside.set()
                assert self.go.wait(20)
            return run(method, value)

        loaded.run = held
        return loaded


def test_signals_are_read_when_a_long_prediction_begins_and_when_it_ends() -> None:
    engine = Held()
    with Session(Folder(manifest()), engine) as session:
        engine.hold, threaded = True, Threaded(session)
        with threaded.adaptive:
            predictor = threading.Thread(target=threaded.adaptive.predict, args=(IMAGE,))
            with threaded.time.settled():
                predictor.start()
            assert engine.inside.wait(20)
            assert threaded.source.reads == [1_000]
            threaded.time.advance(40_000)
            assert threaded.time.waits[-1] is None
            with threaded.time.settled():
                engine.go.set()
            predictor.join(20)
            assert threaded.source.reads == [1_000, 41_000]


def test_script_decides_through_the_thread_when_readings_are_put(session: Session) -> None:
    source = ScriptedSource()
    threaded = Threaded(session, source)
    with threaded.adaptive:
        with threaded.time.settled():
            source.put(Signals(threaded.time.now_ms, saver=True))
        assert threaded.adaptive.predict(IMAGE).reason == "down:saver"


def test_close_ends_everything_but_what_it_was_given(session: Session, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    threaded = Threaded(session, log=log)
    with threaded.time.settled():
        threaded.adaptive.predict(IMAGE)
    threaded.adaptive.close()
    threaded.adaptive.close()
    assert threaded.source.listener is None
    assert "ebbtide-signals" not in {thread.name for thread in threading.enumerate()}
    written = log.read_bytes()
    for refused in (
        lambda: threaded.adaptive.predict(IMAGE),
        lambda: threaded.adaptive.predict_tensor(np.zeros((1, 1, 8, 8), np.float32)),
        lambda: threaded.adaptive.override(1),
        lambda: threaded.adaptive.limit(1),
    ):
        with pytest.raises(EbbtideError) as caught:
            refused()
        assert caught.value.code == "runtime.closed"
    threaded.adaptive.notify()
    assert threaded.adaptive.poll() is None
    assert log.read_bytes() == written
    assert session.predict(IMAGE).tier == 0, "the session is the caller's"


def test_close_from_a_callback_ends_the_thread(session: Session) -> None:
    closed = threading.Event()

    def told(decision: Decision) -> None:
        threaded.adaptive.close()
        closed.set()

    threaded = Threaded(session, on_decision=told)
    threaded.adaptive.predict(IMAGE)
    assert closed.wait(20)
    for thread in threading.enumerate():
        if thread.name == "ebbtide-signals":
            thread.join(20)
            assert not thread.is_alive()


def test_source_that_cannot_be_listened_to_is_refused_and_nothing_stays_open(session: Session, tmp_path: Path) -> None:
    class Deaf(Readings):
        def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
            raise EbbtideError("signals.source", "There is no bus.")

    with pytest.raises(EbbtideError) as caught:
        Threaded(session, Deaf(), log=tmp_path / "log.jsonl")
    assert caught.value.code == "signals.source"
    assert not any(Path(link).resolve() == tmp_path / "log.jsonl" for link in Path("/proc/self/fd").glob("*"))


def test_failed_prediction_is_the_callers_and_is_not_recorded(session: Session) -> None:
    stepped = Stepped(session)
    with pytest.raises(EbbtideError):
        stepped.adaptive.predict("no image")
    assert stepped.adaptive.slowdown.predictions == 0
