"""What switching between nested widths costs at run time, and whether anything is lost or wrong while it happens.

Every function takes lowered programs, one a width, the widest first (see `widths_programs.lower_widths`), and gives
one value a round. Times are wall clock. Other work on the machine is kept out where the system tells of it: a turn in
which the scheduler took the core away (an involuntary context switch of this thread) is dropped and made again.
"""

from __future__ import annotations

import gc
import itertools
import random
import resource
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from soak import Soak, answers, under_load
from widths_programs import Widths

from ebbtide.bundle.payload import compress, dictionary_for, file_blocks
from ebbtide.engine import ExecuTorchEngine
from ebbtide.lowering import LoweredProgram
from ebbtide.profiling import Plan, time_interleaved
from ebbtide.runtime import Session

_clock = time.perf_counter_ns
_CACHES = 16 * 1024 * 1024  # bytes that go through the caches of one core and leave nothing else in them


def soak(
    programs: Sequence[LoweredProgram],
    *,
    residency: Literal["all", "active"],
    predictions: int = 1_000_000,
    threads: int = 8,
    every_s: float = 0.05,
    seed: int = 0,
) -> Soak:
    """Predict in many threads while another one switches at random, every `every_s` seconds on average.

    Each result is held, bit for bit, against what the configuration that it reports gives alone for that input.
    """
    widths = Widths.of(programs)
    inputs = widths.samples(16, seed)
    with Session(widths, ExecuTorchEngine(threads=1), residency=residency) as session:
        alone = {name: answers(session, name, inputs) for name in widths.names}
        turn, begin = random.Random(seed - 1), time.monotonic()

        def switch(found: Soak) -> None:
            # By the clock, so that what a switch itself takes does not make them fewer.
            time.sleep(max(0.0, begin + found.switches * every_s - time.monotonic()))
            session.switch(turn.choice([name for name in widths.names if name != session.current.configuration]))
            found.switches += 1

        return under_load(
            session.predict_tensor, inputs, alone, meanwhile=switch, predictions=predictions, threads=threads, seed=seed
        )


def down_and_up(programs: Sequence[LoweredProgram], *, residency: Literal["all", "active"]) -> int:
    """How many outputs differ in a bit when the session goes through all widths down and up again (X-10)."""
    widths = Widths.of(programs)
    inputs = widths.samples(8)
    with Session(widths, ExecuTorchEngine(threads=1), residency=residency) as session:
        down = {name: answers(session, name, inputs) for name in widths.names}
        up = {name: answers(session, name, inputs) for name in reversed(widths.names)}
    return sum(a.tobytes() != b.tobytes() for name in down for a, b in zip(down[name], up[name], strict=True))


@dataclass(frozen=True)
class ResidentSwitches:
    """One value a round and pair of widths, microseconds.

    `added_us`: the first prediction after the switch over a steady one (the median of those that follow it);
    `call_us`: the call of `switch` itself, which comes before that prediction; `cold_us`: what is added, without any
    switch, to the first prediction of the same width after other memory went through the caches: the part of `added_us`
    that is not the session's; `pairs`: the widths of each.
    """

    added_us: tuple[float, ...]
    call_us: tuple[float, ...]
    cold_us: tuple[float, ...]
    pairs: tuple[str, ...]

    def of(self, pair: str) -> tuple[float, ...]:
        return tuple(a for a, name in zip(self.added_us, self.pairs, strict=True) if name == pair)


def switch_resident(
    programs: Sequence[LoweredProgram], *, rounds: int = 100, pause_s: float = 0.0, most_tries: int = 50
) -> ResidentSwitches:
    """What the first prediction after a switch costs more than a steady one, all widths resident.

    Every round goes once through all pairs of neighbouring widths, down and up.

    Args:
        programs: the widest first.
        rounds: values for each pair.
        pause_s: how long the thread sleeps before every prediction; 0 predicts back to back, so that a steady
            prediction finds its weights in the caches, which the first one after a switch cannot; a camera's frames
            leave both to whatever ran meanwhile.
        most_tries: how often a turn is made again when the core was taken away, before it is left out.
    """
    widths = Widths.of(programs)
    names = widths.names
    ways = [pair for pair in itertools.permutations(names, 2) if abs(names.index(pair[0]) - names.index(pair[1])) == 1]
    (sample,) = widths.samples(1)
    added: list[float] = []
    calls: list[float] = []
    cold: list[float] = []
    other = np.ones(_CACHES // 8)
    pairs: list[str] = []
    with Session(widths, ExecuTorchEngine(threads=1), residency="all") as session:

        def predict() -> float:
            if pause_s:
                time.sleep(pause_s)
            start = _clock()
            session.predict_tensor(sample)
            return (_clock() - start) / 1000

        def turn(before: str, after: str) -> tuple[float, float, float] | None:
            session.switch(before)
            for _ in range(3):
                predict()
            taken = _taken_away()
            start = _clock()
            session.switch(after)
            call = (_clock() - start) / 1000
            first = predict()
            steady = statistics.median([predict() for _ in range(4)][1:])
            other.sum()
            again = predict()
            return None if _taken_away() != taken else (first - steady, call, again - steady)

        gc.disable()
        try:
            for _ in range(rounds):
                for before, after in ways:
                    value = next((v for _ in range(most_tries) if (v := turn(before, after)) is not None), None)
                    if value is not None:
                        added.append(value[0])
                        calls.append(value[1])
                        cold.append(value[2])
                        pairs.append(f"{before} to {after}")
        finally:
            gc.enable()
    return ResidentSwitches(tuple(added), tuple(calls), tuple(cold), tuple(pairs))


@dataclass(frozen=True)
class ActiveSwitches:
    """One value a round: `first_ms` from the call of `switch` to the first answer of the new width; `answers` that the
    old width gave meanwhile; `longest_ms`: the longest time between two answers meanwhile."""

    first_ms: tuple[float, ...]
    answers: tuple[int, ...]
    longest_ms: tuple[float, ...]


def switch_active(
    programs: Sequence[LoweredProgram], *, before: str, after: str, rounds: int = 30, warm_up: int = 1
) -> ActiveSwitches:
    """Switch to a width that is not loaded while a thread predicts without a pause."""
    widths = Widths.of(programs)
    (sample,) = widths.samples(1)
    first: list[float] = []
    answers: list[int] = []
    longest: list[float] = []
    with Session(
        widths, ExecuTorchEngine(threads=1), residency="active", configuration=before, warm_up=warm_up
    ) as session:
        stop = threading.Event()
        stamps: list[tuple[int, str]] = []

        def predict() -> None:
            while not stop.is_set():
                result = session.predict_tensor(sample)
                stamps.append((_clock(), result.configuration))

        thread = threading.Thread(target=predict)
        thread.start()
        try:
            for _ in range(rounds):
                session.switch(before)
                time.sleep(0.05)
                stamps.clear()
                start = _clock()
                session.switch(after)
                deadline = time.monotonic() + 10
                while not any(name == after for _, name in list(stamps)) and time.monotonic() < deadline:
                    time.sleep(0.0005)
                seen = [(moment, name) for moment, name in list(stamps) if moment >= start]
                at = next(moment for moment, name in seen if name == after)
                moments = [start, *(moment for moment, _ in seen if moment <= at)]
                first.append((at - start) / 1e6)
                answers.append(sum(name == before for moment, name in seen if moment <= at))
                longest.append(max(b - a for a, b in itertools.pairwise(moments)) / 1e6)
        finally:
            stop.set()
            thread.join()
    return ActiveSwitches(tuple(first), tuple(answers), tuple(longest))


def payload_ratio(programs: Sequence[LoweredProgram]) -> float:
    """Bytes of one xz stream of all programs, the widest first, over that of the widest alone."""
    files = [entry.file for entry in programs]
    dictionary = dictionary_for(max(file.stat().st_size for file in files))

    def packed(chosen: Sequence[Path]) -> int:
        return sum(map(len, compress((block for file in chosen for block in file_blocks(file)), dictionary)))

    return packed(files) / packed(files[:1])


def latency_ratio(wide: LoweredProgram, narrow: LoweredProgram) -> list[float]:
    """Latency of the wide program over that of the narrow one, one thread, interleaved; one value a round."""
    times = times_of({"wide": wide, "narrow": narrow})
    return [a / b for a, b in zip(times["wide"], times["narrow"], strict=True)]


def times_of(programs: Mapping[str, LoweredProgram], *, rounds: int = 60, repeats: int = 10) -> dict[str, list[float]]:
    """Median microseconds of each program in every round, one thread, one after the other in each round."""
    engine = ExecuTorchEngine(threads=1)
    first = next(iter(programs.values()))
    sample = torch.randn(first.methods[0].inputs[0].shape, generator=torch.Generator().manual_seed(0)).numpy()
    loaded = {name: engine.load(entry.file) for name, entry in programs.items()}
    try:
        cases = {name: (lambda one=one: one.run("forward", sample)) for name, one in loaded.items()}
        times = time_interleaved(cases, Plan(warm_up=20, rounds=rounds, repeats=repeats, settle=2))
    finally:
        for one in loaded.values():
            one.close()
    return {name: list(timing.round_p50_us) for name, timing in times.items()}


def _taken_away() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
