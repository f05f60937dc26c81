from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from runtime_time import Time

from ebbtide.errors import EbbtideError
from ebbtide.runtime.polling import Poller, Schedule, monotonic_ms


class Polls:
    """A poller on time that the test moves, and when it polled."""

    def __init__(self) -> None:
        self.time, self.at_ms = Time(), list[int]()
        self.poller = Poller(
            lambda: self.at_ms.append(self.time.now_ms),
            Schedule(5_000, 30_000),
            clock_ms=self.time.clock_ms,
            wait=self.time.wait,
        )


@pytest.fixture
def polls() -> Iterator[Polls]:
    made = Polls()
    yield made
    made.poller.close()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ebbtide-signals"]


def test_schedule_polls_at_once_and_then_every_interval_when_it_is_used() -> None:
    schedule = Schedule(5_000, 30_000)
    assert schedule.wait_ms(100) is None
    schedule.used_ms = 100
    assert schedule.wait_ms(100) == 0
    schedule.polled(100)
    assert [schedule.wait_ms(t) for t in (100, 101, 5_099, 5_100, 9_000)] == [5_000, 4_999, 1, 0, 0]


def test_schedule_is_idle_from_the_interval_after_the_last_use_on() -> None:
    schedule = Schedule(5_000, 30_000)
    schedule.used_ms = 0
    schedule.polled(28_000)
    assert schedule.wait_ms(29_999) == 3_001
    assert schedule.wait_ms(30_000) is None
    schedule.used_ms = 30_001
    assert schedule.wait_ms(30_001) == 0, "a use after a pause does not wait for the old interval"


def test_schedule_polls_at_once_when_asked_idle_or_not() -> None:
    schedule = Schedule(5_000, 30_000)
    schedule.ask()
    assert schedule.wait_ms(7) == 0
    schedule.polled(7)
    assert schedule.wait_ms(8) is None, "an event is one poll, not the end of a pause"
    schedule.used_ms = 10
    schedule.polled(10)
    schedule.ask()
    assert schedule.wait_ms(11) == 0


def test_schedule_waits_one_interval_at_most_when_the_clock_was_set_back() -> None:
    schedule = Schedule(5_000, 30_000)
    schedule.used_ms = 1_000_000
    schedule.polled(1_000_000)
    assert schedule.wait_ms(500) == 5_000


@pytest.mark.parametrize(("poll_ms", "idle_ms", "place"), [(0, 1, "poll_ms"), (1, -5, "idle_ms"), (1.5, 1, "poll_ms")])
def test_schedule_refuses_when_an_interval_is_not_positive(poll_ms: int, idle_ms: int, place: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        Schedule(poll_ms, idle_ms)
    assert (caught.value.code, caught.value.place) == ("runtime.interval", place)


def test_poller_has_no_thread_when_nothing_has_used_it(polls: Polls) -> None:
    assert not threads()
    polls.poller.close()
    assert not threads()
    assert polls.at_ms == []


def test_poller_polls_while_it_is_used_and_parks_when_idle(polls: Polls) -> None:
    with polls.time.settled():
        polls.poller.use()
    assert [thread.daemon for thread in threads()] == [True]
    assert (polls.at_ms, polls.time.waits) == ([1_000], [5.0])
    polls.time.advance(2_000)
    assert (polls.at_ms, polls.time.waits[-1]) == ([1_000], 3.0)
    for _ in range(10):
        polls.poller.use()
        polls.time.advance(5_000)
    assert polls.at_ms == [1_000, *range(8_000, 58_000, 5_000)]
    used_ms = polls.time.now_ms - 5_000
    while polls.time.waits[-1] is not None:
        polls.time.advance(5_000)
    assert polls.time.now_ms == used_ms + 30_000
    polled = list(polls.at_ms)
    polls.time.advance(3_600_000)
    assert (polls.at_ms, polls.time.waits[-1]) == (polled, None), "nothing ticks when idle"
    with polls.time.settled():
        polls.poller.use()
    assert polls.at_ms == [*polled, polls.time.now_ms]
    assert len(threads()) == 1


def test_poller_polls_once_at_once_when_asked(polls: Polls) -> None:
    with polls.time.settled():
        polls.poller.ask()
    assert (polls.at_ms, polls.time.waits) == ([1_000], [None])
    with polls.time.settled():
        polls.poller.use()
    polls.time.advance(1_000)
    with polls.time.settled():
        polls.poller.ask()
    assert (polls.at_ms, polls.time.waits[-1]) == ([1_000, 1_000, 2_000], 5.0)


def test_poller_goes_on_when_a_poll_raises(caplog: pytest.LogCaptureFixture) -> None:
    time, polled = Time(), list[int]()

    def poll() -> None:
        polled.append(time.now_ms)
        raise ZeroDivisionError("sensor")

    poller = Poller(poll, Schedule(5_000, 30_000), clock_ms=time.clock_ms, wait=time.wait)
    with time.settled():
        poller.use()
    time.advance(5_000)
    poller.close()
    assert polled == [1_000, 6_000]
    assert "ZeroDivisionError: sensor" in caplog.text


def test_poller_ends_its_thread_when_closed_from_a_poll() -> None:
    time, closed = Time(), threading.Event()

    def poll() -> None:
        poller.close()
        closed.set()

    poller = Poller(poll, Schedule(5_000, 30_000), clock_ms=time.clock_ms, wait=time.wait)
    poller.use()
    assert closed.wait(20)
    poller.close()
    assert not threads()
    poller.use()
    poller.ask()
    assert not threads()


def test_poller_sees_every_first_use_when_it_is_just_parking() -> None:
    """Real threads and waits: the clock jumps past the pause, so the thread parks while others begin to use it."""
    time, polled = Time(), threading.Semaphore(0)
    poller = Poller(polled.release, Schedule(1, 1), clock_ms=time.clock_ms)
    try:
        for _ in range(1_000):
            time.now_ms += 1_000
            users = [threading.Thread(target=poller.use) for _ in range(2)]
            for user in users:
                user.start()
            assert polled.acquire(timeout=20), "a use was not seen"
            for user in users:
                user.join()
    finally:
        poller.close()
    assert not polled.acquire(blocking=False), "one poll for each"


def test_poller_sees_a_use_that_comes_between_its_last_look_and_its_parking() -> None:
    time, schedule, polled = Time(), Schedule(5_000, 30_000), list[int]()

    def clock_ms() -> int:
        if poller._parked and threading.current_thread().name == "ebbtide-signals":
            # As `use` of a thread that looked at `_parked` just before does it: without a notification.
            schedule.used_ms = time.now_ms
        return time.now_ms

    poller = Poller(lambda: polled.append(time.now_ms), schedule, clock_ms=clock_ms, wait=time.wait)
    with time.settled():
        poller.ask()
    poller.close()
    assert (polled, time.waits) == ([1_000, 1_000], [5.0]), "once for the event, once for the use"


def test_monotonic_ms_never_goes_back() -> None:
    readings = [monotonic_ms() for _ in range(1_000)]
    assert readings == sorted(readings)
