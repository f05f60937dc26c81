"""The server stage: the same answers as here, and nothing lost whatever the server does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx2
import numpy as np
import pytest
from runtime_bundles import CLASSES, SURE, Folder, all_modules, images, manifest
from runtime_servers import misbehaving, says, serving, shared, unused_port

from ebbtide.engine import EagerEngine
from ebbtide.errors import EbbtideError
from ebbtide.runtime import Result, Server, Session
from ebbtide.runtime.breaker import Breaker
from ebbtide.runtime.serving import Remainders, listening
from ebbtide.runtime.wire import DIGEST_HEADER, MAP, answer_shapes, digest_of, most_bytes, pack, unpack

PIXELS = images(24)
DIGEST = digest_of(Folder(shared()))
URL = f"/v1/bundles/{DIGEST}/configurations"


def session(server: Server | str | None = None, **options: Any) -> Session:
    return Session(Folder(shared()), EagerEngine(all_modules()), server=server, **options)


@pytest.fixture(scope="module")
def alone() -> dict[str, list[Result]]:
    """What every configuration answers without a server."""
    found = {}
    with Session(Folder(manifest()), EagerEngine(all_modules())) as one:
        for name in ("full", "sure", "small"):
            one.switch(name)
            found[name] = [one.predict(image) for image in PIXELS]
    return found


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as (found, _):
        yield found


def assert_equal(found: Result, expected: Result) -> None:
    assert (found.label, found.left_at, found.position, found.configuration) == (
        expected.label,
        expected.left_at,
        expected.position,
        expected.configuration,
    )
    assert found.confidence == expected.confidence
    np.testing.assert_array_equal(found.logits, expected.logits)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


@pytest.mark.parametrize("name", ["full", "sure", "small"])
def test_server_answers_as_the_device_would(name: str, address: str, alone: dict[str, list[Result]]) -> None:
    with session(Server(address, timeout_s=20), configuration=name) as one:
        for image, expected in zip(PIXELS, alone[name], strict=True):
            found = one.predict(image)
            assert_equal(found, expected)
            ran_here = [reference.rpartition("/")[2] for reference, _ in found.times.methods]
            if found.left_at.endswith("exit0"):
                assert found.served is None
                assert ran_here == ["stage0", "exit0"]
                continue
            assert found.served is not None
            assert (found.served.answered, found.served.reason) == (True, None)
            assert ran_here == ["stage0", "exit0"][: 1 if name == "full" else 2]
            assert 0 < found.served.spent_us == found.times.server_us < found.times.total_us
            assert 0 <= found.times.session_us < found.times.total_us - found.times.server_us
            assert found.to_json()["served"]["answered"] is True


def test_nothing_is_sent_and_that_is_said_when_the_application_gives_no_server(alone: dict[str, list[Result]]) -> None:
    with session() as one:
        found = one.predict(PIXELS[0])
    assert_equal(found, alone["full"][0])
    assert found.served is not None
    assert (found.served.answered, found.served.reason) == (False, "the application gave no server")


def test_server_is_not_asked_when_the_bundle_leaves_nothing_to_one() -> None:
    with (
        misbehaving(says(b"", status=500)) as (where, asked),
        Session(Folder(manifest()), EagerEngine(all_modules()), server=where) as one,
    ):
        assert one.predict(PIXELS[0]).served is None
        assert asked == []


def good(**changes: np.ndarray) -> bytes:
    """An answer that could be, but for the changes: it says tulip, from the head of `full`."""
    logits = np.array([0, 0, 9, 0], dtype=np.float32)
    answer = {
        "probabilities": np.array([0, 0, 1, 0], dtype=np.float32),
        "confidence": np.array([7.5], dtype=np.float32),
        "logits": logits,
        "step": np.array([2], dtype=np.int64),
    }
    return pack(answer | changes)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """Bytes that keep coming, so that no single read takes long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def sleepy(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(0.6)
    says(good(), **{DIGEST_HEADER: DIGEST})(handler)


def hung_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


OURS = {DIGEST_HEADER: DIGEST}
FAULTS: dict[str, tuple[Callable[[BaseHTTPRequestHandler], None], str]] = {
    "slow": (sleepy, "no answer within 150 ms"),
    "trickling": (trickle, "no answer within 150 ms"),
    "hung_up": (hung_up, "RemoteProtocolError"),
    "garbage": (says(b"\x00\xff" * 80, **OURS), "no safetensors message"),
    "empty": (says(b"", **OURS), "no safetensors message"),
    "html": (says(b"<html>hello</html>", **OURS), "no safetensors message"),
    "endless": (says(b"x" * 200_000, **OURS), "too long"),
    "status_500": (says(b"{}", status=500, **OURS), "status 500"),
    "moved": (says(b"", status=307, Location="http://127.0.0.1:9/"), "status 307"),
    "shape": (says(good(logits=floats(1, 2, 3)), **OURS), "of another logits"),
    "dtype": (says(good(confidence=np.array([1.0])), **OURS), "of another confidence"),
    "names": (says(pack({"logits": floats(1, 2, 3, 4)}), **OURS), "of other tensors"),
    "nan": (says(good(logits=floats(0, np.nan, 0, 0)), **OURS), "not finite"),
    "infinite": (says(good(confidence=floats(np.inf)), **OURS), "not finite"),
    "probabilities": (says(good(probabilities=floats(0.9, 0.9, 0, 0)), **OURS), "probabilities that are none"),
    "negative": (says(good(probabilities=floats(-0.5, 1.5, 0, 0)), **OURS), "probabilities that are none"),
    "stage": (says(good(step=np.array([1])), **OURS), "step 1"),
    "step_of_the_device": (says(good(step=np.array([0])), **OURS), "step 0"),
    "step_beyond": (says(good(step=np.array([9])), **OURS), "step 9"),
    "step_negative": (says(good(step=np.array([-1])), **OURS), "step -1"),
    "other_bundle": (says(good(), **{DIGEST_HEADER: "0" * 64}), "another bundle"),
    "no_digest": (says(good()), "another bundle"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_stages_run_here_when_the_server_fails(fault: str, alone: dict[str, list[Result]]) -> None:
    answer, why = FAULTS[fault]
    patience_s = 0.15 if fault in ("slow", "trickling") else 20.0
    with (
        misbehaving(answer) as (where, asked),
        session(Server(where, timeout_s=patience_s, pause_s=60)) as one,
    ):
        found = [one.predict(image) for image in PIXELS]
    for result, expected in zip(found, alone["full"], strict=True):
        assert_equal(result, expected)
        assert result.served is not None
        assert not result.served.answered
    first, second = found[0].served, found[1].served
    assert first is not None
    assert second is not None
    assert why in str(first.reason)
    assert len(asked) == 1, "a server that failed is left alone"
    assert "not asked for another" in str(second.reason)
    assert why in str(second.reason)
    assert second.spent_us == 0
    if fault in ("slow", "trickling"):
        assert 150_000 <= first.spent_us < 450_000


def test_an_answer_that_could_be_is_taken() -> None:
    """The faults above are refused for what they are, and not because nothing would be taken."""
    with misbehaving(says(good(), **OURS)) as (where, _), session(Server(where, timeout_s=20)) as one:
        found = one.predict(PIXELS[0])
    assert found.served is not None
    assert found.served.answered
    assert (found.label, found.left_at) == (2, "w100/head")


def test_stages_run_here_when_the_server_is_down(alone: dict[str, list[Result]]) -> None:
    with session(f"http://127.0.0.1:{unused_port()}") as one:
        found = one.predict(PIXELS[0])
    assert_equal(found, alone["full"][0])
    assert found.served is not None
    assert "ConnectError" in str(found.served.reason)


def test_stages_run_here_when_the_server_holds_another_bundle(alone: dict[str, list[Result]]) -> None:
    with serving(shared(sequence=4)) as (where, served), session(Server(where, timeout_s=20)) as one:
        assert served.digest != DIGEST
        found = one.predict(PIXELS[0])
    assert_equal(found, alone["full"][0])
    assert found.served is not None
    assert "status 409 (runtime.other_bundle)" in str(found.served.reason)


def test_server_is_used_again_when_it_comes_back(alone: dict[str, list[Result]]) -> None:
    broken = threading.Event()
    broken.set()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (says(b"", status=503) if broken.is_set() else says(good(), **OURS))(handler)

    with misbehaving(answer) as (where, asked), session(Server(where, timeout_s=20, pause_s=0.05)) as one:
        assert_equal(one.predict(PIXELS[0]), alone["full"][0])
        assert_equal(one.predict(PIXELS[0]), alone["full"][0])
        assert len(asked) == 1
        broken.clear()
        time.sleep(0.06)
        served = [one.predict(PIXELS[0]).served for _ in range(3)]
    assert [one is not None and one.answered for one in served] == [True] * 3
    assert len(asked) == 4


def test_server_is_not_blamed_when_the_feature_map_is_not_finite() -> None:
    with misbehaving(says(good(), **OURS)) as (where, asked), session(Server(where, timeout_s=20)) as one:
        with pytest.raises(EbbtideError) as caught:
            one.predict_tensor(np.full((1, 1, 8, 8), np.nan, dtype=np.float32))
        assert caught.value.code == "runtime.output"
        assert asked == []
        assert one.predict(PIXELS[0]).served.answered


def test_no_prediction_is_lost_when_threads_share_a_server_that_goes_away(alone: dict[str, list[Result]]) -> None:
    failures: list[BaseException] = []
    answered: list[list[bool]] = [[] for _ in range(6)]
    gone = threading.Event()
    server = ExitStack()
    where, _ = server.enter_context(serving())
    with server, session(Server(where, timeout_s=20, pause_s=0.01)) as one:

        def predict(worker: int) -> None:
            try:
                for turn in range(40):
                    if turn == 20:
                        assert gone.wait(30)
                    found = one.predict(PIXELS[turn % len(PIXELS)])
                    assert_equal(found, alone["full"][turn % len(PIXELS)])
                    assert found.served is not None
                    answered[worker].append(found.served.answered)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=predict, args=(worker,)) for worker in range(6)]
        for thread in threads:
            thread.start()
        while not all(len(mine) >= 5 for mine in answered) and not failures:
            time.sleep(0.005)
        server.close()
        gone.set()
        for thread in threads:
            thread.join(60)
    assert not failures
    for mine in answered:
        assert mine[:5] == [True] * 5
        assert mine[20:] == [False] * 20


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"address": "127.0.0.1:80"}, "address"),
        ({"address": "ftp://host"}, "address"),
        ({"address": "http://"}, "address"),
        ({"address": "http://host:port"}, "address"),
        ({"address": "http://host/?a=1"}, "address"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"pause_s": -1}, "pause_s"),
        ({"longest_pause_s": 0.5}, "longest_pause_s"),
    ],
)
def test_server_is_refused_when_it_is_not_described_well(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        Server(**({"address": "http://host"} | changes))
    assert (caught.value.code, caught.value.place) == ("runtime.server", place)


def test_session_is_not_opened_and_holds_nothing_when_the_address_is_none() -> None:
    from runtime_bundles import CountingEngine

    engine = CountingEngine(all_modules())
    with pytest.raises(EbbtideError, match=r"runtime\.server"):
        Session(Folder(shared()), engine, server="nowhere")
    assert engine.open == []


def feature_map() -> np.ndarray:
    return np.linspace(0, 1, 6 * 64, dtype=np.float32).reshape(1, 6, 8, 8)


def ask(address: str, body: bytes, path: str = f"{URL}/full") -> httpx2.Response:
    return httpx2.post(f"{address}{path}", content=body, trust_env=False)


def test_server_says_what_it_serves(address: str) -> None:
    assert httpx2.get(f"{address}/v1/bundle", trust_env=False).json() == {
        "name": "flowers",
        "sequence": 3,
        "digest": DIGEST,
        "configurations": ["full", "sure", "small", "extra"],
    }


def test_server_answers_with_tensors_of_known_size(address: str) -> None:
    found = ask(address, pack({MAP: feature_map()}))
    assert found.status_code == 200
    assert found.headers[DIGEST_HEADER] == DIGEST
    shapes = answer_shapes(len(CLASSES))
    assert len(found.content) <= most_bytes(shapes)
    answer = unpack(found.content, shapes)
    modules = all_modules()["w100"]
    import torch

    with torch.inference_mode():
        expected = modules["head"](modules["stage1"](torch.from_numpy(feature_map())))
    np.testing.assert_array_equal(answer["logits"], expected[2][0].numpy())
    np.testing.assert_array_equal(answer["probabilities"], expected[0][0].numpy())
    assert answer["confidence"].tolist() == expected[1].tolist()
    assert answer["step"].tolist() == [2]


@pytest.mark.parametrize(
    ("body", "path", "status", "code"),
    [
        (pack({MAP: feature_map()}), f"/v1/bundles/{'0' * 64}/configurations/full", 409, "runtime.other_bundle"),
        (pack({MAP: feature_map()}), f"{URL}/none", 404, "runtime.configuration"),
        (pack({MAP: feature_map()}), f"{URL}/small", 422, "runtime.wire"),
        (pack({MAP: feature_map()[:, :, :7]}), f"{URL}/full", 422, "runtime.wire"),
        (pack({MAP: feature_map().astype(np.float64)}), f"{URL}/full", 422, "runtime.wire"),
        (pack({MAP: feature_map().astype(np.float16)}), f"{URL}/full", 422, "runtime.wire"),
        (pack({"other": feature_map()}), f"{URL}/full", 422, "runtime.wire"),
        (pack({MAP: feature_map(), "more": floats(1)}), f"{URL}/full", 422, "runtime.wire"),
        (pack({MAP: feature_map()})[:-1], f"{URL}/full", 422, "runtime.wire"),
        (pack({MAP: feature_map()}) + b"\0", f"{URL}/full", 422, "runtime.wire"),
        (b"", f"{URL}/full", 422, "runtime.wire"),
        (b"\xff" * 8 + b"{}", f"{URL}/full", 422, "runtime.wire"),
        (b"x" * 5_000_000, f"{URL}/full", 422, "runtime.wire"),
        (pack({MAP: feature_map() * np.float32(np.nan)}), f"{URL}/full", 422, "runtime.output"),
    ],
)
def test_server_refuses_a_question_that_is_none(body: bytes, path: str, status: int, code: str, address: str) -> None:
    found = ask(address, body, path)
    assert (found.status_code, found.json()["error"]["code"]) == (status, code)
    assert ask(address, pack({MAP: feature_map()})).status_code == 200, "and goes on"


def test_serving_is_refused_when_the_bundle_leaves_nothing_or_the_port_is_taken() -> None:
    with pytest.raises(EbbtideError) as caught:
        Remainders(Folder(manifest()), EagerEngine(all_modules()))
    assert caught.value.code == "runtime.serve"
    with listening("127.0.0.1", 0) as taken, pytest.raises(EbbtideError) as caught:
        listening("127.0.0.1", taken.getsockname()[1])
    assert caught.value.code == "runtime.serve"
    with pytest.raises(EbbtideError, match=r"runtime\.serve"):
        listening("127.0.0.1", 70_000)


def test_breaker_doubles_its_pause_and_tries_one_call_at_a_time() -> None:
    now = 100.0
    breaker = Breaker(1.0, 3.0, clock=lambda: now)
    first, second = breaker.admit(), breaker.admit()
    assert first is not None
    assert second is not None
    breaker.failed(first, "down")
    breaker.failed(second, "down, too")
    assert breaker.admit() is None
    assert breaker.refusal() == "not asked for another 1.0 s; before: down"
    for pause_s in (1.0, 2.0, 3.0, 3.0):
        now += pause_s - 0.01
        assert breaker.admit() is None
        now += 0.02
        trial = breaker.admit()
        assert trial is not None
        assert breaker.admit() is None, "one call at a time"
        breaker.failed(trial, "still down")
    now += 4
    trial = breaker.admit()
    assert trial is not None
    breaker.succeeded()
    assert [breaker.admit() is not None for _ in range(3)] == [True] * 3
    breaker.failed(0, "down again")
    assert breaker.refusal().startswith("not asked for another 1.0 s")


def test_wire_is_exact_for_every_float32_and_any_order_of_memory() -> None:
    values = floats(1e-45, -0.0, 3.4e38, np.float32(1) / 3).reshape(1, 1, 2, 2)
    swapped = np.array(values.transpose(0, 2, 3, 1), order="C").transpose(0, 3, 1, 2)
    found = unpack(pack({MAP: swapped}), {MAP: ("F32", (1, 1, 2, 2))})[MAP]
    assert found.tobytes() == values.tobytes()


def test_json_of_an_error_is_read_whatever_it_holds() -> None:
    from ebbtide.runtime.server_stage import _code_in

    assert _code_in(json.dumps({"error": {"code": "runtime.wire"}}).encode()) == " (runtime.wire)"
    for body in (b"", b"[]", b"{", b'{"error": 3}', b'{"error": {"code": 3}}', b"\xff", b"[" * 100_000):
        assert _code_in(body) == ""


def test_threshold_is_looked_at_when_an_exit_on_the_server_answers() -> None:
    """A bundle that leaves an exit to the server: an answer from it must be sure enough to leave there."""
    whole = shared()
    entry = next(one for one in whole.configurations if one.id == "sure")
    path = tuple(
        step.model_copy(update={"at": "server"}) if not step.method.endswith("stage0") else step for step in entry.path
    )
    bundle = whole.model_copy(update={"configurations": (entry.model_copy(update={"path": path}),), "tiers": ("sure",)})
    digest = digest_of(Folder(bundle))
    low, high = good(step=np.array([1]), confidence=floats(SURE)), good(step=np.array([1]))
    for body, taken in ((low, False), (high, True)):
        with (
            misbehaving(says(body, **{DIGEST_HEADER: digest})) as (where, _),
            Session(Folder(bundle), EagerEngine(all_modules()), server=Server(where, timeout_s=20)) as one,
        ):
            served = one.predict(PIXELS[0]).served
        assert served is not None
        assert served.answered is taken
        assert taken or "does not leave there" in str(served.reason)
    with serving(bundle) as (where, _), Session(Folder(bundle), EagerEngine(all_modules()), server=where) as one:
        left = {one.predict(image).left_at for image in PIXELS}
        assert one.predict(PIXELS[0]).served.answered
    assert left == {"w100/exit0", "w100/head"}
