"""What runs is what was searched: the session against records, sample by sample, and against itself after switches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_bundles import CountingEngine, all_modules, images, manifest, open_session, scaled
from runtime_programs import installed

from ebbtide.build.recording import record_program
from ebbtide.bundle import Bundle
from ebbtide.engine import Array, ExecuTorchEngine, Loaded
from ebbtide.exits import ExitKey, Records
from ebbtide.runtime import Result, Session, evaluate
from ebbtide.search import leaving

NAMES = ("full", "sure", "small", "extra")
COUNT = 400


@dataclass(frozen=True)
class Split:
    """Samples as a split has them."""

    values: Array
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def tensor(self, indices: np.ndarray) -> Array:
        return self.values[indices]

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self), size):
            yield torch.from_numpy(self.values[start : start + size]), torch.from_numpy(self.labels[start:][:size])


@pytest.fixture(scope="module")
def bundle(small_programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return installed(manifest(), small_programs, tmp_path_factory.mktemp("equal"))


@pytest.fixture(scope="module")
def split() -> Split:
    return Split(scaled(images(COUNT)), np.arange(COUNT, dtype=np.int64) % 4)


def recorded(bundle: Bundle, split: Split, width: str) -> Records:
    loaded = ExecuTorchEngine().load(bundle.path_of(f"programs/{width}.pte"))
    try:
        return record_program(
            loaded,
            [split],
            types={0: "pool-linear"},
            level=width,
            precision="float32",
            split_name="test",
            label="recording",
        ).records
    finally:
        loaded.close()


def test_run_time_equals_the_simulation_on_every_sample_of_a_split(bundle: Bundle, split: Split) -> None:
    """D-7, X-9: where it leaves, what it says, how sure it is and what it costs, through ExecuTorch."""
    ways = set()
    with Session(bundle, ExecuTorchEngine()) as session:
        for name in NAMES:
            session.switch(name)
            entry = next(one for one in bundle.manifest.configurations if one.id == name)
            width = entry.path[0].method.partition("/")[0]
            records = recorded(bundle, split, width)
            assert records.keys == (ExitKey(0, "pool-linear"),)
            threshold = next((step.threshold for step in entry.path if step.threshold is not None), np.inf)
            rows = leaving(records, np.array([threshold], dtype=np.float32))
            found = evaluate(session, split)
            leaves = [step.method for step in entry.path if "stage" not in step.method]
            expected = [leaves[-1] if row == 1 else leaves[0] for row in rows]
            assert [found.left_at_names[step] for step in found.steps] == expected
            samples = np.arange(COUNT)
            np.testing.assert_array_equal(found.labels, records.predictions[rows, samples])
            np.testing.assert_array_equal(found.confidences, records.confidences[rows, samples])
            assert found.accuracy(split.labels) == (records.predictions[rows, samples] == split.labels).mean()
            program = next(one for one in bundle.manifest.programs if one.id == width)
            methods = {one.name: one.macs for one in program.methods}
            through = sum(methods[step.method.partition("/")[2]] for step in entry.path)
            cheap = methods["stage0"] + methods["exit0"]
            np.testing.assert_array_equal(found.macs, np.where(rows == 1, through, cheap))
            ways |= set(expected)
    assert ways == {"w100/exit0", "w100/head", "w50/exit0", "w50/head"}


def test_single_predictions_equal_the_simulation_when_the_session_switches_before_each(
    bundle: Bundle, split: Split
) -> None:
    with Session(bundle, ExecuTorchEngine(), residency="active") as session:
        expected = {}
        for name in NAMES:
            session.switch(name)
            expected[name] = evaluate(session, split)
        for index in range(60):
            name = NAMES[index % len(NAMES)]
            session.switch(name)
            found = session.predict_tensor(split.values[index])
            whole = expected[name]
            assert (found.configuration, found.left_at) == (name, whole.left_at_names[whole.steps[index]])
            assert (found.label, found.confidence) == (whole.labels[index], whole.confidences[index])


def test_outputs_are_bit_equal_when_rows_and_widths_are_switched_back_and_forth(bundle: Bundle, split: Split) -> None:
    """X-10."""
    for residency in ("all", "active"):
        with Session(bundle, ExecuTorchEngine(), residency=residency) as session:

            def run(name: str, session: Session = session) -> bytes:
                session.switch(name)
                return evaluate(session, Split(split.values[:50], split.labels[:50])).logits.tobytes()

            first = {name: run(name) for name in NAMES}
            for name in (*NAMES, *reversed(NAMES), "full", "small", "full"):
                assert run(name) == first[name]
        assert len(set(first.values())) == len(NAMES)


def test_no_weight_is_touched_when_all_rows_are_switched() -> None:
    """D-8: the same tensors in the same storage, whatever is switched; nothing is loaded again."""
    programs = all_modules()
    engine = CountingEngine(programs)
    tensors = {
        (width, method, name): value
        for width, methods in programs.items()
        for method, module in methods.items()
        for name, value in module.state_dict().items()
    }
    before = {key: (value.data_ptr(), value.clone()) for key, value in tensors.items()}
    with open_session(engine) as session:
        loads = engine.loads
        for name in NAMES * 3:
            session.switch(name)
            session.predict(images(1)[0])
        assert engine.loads == loads
    for key, value in tensors.items():
        width, method, name = key
        assert programs[width][method].state_dict()[name].data_ptr() == before[key][0]
        assert torch.equal(value, before[key][1])


class HeldEngine(CountingEngine):
    """Keeps the next first stage waiting, once, when it is told to."""

    def __init__(self) -> None:
        super().__init__(all_modules())
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def load(self, path: Path) -> Loaded:
        inner = super().load(path)
        run = inner.run

        def held(method: str, value: Array) -> tuple[Array, ...]:
            if method == "stage0" and not self.inside.is_set():
                self.inside.set()
                assert self.go_on.wait(20)
            return run(method, value)

        inner.run = held  # type: ignore[method-assign]
        return inner

    def hold(self) -> None:
        self.go_on.clear()
        self.inside.clear()


@pytest.mark.parametrize("name", ["sure", "small"])
def test_switch_during_a_prediction_takes_effect_at_the_next_one(name: str) -> None:
    """D-8: for a row of the same width and for another width; the running one ends on the path it began."""
    engine, image, found = HeldEngine(), images(1)[0], list[Result]()
    with open_session(engine, configuration="full") as session:
        alone = session.predict(image)
        engine.hold()
        thread = threading.Thread(target=lambda: found.append(session.predict(image)))
        thread.start()
        assert engine.inside.wait(20)
        session.switch(name)
        assert session.predict(image).configuration == name
        engine.go_on.set()
        thread.join(20)
    assert (found[0].configuration, found[0].left_at) == ("full", "w100/head")
    np.testing.assert_array_equal(found[0].logits, alone.logits)
