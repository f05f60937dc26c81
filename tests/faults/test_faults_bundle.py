"""What happens to bundles and stores when the disk fills, a process dies, or two run at once."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ebbtide.bundle import PrivateKey, Store, new_key, open_bundle, write_bundle
from ebbtide.errors import EbbtideError

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))

import bundle_maker

CALLS = ("open", "write", "fsync", "mkdir", "rename", "replace")
FORMS = pytest.mark.parametrize("payload", ["raw", "xz"])


class Faults:
    """Calls of the operating system below one folder, counted; the n-th does something else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], *, fail_at: int, folder: Path) -> None:
        self.count = 0
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name), act, fail_at, folder))

    def wrapped(self, real, act, fail_at: int, folder: Path):
        def call(first, *arguments, **named):
            writing = isinstance(first, int) or (
                str(first).startswith(str(folder)) and not (real.__name__ == "open" and arguments[0] & 3 == os.O_RDONLY)
            )
            if writing:
                self.count += 1
                if self.count == fail_at:
                    act()
            return real(first, *arguments, **named)

        call.__name__ = real.__name__
        return call


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def code_or_none(function, *arguments, **named) -> str | None:
    try:
        function(*arguments, **named)
    except EbbtideError as error:
        return error.code
    return None


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrivateKey:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    return new_key(tmp_path / "dev.pem")


def written(folder: Path, key: PrivateKey, *, payload: str = "raw", sequence: int = 7) -> Path:
    files = bundle_maker.files(folder.parent / f"sources{sequence}", seed=sequence)
    write_bundle(folder, bundle_maker.draft(sequence=sequence), files, key=key, payload=payload)
    return folder


@FORMS
def test_old_bundle_stays_when_disk_fills_at_any_write(tmp_path, key, payload):
    files, draft = bundle_maker.files(tmp_path / "new", seed=2), bundle_maker.draft(sequence=2)
    for at in range(1, 100):
        out = tmp_path / f"out{at}"
        out.mkdir()
        before = tree(written(out / "b", key, sequence=1))
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, full, fail_at=at, folder=out)
            code = code_or_none(write_bundle, out / "b", draft, files, key=key, payload=payload)
        assert code in (None, "steps.disk_full"), at
        assert not list(out.glob(".*.new")), at
        if (out / "b").exists():
            found = open_bundle(out / "b", [key.public]).manifest.sequence
            assert tree(out / "b") == before or found == 2
        else:  # between the two renames, where the old one stands aside
            assert tree(out / ".b.old") == before
        if faults.count < at:
            break
    assert found == 2
    assert at > 10


@FORMS
def test_store_keeps_the_last_good_one_when_disk_fills_at_any_write(tmp_path, key, payload):
    old, new = written(tmp_path / "old", key, sequence=1), written(tmp_path / "new", key, payload=payload, sequence=2)
    for at in range(1, 100):
        root = tmp_path / f"store{at}"
        Store(root).install(old, [key.public])
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, full, fail_at=at, folder=root)
            code = code_or_none(Store(root).install, new, [key.public])
        assert code in (None, "steps.disk_full"), at
        found = Store(root).current("flowers", [key.public]).manifest.sequence
        assert found in ((2,) if code is None else (1, 2))
        if faults.count < at:
            break
    assert found == 2
    assert at > 10
    assert sorted(path.name[:2] for path in (root / "flowers").iterdir()) == ["1-", "2-", "in"]


def die() -> None:
    os._exit(9)


@FORMS
def test_store_recovers_when_killed_at_any_write(tmp_path, key, payload):
    """A child process dies without any clean-up at its n-th write, for every n; then the same install goes through."""
    old, new = written(tmp_path / "old", key, sequence=1), written(tmp_path / "new", key, payload=payload, sequence=2)
    context = multiprocessing.get_context("fork")

    def child(root: Path, at: int) -> None:
        Faults(pytest.MonkeyPatch(), die, fail_at=at, folder=root)
        Store(root).install(new, [key.public])
        os._exit(0)

    for at in range(1, 100):
        root = tmp_path / f"store{at}"
        Store(root).install(old, [key.public])
        process = context.Process(target=child, args=(root, at))
        process.start()
        process.join()
        assert process.exitcode in (0, 9)
        assert Store(root).current("flowers", [key.public]).manifest.sequence in (1, 2)
        assert Store(root).install(new, [key.public]).manifest.sequence == 2
        assert Store(root).current("flowers", [key.public]).manifest.sequence == 2
        names = sorted(path.name[:2] for path in (root / "flowers").iterdir())
        assert names == ["1-", "2-", "in"], "nothing is left of the attempt"
        if process.exitcode == 0:
            break
    assert at > 10


def test_writer_recovers_when_killed_at_any_write(tmp_path, key):
    context = multiprocessing.get_context("fork")
    out = tmp_path / "out"
    out.mkdir()
    files, draft = bundle_maker.files(tmp_path / "new", seed=2), bundle_maker.draft(sequence=2)
    wanted = tree(written(tmp_path / "wanted", key, sequence=2))
    del wanted["manifest.sig"]

    def child(at: int) -> None:
        Faults(pytest.MonkeyPatch(), die, fail_at=at, folder=out)
        write_bundle(out / "b", draft, files, key=key)
        os._exit(0)

    for at in range(1, 100):
        process = context.Process(target=child, args=(at,))
        process.start()
        process.join()
        if (out / "b").exists():
            open_bundle(out / "b", [key.public])
        write_bundle(out / "b", draft, files, key=key)
        assert open_bundle(out / "b", [key.public]).manifest.sequence == 2
        assert [path.name for path in out.iterdir()] == ["b"], at
        if process.exitcode == 0:
            break
    assert at > 10
    assert set(tree(out / "b")) == {*wanted, "manifest.sig"}


def test_writing_says_so_when_folder_is_read_only(tmp_path, key, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    files = bundle_maker.files(tmp_path / "s")
    monkeypatch.setattr(os, "mkdir", refuse)  # the tests may run as root, whom no mode stops
    with pytest.raises(EbbtideError) as caught:
        write_bundle(tmp_path / "b", bundle_maker.draft(), files, key=key)
    assert caught.value.code == "steps.read_only"
    assert not (tmp_path / "b").exists()


def test_key_file_is_removed_when_disk_fills(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: full())
    with pytest.raises(EbbtideError) as caught:
        new_key(tmp_path / "k.pem")
    assert caught.value.code == "steps.disk_full"
    assert not (tmp_path / "k.pem").exists()


def test_newest_wins_when_many_install_at_once(tmp_path, key):
    bundles = [written(tmp_path / f"b{n}", key, sequence=n) for n in range(1, 7)]
    context = multiprocessing.get_context("fork")

    def child(folder: Path) -> None:
        code = code_or_none(Store(tmp_path / "store").install, folder, [key.public])
        os._exit(0 if code in (None, "bundle.rollback") else 1)

    children = [context.Process(target=child, args=(folder,)) for folder in bundles]
    for process in children:
        process.start()
    for process in children:
        process.join()
    assert [process.exitcode for process in children] == [0] * 6
    assert Store(tmp_path / "store").current("flowers", [key.public]).manifest.sequence == 6


def test_mode_of_key_is_private_when_umask_is_open(tmp_path):
    before = os.umask(0)
    try:
        new_key(tmp_path / "k.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
