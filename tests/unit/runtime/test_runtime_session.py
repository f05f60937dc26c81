from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runtime_bundles import (
    CLASSES,
    SURE,
    Classifier,
    CountingEngine,
    Folder,
    all_modules,
    images,
    manifest,
    open_session,
    scaled,
)
from torch import nn

from ebbtide.bundle.manifest import OutsideEntry, float32
from ebbtide.engine import Array, EagerEngine
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Result, Session, energy
from ebbtide.runtime.outside import ScoreName


def by_hand(name: str, value: Array) -> tuple[str, Array]:
    """Where a configuration leaves and its logits, computed straight from the modules."""
    entry = next(entry for entry in manifest().configurations if entry.id == name)
    programs = all_modules()
    x = torch.from_numpy(value.copy())
    with torch.inference_mode():
        for step in entry.path:
            width, method = step.method.split("/")
            y = programs[width][method](x)
            if method.startswith("stage"):
                x = y
            elif method == "head" or y[1].item() > step.threshold:
                return step.method, y[2].numpy()[0]
    raise AssertionError


@pytest.mark.parametrize("name", ["full", "sure", "small", "extra"])
def test_predict_equals_the_modules_run_by_hand_when_images_vary(name: str) -> None:
    pixels = images(40)
    left_at = set()
    with open_session(configuration=name) as session:
        for image, value in zip(pixels, scaled(pixels), strict=True):
            result = session.predict(image)
            place, logits = by_hand(name, value[None])
            assert (result.left_at, result.configuration) == (place, name)
            np.testing.assert_array_equal(result.logits, logits)
            assert result.label == int(logits.argmax())
            assert result.class_name == CLASSES[result.label]
            left_at.add(place)
    assert len(left_at) == (1 if name in {"full", "extra"} else 2), "the images should use every exit"


def test_predict_is_the_same_when_given_an_array_a_pil_image_or_a_tensor() -> None:
    pixels = images(1)
    with open_session() as session:
        results = [
            session.predict(pixels[0]),
            session.predict(pixels[0][..., None]),
            session.predict(Image.fromarray(pixels[0])),
            session.predict_tensor(scaled(pixels)),
            session.predict_tensor(scaled(pixels)[0]),
        ]
    for result in results[1:]:
        np.testing.assert_array_equal(result.logits, results[0].logits)


def test_predict_turns_a_pil_image_when_its_exif_says_so() -> None:
    upright = Image.fromarray(images(1)[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.getexif()[0x0112] = 6
    with open_session() as session:
        np.testing.assert_array_equal(session.predict(stored).logits, session.predict(upright).logits)


def test_result_ranks_classes_and_writes_json_when_asked() -> None:
    with open_session(configuration="sure") as session:
        result = session.predict(images(1)[0])
    top = result.top(3)
    assert top[0].label == result.label
    assert [ranked.probability for ranked in top] == sorted((r.probability for r in top), reverse=True)
    assert len(result.top(100)) == len(CLASSES)
    assert sum(ranked.probability for ranked in result.top(4)) == pytest.approx(1, abs=1e-5)
    assert result.probability == top[0].probability
    fields = result.to_json(top=2)
    assert len(fields["top"]) == 2
    assert fields["class"] == result.class_name
    assert set(fields["times"]["methods_us"]) == {name for name, _ in result.times.methods}


def test_result_ranks_the_lowest_index_first_when_logits_tie() -> None:
    class Tie(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            logits = torch.tensor([[1.0, 3.0, 3.0, 1.0]])
            return logits.softmax(1), torch.zeros(1), logits

    programs = all_modules()
    programs["w100"]["head"] = Tie()
    with Session(Folder(manifest()), EagerEngine(programs)) as session:
        result = session.predict(images(1)[0])
    assert (result.label, [ranked.label for ranked in result.top()]) == (1, [1, 2, 0, 3])


def test_result_times_add_up_when_a_path_is_left_early() -> None:
    with open_session(configuration="sure") as session:
        for image in images(20):
            times = session.predict(image).times
            assert times.total_us >= times.preprocess_us + times.methods_us
            assert times.session_us >= 0
            assert times.preprocess_us > 0
            assert all(spent > 0 for _, spent in times.methods)


def test_exit_is_not_taken_when_confidence_equals_the_threshold() -> None:
    class Exact(Classifier):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            probabilities, _, logits = super().forward(x)
            return probabilities, torch.tensor([self.confidence]), logits

    for confidence, place in (
        (SURE, "w100/head"),
        (float(np.nextafter(np.float32(SURE), np.float32(1))), "w100/exit0"),
    ):
        programs = all_modules()
        programs["w100"]["exit0"] = Exact(6)
        programs["w100"]["exit0"].confidence = confidence
        with Session(Folder(manifest()), EagerEngine(programs), configuration="sure") as session:
            assert session.predict(images(1)[0]).left_at == place


def test_predict_goes_on_when_an_exit_is_not_a_number_and_fails_when_the_head_is() -> None:
    class Broken(Classifier):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            probabilities, confidence, logits = super().forward(x)
            return probabilities, confidence * float("nan"), logits

    programs = all_modules()
    programs["w100"]["exit0"] = Broken(6)
    with Session(Folder(manifest()), EagerEngine(programs), configuration="sure") as session:
        assert session.predict(images(1)[0]).left_at == "w100/head"
    programs["w100"]["head"] = Broken(6)
    with Session(Folder(manifest()), EagerEngine(programs), configuration="sure") as session:
        with pytest.raises(EbbtideError) as caught:
            session.predict(images(1)[0])
        assert (caught.value.code, caught.value.place) == ("runtime.output", "w100/head")
        assert session.current.configuration == "sure"


@pytest.mark.parametrize("image", ["a path", None, Image.new("I;16", (8, 8))])
def test_predict_refuses_when_the_input_is_no_image(image: object) -> None:
    with open_session() as session, pytest.raises(EbbtideError) as caught:
        session.predict(image)
    assert caught.value.code == "runtime.input"


def test_predict_refuses_when_an_array_has_the_wrong_type() -> None:
    with open_session() as session:
        with pytest.raises(EbbtideError) as caught:
            session.predict(np.zeros((8, 8)))
        assert caught.value.code.startswith("data.")
        with pytest.raises(EbbtideError) as caught:
            session.predict_tensor(np.zeros((1, 1, 8, 8)))
        assert caught.value.code == "engine.input"


@pytest.mark.parametrize("score", ["energy", "confidence"])
def test_outside_follows_the_score_when_the_bundle_has_a_rule(score: ScoreName) -> None:
    with open_session() as session:
        results = [session.predict(image) for image in images(30)]
    assert all(result.outside is None for result in results)
    scores = [energy(r.logits) if score == "energy" else -r.confidence for r in results]
    middle = float32(float(np.median(scores)) + 1e-4)
    source = Folder(manifest(outside=OutsideEntry(score=score, fallback=None), outside_above=middle))
    with Session(source, EagerEngine(all_modules())) as session:
        found = [session.predict(image).outside for image in images(30)]
    assert found == [value > middle for value in scores]
    assert set(found) == {True, False}


def test_energy_is_finite_when_logits_are_large() -> None:
    assert energy(np.array([1000.0, 1000.0], dtype=np.float32)) == pytest.approx(-(1000 + np.log(2)))
    assert energy(np.array([-1000.0, -1001.0], dtype=np.float32)) == pytest.approx(1000 - np.log1p(np.exp(-1)))


def test_switch_changes_the_next_prediction_when_asked() -> None:
    with open_session() as session:
        assert (session.current.configuration, session.current.tier, session.current.reason) == ("full", 0, "start")
        assert session.switch("small", reason="down:headroom").tier == 2
        result = session.predict(images(1)[0])
        assert (result.configuration, result.tier, result.reason) == ("small", 2, "down:headroom")
        session.switch("extra")
        assert session.predict(images(1)[0]).tier is None
        assert session.switch_tier(1).configuration == "sure"


def test_switch_refuses_when_the_configuration_or_tier_is_unknown() -> None:
    with open_session() as session:
        with pytest.raises(EbbtideError) as caught:
            session.switch("smal")
        assert caught.value.code == "runtime.configuration"
        assert "'small'" in (caught.value.hint or "")
        for tier in (-1, 3):
            with pytest.raises(EbbtideError) as caught:
                session.switch_tier(tier)
            assert caught.value.code == "runtime.tier"
        assert session.current.configuration == "full"


def test_residency_all_loads_once_and_active_keeps_one_when_switching() -> None:
    engine = CountingEngine(all_modules())
    with open_session(engine) as session:
        assert sorted(engine.open) == ["w100", "w50"]
        for name in ("small", "full", "extra", "sure"):
            session.switch(name)
        assert engine.loads == 2
    assert engine.open == []

    engine = CountingEngine(all_modules())
    with open_session(engine, residency="active") as session:
        assert engine.open == ["w100"]
        session.switch("sure")
        assert engine.loads == 1, "thresholds switch without loading"
        session.switch("small")
        assert engine.open == ["w50"]
        session.switch("full")
        assert (engine.open, engine.loads, engine.most) == (["w100"], 3, 2)
    assert engine.open == []


def test_warm_up_runs_every_method_as_often_as_asked_before_the_first_prediction() -> None:
    engine = CountingEngine(all_modules())
    with open_session(engine, residency="active", warm_up=2):
        assert engine.runs == [("w100", name) for name in ("stage0", "exit0", "stage1", "head") for _ in range(2)]
    engine = CountingEngine(all_modules())
    with open_session(engine, warm_up=0):
        assert engine.runs == []


@pytest.mark.parametrize("residency", ["all", "active"])
def test_switch_keeps_what_is_in_force_when_loading_fails(residency: str) -> None:
    engine = CountingEngine(all_modules())
    with open_session(engine, residency="active") as session:
        engine.broken.add("w50")
        with pytest.raises(OSError, match="flash"):
            session.switch("small")
        assert session.current.configuration == "full"
        assert session.predict(images(1)[0]).configuration == "full"
        engine.broken.clear()
        assert session.switch("small").configuration == "small"
    engine.broken.add("w50")
    with pytest.raises(OSError, match="flash"):
        open_session(engine, residency=residency, configuration="small")
    assert engine.open == [], "a session that does not come to be leaves nothing loaded"


def test_floor_clamps_tiers_and_refuses_configurations_when_they_promise_less() -> None:
    with open_session(minimum_accuracy=0.9) as session:
        current = session.switch_tier(2, reason="down:battery")
        assert (current.configuration, current.tier) == ("sure", 1)
        assert current.reason == "down:battery; tier 2 promises 0.88, the application's floor is 0.9"
        assert session.predict(images(1)[0]).reason == current.reason
        with pytest.raises(EbbtideError) as caught:
            session.switch("small")
        assert caught.value.code == "runtime.below_floor"
        assert session.switch("extra").configuration == "extra"
    with pytest.raises(EbbtideError) as caught:
        open_session(minimum_accuracy=0.94, configuration="sure")
    assert caught.value.code == "runtime.below_floor"


def test_floor_moves_the_session_up_when_it_is_raised_and_lets_it_down_when_lifted() -> None:
    with open_session(configuration="small") as session:
        current = session.set_minimum_accuracy(0.94)
        assert (current.configuration, session.minimum_accuracy) == ("full", 0.94)
        assert current.reason.startswith("floor; tier 2 promises 0.88")
        session.set_minimum_accuracy(None)
        assert session.switch_tier(2).reason == "application"


@pytest.mark.parametrize("floor", [-0.1, 1.01, 0.96, float("nan")])
def test_floor_is_refused_when_no_tier_can_reach_it(floor: float) -> None:
    with pytest.raises(EbbtideError) as caught:
        open_session(minimum_accuracy=floor)
    assert caught.value.code == "runtime.floor"
    with open_session(minimum_accuracy=0.9) as session:
        with pytest.raises(EbbtideError):
            session.set_minimum_accuracy(floor)
        assert session.minimum_accuracy == 0.9


def test_session_refuses_when_the_bundle_is_for_another_runtime() -> None:
    class Core(CountingEngine):
        name = "coreml"

    with pytest.raises(EbbtideError) as caught:
        Session(Folder(manifest()), Core(all_modules()))
    assert caught.value.code == "runtime.engine"

    class Torch(CountingEngine):
        name = "executorch"

    with Session(Folder(manifest()), Torch(all_modules())) as session:
        assert session.engine_name == "executorch"
    with pytest.raises(EbbtideError) as caught:
        Session(Folder(manifest(engine_range="8.0.0")), Torch(all_modules()))
    assert caught.value.code == "bundle.runtime_version"


def test_everything_is_refused_when_the_session_is_closed() -> None:
    session = open_session()
    session.close()
    session.close()
    calls = (
        lambda: session.predict(images(1)[0]),
        lambda: session.switch("small"),
        lambda: session.switch_tier(1),
        lambda: session.pinned().__enter__(),
    )
    for call in calls:
        with pytest.raises(EbbtideError) as caught:
            call()
        assert caught.value.code == "runtime.closed"


def test_close_waits_when_a_prediction_is_running() -> None:
    entered, release = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if warm.is_set():
                entered.set()
                assert release.wait(10)
            return original(x)

    warm = threading.Event()
    programs = all_modules()
    original = programs["w100"]["stage0"]
    programs["w100"]["stage0"] = Slow()
    engine = CountingEngine(programs)
    session = Session(Folder(manifest()), engine)
    warm.set()
    results: list[Result] = []
    runner = threading.Thread(target=lambda: results.append(session.predict(images(1)[0])))
    runner.start()
    assert entered.wait(10)
    closer = threading.Thread(target=session.close)
    closer.start()
    time.sleep(0.05)
    assert closer.is_alive()
    assert engine.open
    with pytest.raises(EbbtideError):
        session.predict(images(1)[0])
    release.set()
    runner.join(10)
    closer.join(10)
    assert results[0].left_at == "w100/head", "the running prediction ended as it began"
    assert engine.open == []


def test_path_of_is_asked_for_the_file_of_the_program_when_it_is_loaded(tmp_path: Path) -> None:
    seen: list[Path] = []

    class Watching(CountingEngine):
        def load(self, path: Path) -> object:
            seen.append(path)
            return super().load(path)

    with open_session(Watching(all_modules())):
        assert seen == [Path("programs/w100.pte"), Path("programs/w50.pte")]
