from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runtime_bundles import SURE, CountingEngine, Folder, all_modules, images, manifest, open_session, scaled

from ebbtide.bundle.manifest import OutsideEntry
from ebbtide.engine import Array, EagerEngine
from ebbtide.errors import EbbtideError
from ebbtide.profiling import Plan
from ebbtide.runtime import BenchReport, Session, bench, evaluate, session_overhead


class ArraySplit:
    def __init__(self, tensors: np.ndarray) -> None:
        self._tensors = tensors

    def __len__(self) -> int:
        return len(self._tensors)

    def tensor(self, indices: np.ndarray) -> np.ndarray:
        return self._tensors[indices]


def test_evaluate_tells_what_is_outside_as_single_predictions_do() -> None:
    pixels = images(40)
    with open_session() as session:
        plain = evaluate(session, ArraySplit(scaled(pixels)))
        middle = float(np.float32(np.median(-plain.confidences) + 1e-4))
    assert (plain.outside, plain.outside_share) == (None, None)
    source = Folder(manifest(outside=OutsideEntry(score="confidence", fallback=None), outside_above=middle))
    with Session(source, EagerEngine(all_modules()), configuration="sure") as session:
        found = evaluate(session, ArraySplit(scaled(pixels)))
        assert found.outside is not None
        assert found.outside.tolist() == [session.predict(image).outside for image in pixels]
    assert found.outside_share == pytest.approx(found.outside.mean())
    assert 0 < found.outside.sum() < len(pixels)


@pytest.mark.parametrize("count", [1, 256, 300])
def test_evaluate_equals_single_predictions_when_run_over_a_split(count: int) -> None:
    pixels = images(count)
    with open_session(configuration="sure") as session:
        found = evaluate(session, ArraySplit(scaled(pixels)))
        results = [session.predict(image) for image in pixels]
    np.testing.assert_array_equal(found.labels, [result.label for result in results])
    np.testing.assert_array_equal(found.positions, [result.position for result in results])
    np.testing.assert_array_equal(found.probabilities, [result.probabilities for result in results])
    np.testing.assert_array_equal(found.logits, [result.logits for result in results])
    np.testing.assert_array_equal(found.confidences, np.float32([result.confidence for result in results]))
    assert [found.left_at_names[step] for step in found.steps] == [result.left_at for result in results]
    assert found.accuracy(found.labels) == 1
    assert found.accuracy(found.labels + 1) == 0


def test_evaluate_counts_shares_and_macs_when_some_samples_leave_early() -> None:
    with open_session(configuration="sure") as session:
        found = evaluate(session, ArraySplit(scaled(images(100))))
    early = found.confidences[found.positions == 0]
    assert 0 < len(early) < 100
    assert (early > SURE).all()
    assert found.exit_shares == {"w100/exit0": len(early) / 100, "w100/head": 1 - len(early) / 100}
    at_exit, at_head = 6 * 576 + 24, 6 * 576 + 24 + 36 * 144 + 24
    assert found.mean_macs == pytest.approx((len(early) * at_exit + (100 - len(early)) * at_head) / 100)


def test_evaluate_keeps_its_configuration_when_another_is_switched_to() -> None:
    class Switching(ArraySplit):
        def tensor(self, indices: np.ndarray) -> np.ndarray:
            session.switch("small")
            return super().tensor(indices)

    with open_session(configuration="full") as session:
        found = evaluate(session, Switching(scaled(images(300))))
        assert session.current.configuration == "small"
    assert found.configuration == "full"
    assert found.left_at_names == ("w100/head",)


def test_bench_times_every_tier_over_the_samples_when_asked() -> None:
    pixels = images(30)
    with open_session(CountingEngine(all_modules())) as session:
        session.switch("extra", reason="mine")
        report = bench(session, pixels, warm_up=2, rounds=3, threads=1)
        assert (session.current.configuration, session.current.reason) == ("extra", "mine")
        session.switch("sure")
        early = sum(session.predict(image).left_at == "w100/exit0" for image in pixels)
    assert [entry.configuration for entry in report.configurations] == ["full", "sure", "small"]
    assert [entry.tier for entry in report.configurations] == [0, 1, 2]
    sure = report.configurations[1]
    assert sure.total.calls == 90
    assert len(sure.total.round_p50_us) == 3
    assert sure.exit_shares["w100/exit0"] == pytest.approx(early / 30)
    assert sure.methods["w100/stage0"].calls == 90
    assert sure.methods["w100/stage1"].calls == 3 * (30 - early)
    assert sure.total.p50_us <= sure.total.p90_us
    assert sure.total.p50_us > sure.methods["w100/stage0"].p50_us + sure.preprocess.p50_us
    assert BenchReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize(("samples", "names"), [(0, None), (3, ())])
def test_bench_refuses_when_there_is_nothing_to_time(samples: int, names: tuple[str, ...] | None) -> None:
    with open_session() as session, pytest.raises(EbbtideError) as caught:
        bench(session, images(samples), configurations=names)
    assert caught.value.code == "runtime.bench"


def test_bench_puts_the_configuration_back_when_a_sample_is_bad() -> None:
    with open_session() as session:
        with pytest.raises(EbbtideError):
            bench(session, [images(1)[0], "no image"], configurations=["small"])
        assert session.current.configuration == "full"


class Instant:
    """An engine whose methods take no time, so that the session's own is all there is."""

    name = "eager"
    methods = ("stage0", "exit0", "stage1", "head")

    def load(self, path: Path) -> Instant:
        return self

    def run(self, method: str, value: Array) -> tuple[Array, ...]:
        return (value,) if method.startswith("stage") else self.outputs

    def close(self) -> None:
        return

    outputs = (np.full((1, 4), 0.25, np.float32), np.zeros(1, np.float32), np.zeros((1, 4), np.float32))


def test_session_costs_less_than_fifty_microseconds_when_methods_take_none() -> None:
    with open_session(Instant(), configuration="full") as session:
        # The fastest calls of several tries: the median is the benchmark's to report, on a machine of its own.
        found = [session_overhead(session, scaled(images(1)), plan=Plan(20, 10, 50, 2)) for _ in range(4)]
    assert 0 < min(overhead.minimum_us for overhead in found) < 50
    assert all(overhead.comparison.a.calls == 500 for overhead in found)
