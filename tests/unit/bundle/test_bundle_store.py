"""The store of installed bundles."""

from __future__ import annotations

import pytest
from filelock import FileLock

from ebbtide.bundle import Limits, Store, new_key, open_bundle
from ebbtide.errors import EbbtideError

FORMS = pytest.mark.parametrize("payload", ["raw", "xz"])


def code_of(function, *arguments, **named):
    with pytest.raises(EbbtideError) as caught:
        function(*arguments, **named)
    return caught.value.code


@FORMS
def test_bundle_is_current_and_unpacked_when_installed(make, key, tmp_path, payload):
    store = Store(tmp_path / "store")
    installed = store.install(make(payload=payload), [key.public])
    current = store.current("flowers", [key.public])
    assert installed.folder == current.folder
    assert not current.packed
    assert current.path_of("programs/w100-f32-cpu.pte").read_bytes() == (tmp_path / "sources/w100.pte").read_bytes()
    assert open_bundle(current.folder, [key.public]).manifest == current.manifest
    assert store.current("flowers").manifest == current.manifest
    assert store.names() == ("flowers",)


def test_store_keeps_one_before_when_a_third_is_installed(make, key, tmp_path):
    store = Store(tmp_path / "store")
    for sequence in (1, 2, 3):
        store.install(make(f"b{sequence}", sequence=sequence), [key.public])
    names = sorted(path.name[0] for path in (tmp_path / "store" / "flowers").iterdir() if path.is_dir())
    assert names == ["2", "3"]


def test_rollback_is_refused_when_sequence_does_not_grow(make, key, tmp_path):
    store = Store(tmp_path / "store")
    store.install(make("b2", sequence=2), [key.public])
    assert code_of(store.install, make("b1", sequence=1), [key.public]) == "bundle.rollback"
    assert code_of(store.install, make("other2", sequence=2, seed=5), [key.public]) == "bundle.rollback"
    assert store.install(make("again", sequence=2), [key.public]).manifest.sequence == 2
    assert store.current("flowers").manifest.sequence == 2


def test_store_falls_back_and_says_so_when_current_is_damaged(make, key, tmp_path):
    store = Store(tmp_path / "store")
    first = store.install(make("b1", sequence=1), [key.public])
    second = store.install(make("b2", sequence=2, seed=2), [key.public])
    second.path_of("programs/w50-f32-cpu.pte").write_bytes(b"x" * 3000)
    for trusted in (None, [key.public]):
        found = store.current("flowers", trusted)
        assert found.folder == first.folder
        assert "bundle.file_hash" in found.notes[0]
    # The same bundle again repairs it; the one before is still kept.
    store.install(make("b2", sequence=2, seed=2), [key.public])
    assert store.current("flowers").manifest.sequence == 2
    assert first.folder.exists()
    first.path_of("programs/w50-f32-cpu.pte").unlink()
    second.path_of("programs/w50-f32-cpu.pte").unlink()
    assert code_of(store.current, "flowers") == "bundle.file_missing"


def test_install_is_refused_when_bundle_is_not_good(make, key, tmp_path):
    store = Store(tmp_path / "store", limits=Limits(total_bytes=9000))
    folder = make("b1")
    assert code_of(store.install, folder, [new_key(tmp_path / "other.pem").public]) == "bundle.key_untrusted"
    (folder / "programs/w50-f32-cpu.pte").write_bytes(b"x" * 3000)
    assert code_of(store.install, folder, [key.public]) == "bundle.file_hash"
    assert code_of(store.install, make("large", size=6002), [key.public]) == "bundle.limit"
    assert code_of(store.current, "flowers") == "bundle.none_installed"
    assert [path.name for path in (tmp_path / "store" / "flowers").iterdir()] == []


@pytest.mark.parametrize("name", ["flowers", "../store/flowers", "", "a/b", "."])
def test_nothing_is_found_when_nothing_is_installed(tmp_path, name):
    assert code_of(Store(tmp_path / "store").current, name) == "bundle.none_installed"


def test_install_gives_up_when_another_holds_the_lock(make, key, tmp_path):
    folder = make()
    (tmp_path / "store").mkdir()
    with FileLock(tmp_path / "store" / ".flowers.lock"):
        assert code_of(Store(tmp_path / "store", wait_seconds=0.1).install, folder, [key.public]) == "bundle.busy"


def test_install_is_refused_when_a_name_differs_only_in_case(make, key, tmp_path):
    store = Store(tmp_path / "store")
    store.install(make("a"), [key.public])
    assert code_of(store.install, make("b", name="Flowers"), [key.public]) == "bundle.exists"


def test_store_says_so_when_its_record_is_damaged(make, key, tmp_path):
    store = Store(tmp_path / "store")
    store.install(make(), [key.public])
    for content in (b"", b"{}", b'{"current":1,"previous":null,"sequence":1}'):
        (tmp_path / "store" / "flowers" / "installed.json").write_bytes(content)
        assert code_of(store.current, "flowers") == "bundle.store"
