"""``ebb serve`` and ``ebb run --server`` on a real bundle: a process of its own, ExecuTorch on both sides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_bundles import images, manifest
from runtime_programs import installed
from runtime_servers import shared, unused_port

from ebbtide import api
from ebbtide.errors import EbbtideError

EBB = [sys.executable, "-c", "from ebbtide.cli import main; main()"]


@pytest.fixture(scope="module")
def folder(small_programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("served")
    installed(shared(), small_programs, found)
    np.savez(found / "images.npz", images=images(12))
    (found / "stream.json").write_text('{"mechanism": "difference", "thresholds": {"w100/exit0": 1e-6}}')
    return found


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(
        [*EBB, "serve", str(folder / "bundle"), "--key", str(folder / "public.pem"), "--port", "0", *more],
        env=kept | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_object(process: subprocess.Popen[str]) -> dict[str, Any]:
    text = ""
    assert process.stdout is not None
    for line in process.stdout:
        text += line
        if line == "}\n":
            break
    return json.loads(text)


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[dict[str, Any]]:
    process = started(folder, "--json")
    yield read_object(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert all(json.loads(line)["event"] for line in err.splitlines())


def run(folder: Path, **more: Any) -> list[dict[str, Any]]:
    found = api.run(
        folder / "bundle", folder / "images.npz", trusted=[folder / "public.pem"], configuration="sure", **more
    )
    return [one.as_dict() for one in found]


def answers(found: list[dict[str, Any]]) -> list[Any]:
    return [(one["input"], one["top"], one["left_at"], one["confidence"]) for one in found]


def test_run_answers_the_same_with_a_server_as_without(folder: Path, served: dict[str, Any]) -> None:
    assert served["name"] == "flowers"
    assert served["address"].startswith("http://127.0.0.1:")
    alone, helped = run(folder), run(folder, server=served["address"])
    assert answers(helped) == answers(alone)
    reached = [one for one in helped if one["left_at"] == "w100/head"]
    assert 0 < len(reached) < len(helped)
    # The first question also pays for a connection and may take longer than a phone would wait.
    assert any(one["served"]["answered"] for one in reached)
    assert all("served" not in one for one in helped if one["left_at"] == "w100/exit0")


def test_run_answers_the_same_when_the_server_is_down(folder: Path) -> None:
    found = run(folder, server=f"http://127.0.0.1:{unused_port()}")
    assert answers(found) == answers(run(folder))
    reached = [one for one in found if "served" in one]
    assert "ConnectError" in reached[0]["served"]["reason"]


def test_run_takes_the_inputs_as_frames_of_a_stream(folder: Path) -> None:
    np.savez(folder / "frames.npz", images=images(3).repeat(4, axis=0))
    found = api.run(
        folder / "bundle",
        folder / "frames.npz",
        trusted=[folder / "public.pem"],
        configuration="sure",
        stream=folder / "stream.json",
    )
    places = [(one.result.scene.number, one.result.scene.frame) for one in found if one.result.scene]
    assert places == [(scene, frame) for scene in range(3) for frame in range(4)]


def test_serve_is_refused_when_there_is_nothing_to_serve(small_programs: dict[str, Path], tmp_path: Path) -> None:
    installed(manifest(), small_programs, tmp_path)
    with pytest.raises(EbbtideError) as caught:
        api.serve(tmp_path / "bundle", trusted=[tmp_path / "public.pem"], port=0)
    assert caught.value.code == "runtime.serve"


def test_server_tidies_up_when_it_is_told_to_stop(folder: Path) -> None:
    """A packed bundle is unpacked to a passing place, which goes with the process."""
    before = {path.name for path in folder.iterdir()}
    process = started(folder)
    assert process.stdout is not None
    assert "flowers 3 at http://127.0.0.1:" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert {path.name for path in folder.iterdir()} == before
