"""The whole road's last part: real programs, a signed and packed bundle, a store, ExecuTorch."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest
from runtime_bundles import CountingEngine, Folder, all_modules, images, manifest, scaled
from runtime_programs import installed

from ebbtide.bundle import Bundle
from ebbtide.engine import ExecuTorchEngine
from ebbtide.errors import EbbtideError
from ebbtide.profiling import Plan, Target, measure, path_targets
from ebbtide.runtime import Session, evaluate, session_overhead

NAMES = ("full", "sure", "small", "extra")


@pytest.fixture(scope="module")
def bundle(small_programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Lower, write, sign, pack, install: what `open_session` fakes, for real."""
    return installed(manifest(), small_programs, tmp_path_factory.mktemp("road"))


def test_session_decides_as_the_modules_do_when_run_by_executorch(bundle: Bundle) -> None:
    pixels = images(60)
    with (
        Session(bundle, ExecuTorchEngine()) as real,
        Session(Folder(manifest()), CountingEngine(all_modules())) as eager,
    ):
        for name in NAMES:
            real.switch(name)
            eager.switch(name)
            left_at = set()
            for image in pixels:
                found, expected = real.predict(image), eager.predict(image)
                np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)
                assert found.probability == pytest.approx(expected.probability, abs=1e-4)
                assert (found.label, found.left_at) == (expected.label, expected.left_at)
                left_at.add(found.left_at)
            assert len(left_at) == (2 if name in {"sure", "small"} else 1)


@pytest.mark.parametrize("residency", ["all", "active"])
def test_results_equal_their_configuration_when_executorch_runs_in_threads(bundle: Bundle, residency: str) -> None:
    pixels = images(8)
    with Session(bundle, ExecuTorchEngine(), residency=residency) as session:
        alone = {}
        for name in NAMES:
            session.switch(name)
            alone[name] = [session.predict(image) for image in pixels]
        stop, failures, counts = threading.Event(), [], [0] * 4

        def predict(worker: int) -> None:
            turn = random.Random(worker)
            try:
                while not stop.is_set():
                    index = turn.randrange(len(pixels))
                    result = session.predict(pixels[index])
                    np.testing.assert_array_equal(result.logits, alone[result.configuration][index].logits)
                    counts[worker] += 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=predict, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        turn = random.Random(7)
        for _ in range(40):
            session.switch(turn.choice(NAMES))
            stop.wait(0.01)
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not failures
    assert min(counts) > 0


def test_evaluate_equals_predictions_when_run_by_executorch(bundle: Bundle) -> None:
    class Tensors:
        def __len__(self) -> int:
            return len(pixels)

        def tensor(self, indices: np.ndarray) -> np.ndarray:
            return scaled(pixels)[indices]

    pixels = images(50)
    with Session(bundle, ExecuTorchEngine(), configuration="small") as session:
        found = evaluate(session, Tensors())
        results = [session.predict(image) for image in pixels]
    np.testing.assert_array_equal(found.logits, [result.logits for result in results])
    assert [found.left_at_names[step] for step in found.steps] == [result.left_at for result in results]


def test_measure_times_methods_and_paths_when_programs_are_lowered(bundle: Bundle) -> None:
    engine = ExecuTorchEngine()
    entry = bundle.manifest.files[0]
    loaded = engine.load(bundle.path_of(entry.path))
    target = Target(loaded, entry.sha256)
    paths = path_targets({"w100": target}, {"whole": [f"w100/{name}" for name in ("stage0", "stage1", "head")]})
    record = measure(
        [target],
        sample=scaled(images(1)),
        engine=engine.name,
        paths=paths,
        plan=Plan(5, 5, 20),
        threads=engine.threads,
    )
    loaded.close()
    whole = record.find_path("whole")
    summed = record.sum_p50_us([(entry.sha256, name) for name in ("stage0", "stage1", "head")])
    assert whole is not None
    assert summed is not None
    assert whole.timing.p50_us == pytest.approx(summed, rel=0.6)


@pytest.mark.slow
def test_session_costs_less_than_fifty_microseconds_when_run_by_executorch(bundle: Bundle) -> None:
    with Session(bundle, ExecuTorchEngine(), configuration="full") as session:
        found = session_overhead(session, scaled(images(1)), plan=Plan(20, 20, 20, 2))
    assert 0 < found.minimum_us < 50


def test_session_refuses_when_a_program_is_damaged_after_it_was_installed(bundle: Bundle, tmp_path: Path) -> None:
    class Damaged:
        manifest = bundle.manifest

        def path_of(self, path: str) -> Path:
            data = bundle.path_of(path).read_bytes()
            (tmp_path / "cut.pte").write_bytes(data[: len(data) // 2])
            return tmp_path / "cut.pte"

    with pytest.raises(EbbtideError) as caught:
        Session(Damaged(), ExecuTorchEngine())
    assert caught.value.code == "engine.load"
