"""Streams: frames like the one before stop at an exit, scenes get references of their own, choices are exact."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from runtime_bundles import CLASSES, CountingEngine, Folder, all_modules, images, manifest, open_session, scaled

from ebbtide.bundle.manifest import FLOAT32_MAX
from ebbtide.engine import Array, EagerEngine
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Result, Session, Stream, StreamSettings
from ebbtide.runtime.adaptive import AdaptiveSession
from ebbtide.runtime.scenes import compare, distance_between, read_settings, reference_of
from ebbtide.runtime.signals import ScriptedSource
from ebbtide.runtime.stream_choice import StreamRecords, choose, record_stream, replay
from ebbtide.runtime.stream_frames import FramePlan, frames_of

EXIT = "w100/exit0"
# Frames with a noise of 3 lie about 0.4 apart in logits of exit0, pictures of `images` much further.
NEAR = 1.5
PICTURES = images(6)


def session(name: str = "sure") -> Session:
    return open_session(EagerEngine(all_modules()), configuration=name)


def never_sure(engine: CountingEngine | EagerEngine) -> Session:
    """An exit that no frame leaves at by its confidence: whatever stops there, the stream has stopped."""
    whole = manifest()
    path = whole.configurations[1].path
    path = (path[0], path[1].model_copy(update={"threshold": FLOAT32_MAX}), *path[2:])
    bundle = whole.model_copy(
        update={"configurations": (whole.configurations[1].model_copy(update={"path": path}),), "tiers": ("sure",)}
    )
    return Session(Folder(bundle), engine, warm_up=0)


def exit_logits(image: np.ndarray) -> Array:
    import torch

    modules = all_modules()["w100"]
    with torch.inference_mode():
        return modules["exit0"](modules["stage0"](torch.from_numpy(scaled(image[None]))))[2][0].numpy()


def ran(engine: CountingEngine) -> list[str]:
    found = [method for _, method in engine.runs]
    engine.runs.clear()
    return found


@pytest.mark.parametrize("mechanism", ["difference", "patience"])
def test_constant_stream_runs_the_path_once(mechanism: str) -> None:
    programs = all_modules()
    # This exit says rose of everything, so that it agrees where the head does.
    programs["w100"]["exit0"].logits.linear.bias.data[1] += 50
    engine = CountingEngine(programs)
    with never_sure(engine) as one:
        stream = Stream(one, StreamSettings(mechanism, {EXIT: NEAR}))
        image = next(image for image in images(40) if one.predict(image).class_name == "rose")
        whole = one.predict(image)
        assert whole.left_at == "w100/head"
        ran(engine)
        results = [stream.predict(image) for _ in range(20)]
        first, *others = results
        assert first.scene is not None
        assert (first.scene.number, first.scene.frame, first.scene.stopped) == (0, 0, False)
        assert ran(engine) == ["stage0", "exit0", "stage1", "head"] + ["stage0", "exit0"] * 19
        for number, result in enumerate(others, start=1):
            assert result.scene is not None
            assert (result.scene.number, result.scene.frame, result.scene.stopped) == (0, number, True)
            assert result.scene.distance == 0
            assert result.scene.threshold == NEAR
            assert (result.left_at, result.position) == (EXIT, 0)
            assert [name for name, _ in result.times.methods] == ["w100/stage0", EXIT]
            assert (result.label, result.class_name, result.confidence) == (
                whole.label,
                whole.class_name,
                whole.confidence,
            )
            np.testing.assert_array_equal(result.logits, whole.logits)
            np.testing.assert_array_equal(result.probabilities, whole.probabilities)


def test_reference_is_the_first_frame_of_the_new_scene_when_the_scene_changes() -> None:
    """A, A, B, B, A: with the reference of the first scene kept, the last A would stop and the second B would not."""
    a, b = PICTURES[0], PICTURES[1]
    apart = distance_between(exit_logits(a), exit_logits(b))
    with session() as one:
        stream = Stream(one, StreamSettings("difference", {EXIT: apart / 2}))
        results = [stream.predict(image) for image in (a, a, b, b, a)]
        expected = [one.predict(image) for image in (a, a, b, b, a)]
    scenes = [result.scene for result in results]
    assert [(scene.number, scene.frame, scene.stopped) for scene in scenes if scene] == [
        (0, 0, False),
        (0, 1, True),
        (1, 0, False),
        (1, 1, True),
        (2, 0, False),
    ]
    assert [result.label for result in results] == [result.label for result in expected]
    assert scenes[2] is not None
    assert scenes[2].distance == pytest.approx(apart)
    assert scenes[2].reason == "unlike the first frame"
    assert results[1].to_json()["scene"]["stopped"] is True


def test_drift_is_seen_since_the_reference_stays_that_of_the_scenes_first_frame() -> None:
    a, b = PICTURES[0].astype(float), PICTURES[1].astype(float)
    frames = [np.rint(a + (b - a) * share).astype(np.uint8) for share in np.linspace(0, 1, 40)]
    steps = [distance_between(exit_logits(x), exit_logits(y)) for x, y in pairwise(frames)]
    apart = distance_between(exit_logits(frames[0]), exit_logits(frames[-1]))
    threshold = apart / 3
    assert max(steps) < threshold / 2
    with session() as one:
        stream = Stream(one, StreamSettings("difference", {EXIT: threshold}))
        scenes = {stream.predict(frame).scene.number for frame in frames}
    assert len(scenes) >= 3


def test_frame_does_not_stop_when_its_distance_equals_the_threshold_or_is_no_number() -> None:
    settings = StreamSettings("difference", {EXIT: 5.0})
    reference = reference_of(settings, 0, [(EXIT, np.array([0, 0], dtype=np.float32))])
    for logits, stops in (([3, 4], False), ([3, 3.999], True), ([np.nan, 0], False), ([np.inf, 0], False)):
        found = compare(settings, reference, EXIT, np.array(logits, dtype=np.float32))
        assert found is not None
        assert found.stops is stops
    assert compare(settings, reference, "w100/exit1", np.array([0, 0], dtype=np.float32)) is None


def test_patience_watches_the_earliest_exit_that_agrees_and_goes_on_when_the_label_changes() -> None:
    near = {"p/exit0": 9.0, "p/exit1": 9.0}
    settings = StreamSettings("patience", near)
    wrong, right = np.array([1, 0], dtype=np.float32), np.array([0, 1], dtype=np.float32)
    assert reference_of(settings, 1, [("p/exit0", wrong), ("p/exit1", right)]).exit == "p/exit1"
    assert reference_of(settings, 0, [("p/exit0", wrong), ("p/exit1", right)]).exit == "p/exit0"
    assert reference_of(settings, 1, [("p/exit0", wrong)]).exit is None
    assert reference_of(StreamSettings("difference", near), 1, [("p/exit0", wrong)]).exit == "p/exit0"
    reference = reference_of(settings, 1, [("p/exit0", wrong), ("p/exit1", right)])
    assert compare(settings, reference, "p/exit0", wrong) is None
    near_and_same = compare(settings, reference, "p/exit1", right * 2)
    near_and_other = compare(settings, reference, "p/exit1", wrong)
    assert near_and_same is not None
    assert near_and_other is not None
    assert near_and_same.stops
    assert (near_and_other.stops, near_and_other.reason) == (False, "another label")


def test_every_frame_is_predicted_in_full_when_no_exit_can_be_watched() -> None:
    with session("full") as one:
        stream = Stream(one, StreamSettings("difference", {EXIT: NEAR}))
        results = [stream.predict(PICTURES[0]) for _ in range(3)]
    assert [result.scene.stopped for result in results if result.scene] == [False] * 3
    assert [result.scene.reason for result in results if result.scene] == ["no frame before"] + ["no exit to watch"] * 2


def test_scene_begins_anew_when_the_session_switches_or_the_stream_is_reset() -> None:
    with session() as one:
        stream = Stream(one, StreamSettings("difference", {EXIT: NEAR, "w50/exit0": NEAR}))
        image = PICTURES[0]
        assert [stream.predict(image).scene.stopped for _ in range(2)] == [False, True]
        one.switch("small")
        found = stream.predict(image)
        assert found.scene is not None
        assert (found.scene.number, found.scene.stopped, found.scene.distance) == (1, False, None)
        assert found.scene.reason == "the configuration changed from sure"
        assert found.configuration == "small"
        assert stream.predict(image).scene.stopped
        stream.reset()
        found = stream.predict(image)
        assert found.scene is not None
        assert (found.scene.number, found.scene.frame, found.scene.reason) == (0, 0, "no frame before")


def test_scene_stays_when_a_prediction_fails() -> None:
    with session() as one:
        stream = Stream(one, StreamSettings("difference", {EXIT: NEAR}))
        stream.predict(PICTURES[0])
        with pytest.raises(EbbtideError) as caught:
            stream.predict_tensor(np.full((1, 1, 8, 8), np.nan, dtype=np.float32))
        assert caught.value.code == "runtime.output"
        assert stream.predict(PICTURES[0]).scene.stopped


def test_answer_of_a_scene_stays_when_a_caller_writes_to_a_result() -> None:
    with session() as one:
        stream = Stream(one, StreamSettings("difference", {EXIT: NEAR}))
        expected = one.predict(PICTURES[0])
        for _ in range(3):
            found = stream.predict(PICTURES[0])
            np.testing.assert_array_equal(found.logits, expected.logits)
            np.testing.assert_array_equal(found.probabilities, expected.probabilities)
            found.logits[:] = found.probabilities[:] = 7


def test_session_is_as_before_beside_its_streams_and_streams_do_not_know_of_each_other() -> None:
    with session() as one:
        before = one.predict(PICTURES[0])
        first, second = (Stream(one, StreamSettings("difference", {EXIT: NEAR})) for _ in range(2))
        first.predict(PICTURES[0])
        assert not second.predict(PICTURES[0]).scene.stopped
        after = one.predict(PICTURES[0])
    assert after.scene is None
    assert "scene" not in after.to_json()
    np.testing.assert_array_equal(before.logits, after.logits)


def test_frames_are_counted_once_each_when_threads_share_a_stream_and_another_switches() -> None:
    pictures = images(4)
    found: list[list[Result]] = [[] for _ in range(4)]
    with session() as one:
        alone = {}
        for name in ("sure", "small"):
            one.switch(name)
            alone[name] = {index: one.predict(picture) for index, picture in enumerate(pictures)}
        stream = Stream(one, StreamSettings("difference", {EXIT: NEAR, "w50/exit0": NEAR}))

        def predict(worker: int) -> None:
            for _ in range(100):
                found[worker].append(stream.predict(pictures[0]))

        threads = [threading.Thread(target=predict, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(30):
            one.switch(("small", "sure")[turn % 2])
        for thread in threads:
            thread.join(60)
    results = [result for worker in found for result in worker]
    places = {(result.scene.number, result.scene.frame) for result in results if result.scene}
    assert len(results) == len(places) == 400
    for result in results:
        np.testing.assert_array_equal(result.logits, alone[result.configuration][0].logits)


def test_stream_runs_on_an_adaptive_session() -> None:
    with session() as one, AdaptiveSession(one, ScriptedSource(), poll_ms=None) as adaptive:
        stream = Stream(adaptive, StreamSettings("difference", {EXIT: NEAR}))
        assert [stream.predict(PICTURES[0]).scene.stopped for _ in range(3)] == [False, True, True]
        assert adaptive.slowdown.predictions == 0, "stopped frames do not tell how fast the device is"


@pytest.mark.parametrize(
    ("mechanism", "thresholds", "told"),
    [
        ("patience ", {EXIT: 1.0}, "mechanism"),
        ("difference", {EXIT: 0.0}, "distance"),
        ("difference", {EXIT: float("inf")}, "distance"),
        ("difference", {EXIT: True}, "distance"),
        ("difference", {"w100/head": 1.0}, "no exit"),
        ("difference", {"w75/exit0": 1.0}, "no exit"),
    ],
)
def test_settings_are_refused_when_they_do_not_fit(mechanism: str, thresholds: dict[str, float], told: str) -> None:
    with session() as one, pytest.raises(EbbtideError, match=told) as caught:
        Stream(one, StreamSettings(mechanism, thresholds))
    assert caught.value.code == "runtime.stream"


def test_settings_survive_a_file_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    import json

    settings, file = StreamSettings("patience", {EXIT: 1.25}), tmp_path / "stream.json"
    file.write_text(json.dumps(settings.to_json()))
    assert read_settings(file) == settings
    for text in ("", "[]", "{}", '{"mechanism": "patience"}', '{"mechanism": "patience", "thresholds": [1], "x": 1}'):
        file.write_text(text)
        with pytest.raises(EbbtideError, match=r"runtime\.stream"):
            read_settings(file)
    with pytest.raises(EbbtideError, match=r"runtime\.stream"):
        read_settings(tmp_path / "none.json")


def test_frames_are_the_pictures_with_noise_and_movement() -> None:
    pictures = images(3)
    still, pictured = frames_of(pictures, FramePlan(frames=2, noise=0, jitter_pixels=0))
    np.testing.assert_array_equal(still, pictures.repeat(2, axis=0))
    assert pictured.tolist() == [0, 0, 1, 1, 2, 2]
    colour = np.stack([pictures] * 3, axis=-1)
    plan = FramePlan(frames=5, noise=3, jitter_pixels=1, seed=1)
    first, again = frames_of(colour, plan)[0], frames_of(colour, plan)[0]
    assert first.shape == (15, 8, 8, 3)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, frames_of(colour, FramePlan(5, 3, 1, seed=2))[0])
    moved = frames_of(pictures, FramePlan(frames=30, noise=0, jitter_pixels=1))[0].reshape(3, 30, 8, 8)
    shifts = {tuple(frame[1:-1, 1:-1].ravel()) for frame in moved[0]}
    wide = np.pad(pictures[0], 1, mode="edge")
    allowed = {tuple(wide[y + 1 : y + 7, x + 1 : x + 7].ravel()) for y in range(3) for x in range(3)}
    assert shifts <= allowed
    assert len(shifts) > 1
    for wrong in (FramePlan(frames=0), FramePlan(noise=-1), FramePlan(jitter_pixels=8)):
        with pytest.raises(EbbtideError, match=r"runtime\.stream"):
            frames_of(pictures, wrong)
    with pytest.raises(EbbtideError, match=r"runtime\.stream"):
        frames_of(pictures.astype(np.float32), plan)  # type: ignore[arg-type]


def recorded(one: Session, plan: FramePlan, seed: int = 0) -> tuple[StreamRecords, np.ndarray]:
    pictures = images(20, seed=seed)
    truth = np.array([one.predict(picture).label for picture in pictures])
    frames, scenes = frames_of(pictures, plan)
    return record_stream(one, frames, scenes=scenes, truth=truth[scenes]), frames


@pytest.mark.parametrize("mechanism", ["difference", "patience"])
def test_replay_equals_the_stream_frame_by_frame(mechanism: str) -> None:
    with session() as one:
        records, frames = recorded(one, FramePlan(frames=4, noise=6))
        for threshold in (0.2, 1.0, 3.0):
            settings = StreamSettings(mechanism, {EXIT: threshold})
            stream = Stream(one, settings)
            results = [stream.predict(frame) for frame in frames]
            found = replay(records, settings)
            assert found.labels.tolist() == [result.label for result in results]
            assert found.stopped.tolist() == [result.scene.stopped for result in results]
            assert [records.leaves[index] for index in found.left] == [result.left_at for result in results]
        without = replay(records, None)
        assert without.labels.tolist() == [one.predict(frame).label for frame in frames]
        assert not without.stopped.any()


def test_choice_is_the_cheapest_within_the_limit() -> None:
    with never_sure(EagerEngine(all_modules())) as one:
        records, _ = recorded(one, FramePlan(frames=10, noise=3))
        found = choose(records, max_drop_points=2.0)
    assert found.settings is not None
    chosen = next(one for one in found.candidates if one.settings == found.settings)
    assert chosen.accuracy >= found.accuracy_without - 0.02
    assert chosen.mean_macs < 0.8 * found.mean_macs_without
    assert chosen.stopped > 0.6
    assert len(found.candidates) == 100
    for other in found.candidates:
        assert other.mean_macs >= chosen.mean_macs or other.accuracy < found.accuracy_without - 0.02
    exact = replay(records, found.settings)
    assert (exact.accuracy, exact.mean_macs) == (chosen.accuracy, chosen.mean_macs)


def test_choice_is_none_with_a_reason_when_nothing_is_gained_or_told_apart() -> None:
    with session() as one:
        records, _ = recorded(one, FramePlan(frames=2, noise=3))
    found = choose(replace(records, logits=np.zeros_like(records.logits)))
    assert (found.settings, found.candidates, found.reason) == (None, (), "no exit tells scenes from noise")
    free = choose(replace(records, macs=np.array([100, 100])))
    assert free.reason == "no setting is cheaper within the limit"


def test_records_are_refused_when_there_is_nothing_to_choose_from() -> None:
    frames, scenes = frames_of(images(2), FramePlan(frames=2))
    truth = np.zeros(4, dtype=np.int64)
    with session("full") as one, pytest.raises(EbbtideError, match="no exit to watch"):
        record_stream(one, frames, scenes=scenes, truth=truth)
    with session() as one:
        with pytest.raises(EbbtideError, match="3 scenes"):
            record_stream(one, frames, scenes=scenes[:3], truth=truth)
        alone = record_stream(one, frames, scenes=np.zeros(4, dtype=np.int64), truth=truth)
        records = record_stream(one, frames, scenes=scenes, truth=truth)
    assert records.logits.shape == (2, 4, len(CLASSES))
    with pytest.raises(EbbtideError, match="1 scenes"):
        choose(alone)
    with pytest.raises(EbbtideError, match="no loss to allow"):
        choose(records, max_drop_points=-1)
