"""Long runs under load: whether a prediction is lost or wrong, or memory grows, while configurations change.

`adaptive_soak` lets random signals change them; `widths_runtime.soak` lets a thread switch them.
"""

from __future__ import annotations

import gc
import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from widths_programs import Widths

from ebbtide.engine import Array, ExecuTorchEngine
from ebbtide.lowering import LoweredProgram
from ebbtide.runtime import Result, Session
from ebbtide.runtime.adaptive import AdaptiveSession
from ebbtide.runtime.policy import Decision, Signals
from ebbtide.runtime.polling import monotonic_ms


@dataclass
class Soak:
    """What a soak found: `wrong` results differ from what their configuration gives alone, `lost` never came.

    `growth_kib` is how much VmRSS grew from the end of the warm-up (a tenth of the predictions) to the end; `rss_kib`
    are the samples taken, one a second. `switches` put another configuration in force; `decisions` are a policy's.
    """

    predictions: int = 0
    wrong: int = 0
    lost: int = 0
    switches: int = 0
    decisions: int = 0
    by_configuration: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    growth_kib: int = 0
    rss_kib: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def under_load(
    predict: Callable[[Array], Result],
    inputs: Array,
    alone: Mapping[str, Sequence[Array]],
    *,
    meanwhile: Callable[[Soak], None],
    predictions: int,
    threads: int,
    seed: int,
) -> Soak:
    """Predict in many threads and hold each result, bit for bit, against what its configuration gives alone.

    Args:
        predict: of a session, from any thread.
        inputs: taken at random.
        alone: logits by configuration and input, see `answers`.
        meanwhile: called again and again in this thread until all predictions are made; it should sleep in between.
        predictions: of all threads together.
        threads: that predict.
        seed: of the choice of inputs.
    """
    found = Soak()
    share = [predictions // threads + (worker < predictions % threads) for worker in range(threads)]
    tallies: list[dict[str, int]] = [{} for _ in range(threads)]
    wrong, started = [0] * threads, [0] * threads

    def work(worker: int) -> None:
        turn, tally = random.Random(seed + worker), tallies[worker]
        try:
            for _ in range(share[worker]):
                index = turn.randrange(len(inputs))
                started[worker] += 1
                result = predict(inputs[index])
                name = result.configuration
                tally[name] = tally.get(name, 0) + 1
                wrong[worker] += not np.array_equal(result.logits, alone[name][index])
        except BaseException as error:
            found.errors.append(repr(error))

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(threads)]
    begin, next_sample, warm = time.monotonic(), 0.0, None
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        meanwhile(found)
        now = time.monotonic() - begin
        if now >= next_sample:
            found.rss_kib.append(rss_kib())
            next_sample = now + 1
        if warm is None and sum(started) >= predictions // 10:
            warm = rss_kib()
    for worker in workers:
        worker.join()
    found.seconds = time.monotonic() - begin
    gc.collect()
    found.growth_kib = rss_kib() - (warm or found.rss_kib[0])
    for tally in tallies:
        for name, count in tally.items():
            found.by_configuration[name] = found.by_configuration.get(name, 0) + count
    found.predictions = sum(found.by_configuration.values())
    found.wrong, found.lost = sum(wrong), predictions - found.predictions
    return found


class RandomSignals:
    """A phone that gets hot and cools at random, and now and then runs low, is plugged in or saves power."""

    def __init__(self, seed: int) -> None:
        self._turn = random.Random(seed)
        self._left = 0
        self._heat_mh = 0

    def read(self, t_ms: int) -> Signals:
        turn = self._turn
        if self._left == 0:
            # Long enough for the policy's hold to end now and then.
            self._left, self._heat_mh = turn.randrange(5, 40), turn.choice((300, 780, 880, 970))
        self._left -= 1
        return Signals(
            t_ms,
            turn.choice((None, self._heat_mh + turn.randrange(-30, 30), self._heat_mh)),
            headroom_age_ms=turn.choice((0, 0, 20_000)),
            android_status=turn.choice((None, 0, 0, 0, 1)),
            battery_percent=turn.choice((None, 100, 21, 19)),
            charging=turn.random() < 0.9,
            saver=turn.random() < 0.02,
        )

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def close(self) -> None:
        pass


def adaptive_soak(
    programs: Sequence[LoweredProgram],
    *,
    predictions: int = 1_000_000,
    threads: int = 8,
    residency: Literal["all", "active"] = "all",
    times_faster: int = 1_000,
    seed: int = 0,
    log: Path | None = None,
) -> Soak:
    """Predict in many threads through an adaptive session on random signals.

    Time runs faster than it does, so that 5 s between two readings are 5 ms and the minute before a tier goes up is
    60 ms. Meanwhile this thread tells of events, holds tiers in force and lets go of them.

    Args:
        programs: of several widths, the widest first; see `widths_programs.small_widths`.
        predictions: of all threads together.
        threads: that predict.
        residency: of the session.
        times_faster: than the wall clock.
        seed: of signals, inputs and events.
        log: of the decisions; None for none.
    """
    widths = Widths.of(programs)
    inputs = widths.samples(16, seed)
    changes: list[str] = []

    def wait(condition: threading.Condition, timeout_s: float | None) -> None:
        condition.wait(None if timeout_s is None else timeout_s / times_faster)

    with Session(widths, ExecuTorchEngine(threads=1), residency=residency) as session:
        alone = {name: answers(session, name, inputs) for name in widths.names}
        session.switch(widths.names[0])

        def decided(decision: Decision) -> None:
            changes.append(session.current.configuration)

        with AdaptiveSession(
            session,
            RandomSignals(seed),
            clock_ms=lambda: monotonic_ms() * times_faster,
            wait=wait,
            on_decision=decided,
            log=log,
        ) as adaptive:
            turn = random.Random(seed - 1)

            def disturb(found: Soak) -> None:
                time.sleep(turn.random() * 0.01)
                event = turn.randrange(20)
                if event == 0:
                    adaptive.override(turn.choice((None, *range(len(widths.names)))))
                elif event == 1:
                    adaptive.limit(*sorted(turn.choices(range(len(widths.names)), k=2)))
                elif event < 4:
                    adaptive.override(None)
                    adaptive.limit()
                else:
                    adaptive.notify()

            found = under_load(
                adaptive.predict_tensor,
                inputs,
                alone,
                meanwhile=disturb,
                predictions=predictions,
                threads=threads,
                seed=seed,
            )
    found.decisions = len(changes)
    found.switches = sum(before != after for before, after in itertools.pairwise(changes))
    return found


def answers(session: Session, name: str, inputs: Array) -> list[Array]:
    """The logits that a configuration gives for each input when nothing else happens."""
    session.switch(name)
    return [session.predict_tensor(value).logits for value in inputs]


def rss_kib() -> int:
    """This process's resident memory, KiB."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1])
