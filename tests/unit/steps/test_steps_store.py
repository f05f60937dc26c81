from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from ebbtide.errors import EbbtideError
from ebbtide.steps import StepStore, busy_lock, canonical_json, code_digest, replace_folder, silent


class Ledger:
    """A Progress that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def task(self, label, total=None):
        return silent.task(label, total)

    def say(self, text: str) -> None:
        self.said.append(text)


def writer(text: str, calls: list[str]):
    def produce(folder: Path, scratch: Path) -> None:
        calls.append(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "out.txt").write_text(text)

    return produce


def test_run_reuses_output_when_inputs_are_equal(tmp_path: Path) -> None:
    store, calls = StepStore(tmp_path), []
    first = store.run("a", {"x": 1}, writer("one", calls))
    second = store.run("a", {"x": 1}, writer("one", calls))
    assert first == second
    assert calls == ["one"]
    assert [r.reused for r in store.records] == [False, True]


def test_run_makes_output_again_when_an_input_changes(tmp_path: Path) -> None:
    store, calls = StepStore(tmp_path), []
    one = store.run("a", {"x": 1}, writer("one", calls))
    two = store.run("a", {"x": 2}, writer("two", calls))
    assert one != two
    assert (one / "sub/out.txt").read_text() == "one"
    assert (two / "sub/out.txt").read_text() == "two"


@pytest.mark.parametrize("harm", ["flip", "remove", "add", "record"])
def test_run_recomputes_and_says_so_when_entry_is_damaged(tmp_path: Path, harm: str) -> None:
    progress, calls = Ledger(), []
    store = StepStore(tmp_path, progress=progress)
    folder = store.run("a", {}, writer("one", calls))
    file = folder / "sub/out.txt"
    if harm == "flip":
        file.write_text("onf")
    elif harm == "remove":
        file.unlink()
    elif harm == "add":
        (folder / "more").write_text("x")
    else:
        (folder / "step.json").write_text("{")
    assert (store.run("a", {}, writer("one", calls)) / "sub/out.txt").read_text() == "one"
    assert calls == ["one", "one"]
    assert "damaged" in progress.said[0]


def test_run_leaves_nothing_when_produce_fails(tmp_path: Path) -> None:
    def fail(folder: Path, scratch: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        StepStore(tmp_path).run("a", {}, fail)
    assert not [p for p in tmp_path.rglob("*") if p.name == "half"]


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "steps.disk_full"), (errno.EDQUOT, "steps.disk_full"), (errno.EROFS, "steps.read_only")],
)
def test_run_raises_code_when_disk_refuses(tmp_path: Path, number: int, code: str) -> None:
    def fail(folder: Path, scratch: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError(number, os.strerror(number), str(folder))

    with pytest.raises(EbbtideError) as caught:
        StepStore(tmp_path).run("a", {}, fail)
    assert caught.value.code == code
    assert caught.value.exit_status == 2
    assert not [p for p in tmp_path.rglob("*") if p.name == "half"]


def _die(root: Path) -> None:
    def produce(folder: Path, scratch: Path) -> None:
        (scratch / "epoch").write_text("3")
        (folder / "half").write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)

    StepStore(root).run("a", {}, produce)


def test_run_finds_scratch_and_no_half_output_when_killed_before(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    seen = []

    def produce(folder: Path, scratch: Path) -> None:
        seen.append((sorted(p.name for p in folder.iterdir()), (scratch / "epoch").read_text()))

    StepStore(tmp_path).run("a", {}, produce)
    assert seen == [([], "3")]
    assert not list((tmp_path / "scratch").iterdir())


def _slow(root: Path, log: Path) -> None:
    def produce(folder: Path, scratch: Path) -> None:
        with log.open("a") as stream:
            stream.write("made\n")
        time.sleep(0.5)

    StepStore(root).run("a", {}, produce)


def test_run_makes_output_once_when_two_processes_want_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_slow, args=(tmp_path / "c", tmp_path / "log")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [p.exitcode for p in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "made\n"


def test_busy_lock_refuses_when_another_holds_it(tmp_path: Path) -> None:
    with (
        busy_lock(tmp_path / "lock", doing="building here"),
        pytest.raises(EbbtideError, match="already building here") as caught,
        busy_lock(tmp_path / "lock", doing="building here"),
    ):
        pass
    assert caught.value.code == "steps.busy"
    with busy_lock(tmp_path / "lock", doing="building here"):
        pass


def test_replace_folder_swaps_when_target_exists(tmp_path: Path) -> None:
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "target")
    assert (tmp_path / "target/f").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def test_digest_changes_when_a_file_of_the_folder_changes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("1")
    store = StepStore(tmp_path / "cache")
    first = store.digest(data)
    assert store.digest(data) == first
    (data / "a").write_text("2")
    second = store.digest(data)
    (data / "b").write_text("")
    assert len({first, second, store.digest(data)}) == 3


def test_canonical_json_is_one_spelling_when_order_differs() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1}) == '{"a":"é","b":1}'.encode()
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_code_digest_differs_when_packages_differ() -> None:
    assert code_digest(("ebbtide.steps",)) != code_digest(("ebbtide.errors",))
