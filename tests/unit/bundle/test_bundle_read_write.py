"""Writing and opening bundles."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import bundle_maker
import psutil
import pytest

from ebbtide.bundle import Limits, check_runtime, diff_bundles, new_key, open_bundle, write_bundle
from ebbtide.bundle.payload import dictionary_for
from ebbtide.errors import EbbtideError

FORMS = pytest.mark.parametrize("payload", ["raw", "xz"])


def code_of(function, *arguments, **named):
    with pytest.raises(EbbtideError) as caught:
        function(*arguments, **named)
    return caught.value.code


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@FORMS
def test_bundle_opens_with_its_content_when_written(make, key, payload):
    bundle = open_bundle(make(payload=payload), [key.public])
    assert bundle.key_id == key.public.key_id
    assert bundle.packed == (payload == "xz")
    assert bundle.manifest.created == "2023-11-14T22:13:20Z"
    contents = {name: b"".join(bytes(block) for block in blocks) for name, blocks in bundle.contents()}
    assert [len(content) for content in contents.values()] == [6000, 3000]
    for entry in bundle.manifest.files:
        assert hashlib.sha256(contents[entry.path]).hexdigest() == entry.sha256


@FORMS
def test_bundle_is_byte_equal_when_written_twice(make, payload):
    assert tree(make("a", payload=payload)) == tree(make("b", payload=payload))


def test_created_is_what_was_given_when_no_epoch_is_set(tmp_path, key, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    files, when = bundle_maker.files(tmp_path / "s"), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    manifest = write_bundle(tmp_path / "b", bundle_maker.draft(), files, key=key, created=when)
    assert manifest.created == "2026-01-02T03:04:05Z"


def test_writing_is_refused_when_epoch_is_not_a_number(make, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    make("fine")
    import bundle_maker as maker

    files, key = maker.files(Path(make("fine")).parent / "s"), new_key(Path(make("fine")).parent / "k.pem")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert code_of(write_bundle, Path("never"), maker.draft(), files, key=key) == "bundle.source_date"


def test_packed_program_costs_little_when_it_repeats_a_wider_one(make):
    packed = make(payload="xz", size=1_000_000)
    size = (packed / "payload.xz").stat().st_size
    assert size < 1_010_000  # the second program, half a megabyte of slices, is all but free
    assert (
        lzma.decompress((packed / "payload.xz").read_bytes())[:100]
        == (packed.parent / "sources/w100.pte").read_bytes()[:100]
    )


@pytest.mark.parametrize(("size", "expected"), [(0, 65536), (65537, 98304), (98305, 131072), (5_000_000, 6291456)])
def test_dictionary_is_one_that_lzma_can_state_when_computed(size, expected):
    assert dictionary_for(size) == expected


def test_writing_replaces_when_the_same_bundle_lies_there(make, key):
    make(sequence=1)
    assert open_bundle(make(sequence=2, payload="xz"), [key.public]).manifest.sequence == 2
    assert open_bundle(make(sequence=3), [key.public]).manifest.sequence == 3


def test_writing_is_refused_when_something_else_lies_there(make, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    make("other", name="trees")
    (make("noted") / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(make("target"))
    for place in ("file", "folder", "other", "noted", "link"):
        before = tree(tmp_path / place) if place != "file" else (tmp_path / "file").read_text()
        assert code_of(make, place) == "bundle.exists", place
        assert before == (tree(tmp_path / place) if place != "file" else (tmp_path / "file").read_text())


def test_writing_is_refused_when_sources_or_parts_do_not_fit(tmp_path, key):
    files, draft, place = bundle_maker.files(tmp_path / "s"), bundle_maker.draft(), tmp_path / "b"
    gone = files | {"programs/w50-f32-cpu.pte": tmp_path / "gone"}
    assert code_of(write_bundle, place, draft, gone, key=key) == "bundle.file_missing"
    assert code_of(write_bundle, place, draft, {"../up": tmp_path / "s/w50.pte"}, key=key) == "bundle.manifest_value"
    one = {"programs/w100-f32-cpu.pte": tmp_path / "s/w100.pte"}
    assert code_of(write_bundle, place, draft, one, key=key) == "bundle.manifest_reference"
    twin = files | {"Programs/x": tmp_path / "s/w50.pte"}
    assert code_of(write_bundle, place, draft, twin, key=key) == "bundle.manifest_duplicate"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]


def test_leftovers_are_removed_when_their_writer_is_gone(make, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale, alive = tmp_path / f".bundle.{gone.pid}.new", tmp_path / f".bundle.{os.getppid()}.new"
    stale.mkdir()
    alive.mkdir()
    make()
    assert not stale.exists()
    assert alive.exists()


@FORMS
def test_opening_is_refused_when_key_sequence_or_limits_say_so(make, tmp_path, key, payload):
    folder = make(payload=payload)
    other = new_key(tmp_path / "other.pem").public
    assert code_of(open_bundle, folder, [other]) == "bundle.key_untrusted"
    assert open_bundle(folder, [other, key.public]).key_id == key.public.key_id
    assert open_bundle(folder, [key.public], minimum_sequence=7).manifest.sequence == 7
    assert code_of(open_bundle, folder, [key.public], minimum_sequence=8) == "bundle.rollback"
    for limits in (Limits(total_bytes=8999), Limits(manifest_bytes=100)):
        assert code_of(open_bundle, folder, [key.public], limits=limits) == "bundle.limit"
    open_bundle(folder, [key.public], limits=Limits(total_bytes=9000))
    if payload == "xz":
        assert code_of(open_bundle, folder, [key.public], limits=Limits(dictionary_bytes=65535)) == "bundle.limit"


def test_opening_is_refused_when_folder_differs_from_manifest(make, key, tmp_path):
    good = make()
    program = "programs/w50-f32-cpu.pte"

    def spoil(action):
        shutil.rmtree(tmp_path / "bad", ignore_errors=True)
        shutil.copytree(good, tmp_path / "bad")
        action(tmp_path / "bad")
        return code_of(open_bundle, tmp_path / "bad", [key.public])

    def replace(name, make_it):
        def action(folder):
            (folder / name).unlink()
            make_it(folder / name)

        return action

    assert spoil(lambda f: (f / "extra").write_text("x")) == "bundle.extra_file"
    assert spoil(lambda f: (f / "payload.xz").write_text("x")) == "bundle.extra_file"
    assert spoil(lambda f: (f / "empty").mkdir()) == "bundle.extra_file"
    assert spoil(lambda f: (f / "programs" / ".hidden").write_text("x")) == "bundle.extra_file"
    assert spoil(lambda f: (f / program).unlink()) == "bundle.file_missing"
    assert spoil(lambda f: (f / "manifest.sig").unlink()) == "bundle.file_missing"
    assert spoil(lambda f: shutil.rmtree(f / "programs")) == "bundle.file_missing"
    assert spoil(lambda f: (f / program).write_bytes(b"x" * 2999)) == "bundle.file_size"
    assert spoil(lambda f: (f / program).write_bytes(b"x" * 3000)) == "bundle.file_hash"
    for name in (program, "manifest.json", "manifest.sig"):
        assert spoil(replace(name, lambda path: path.symlink_to(good / name))) == "bundle.file_kind"  # noqa: B023
        assert spoil(replace(name, os.mkfifo)) == "bundle.file_kind"
        assert spoil(replace(name, Path.mkdir)) in ("bundle.file_kind", "bundle.extra_file")
    linked = lambda f: (shutil.rmtree(f / "programs"), (f / "programs").symlink_to(good / "programs"))  # noqa: E731
    assert spoil(linked) == "bundle.file_kind"
    assert code_of(open_bundle, tmp_path / "absent", [key.public]) == "bundle.file_missing"


def resigned(folder: Path, key, **changes) -> Path:
    """A bundle whose manifest its owner has changed and signed, so that only the reader's own checks stand."""
    import json

    document = json.loads((folder / "manifest.json").read_bytes())
    document["payload"]["xz"] |= changes.pop("xz", {})
    data = json.dumps(document | changes).encode()
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.sig").write_bytes(key.sign(data))
    return folder


def test_opening_is_refused_when_signed_payload_is_a_bomb_or_broken(make, key):
    def with_stream(stream: bytes, **xz):
        folder = make(payload="xz")
        (folder / "payload.xz").write_bytes(stream)
        facts = {"size": len(stream), "sha256": hashlib.sha256(stream).hexdigest()} | xz
        return code_of(open_bundle, resigned(folder, key, xz=facts), [key.public])

    good = (make(payload="xz") / "payload.xz").read_bytes()
    content = lzma.decompress(good)
    assert with_stream(good + b"\x00\x00\x00\x00") == "bundle.payload"  # stream padding
    assert with_stream(good + good) == "bundle.payload"
    assert with_stream(good[:-4]) == "bundle.payload"
    assert with_stream(b"not xz at all") == "bundle.payload"
    assert with_stream(lzma.compress(content[:-1])) == "bundle.payload"
    assert with_stream(lzma.compress(content + b"x")) == "bundle.payload"
    assert with_stream(lzma.compress(content[:-1] + b"!", preset=0)) in ("bundle.payload", "bundle.file_hash")
    assert with_stream(lzma.compress(bytes(20_000_000), preset=0)) in ("bundle.payload", "bundle.limit")
    # A dictionary beyond what the manifest states would be memory that the reader did not agree to.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}]
    assert with_stream(lzma.compress(content, filters=filters)) == "bundle.payload"
    assert with_stream(good, size=10**9) == "bundle.limit"


def test_bomb_costs_no_memory_when_decoded(make, key):
    folder = make(payload="xz")
    stream = lzma.compress(bytes(100_000_000), preset=0)
    (folder / "payload.xz").write_bytes(stream)
    facts = {"size": len(stream), "sha256": hashlib.sha256(stream).hexdigest(), "dictionary_bytes": 1 << 20}
    resigned(folder, key, xz=facts)
    before = psutil.Process().memory_info().rss
    code_of(open_bundle, folder, [key.public])
    assert psutil.Process().memory_info().rss - before < 32 * 2**20


def test_key_id_must_be_the_signer_when_manifest_states_another(make, key):
    folder = resigned(make(payload="xz"), key, key_id="0" * 16)
    assert code_of(open_bundle, folder, [key.public]) == "bundle.signature"


def test_path_of_is_refused_when_unlisted_or_packed(make, key):
    raw, packed = open_bundle(make("raw"), [key.public]), open_bundle(make("xz", payload="xz"), [key.public])
    name = "programs/w50-f32-cpu.pte"
    assert raw.path_of(name).stat().st_size == 3000
    assert code_of(raw.path_of, "programs/none") == "bundle.manifest_reference"
    assert code_of(packed.path_of, name) == "bundle.payload"


@pytest.mark.parametrize("version", ["1.5.0", "1.5.1+cpu", "1.6.9"])
def test_runtime_is_taken_when_in_range(make, key, version):
    check_runtime(open_bundle(make(), [key.public]).manifest.runtime, version, ["xnnpack", "portable"])


@pytest.mark.parametrize("version", ["1.4.9", "1.7.0", "2.0.0", "0.9", "unknown"])
def test_runtime_is_refused_when_out_of_range(make, key, version):
    runtime = open_bundle(make(), [key.public]).manifest.runtime
    assert code_of(check_runtime, runtime, version, ["xnnpack"]) == "bundle.runtime_version"
    assert code_of(check_runtime, runtime, "1.5.1", ["vulkan"]) == "bundle.runtime_version"


def test_diff_names_what_changed_and_what_travels(make, key):
    old = open_bundle(make("old", size=40_000), [key.public])
    document = bundle_maker.changed()
    document["configurations"][0]["path"][1]["threshold"] = 3.0
    thresholds = make("thresholds", size=40_000, sequence=8, configurations=document["configurations"])
    same = diff_bundles(old, open_bundle(thresholds, [key.public]))
    assert same.configurations.changed == ("c0",)
    assert (same.new_bytes, same.new_xz_bytes) == (0, 0)
    assert {change.state for change in same.files} == {"same"}
    assert same.settings == ()
    other = open_bundle(make("other", size=40_000, seed=2, payload="xz", tiers=["c1"]), [key.public])
    changed = diff_bundles(old, other)
    assert changed.tiers == (("c0", "c1"), ("c1",))
    assert {change.state for change in changed.files} == {"changed"}
    assert changed.new_bytes == 60_000
    assert changed.full_xz_bytes == (other.folder / "payload.xz").stat().st_size
    assert 40_000 < changed.new_xz_bytes < 41_000
    assert changed.settings == ("payload",)
    assert changed.as_dict()["sequence"] == (7, 7)


def test_reader_needs_no_torch_when_imported():
    code = "import sys, ebbtide.bundle, ebbtide.device; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_large_bundle_is_fast_and_small_in_memory_when_verified(make, key, tmp_path):
    files = bundle_maker.files(tmp_path / "s", size=33_400_000)  # 50 MB in two files
    start = time.perf_counter()
    write_bundle(tmp_path / "fast", bundle_maker.draft(), files, key=key)
    open_bundle(tmp_path / "fast", [key.public])
    assert time.perf_counter() - start < 2
    folder = make("large", size=333_000_000)
    before = psutil.Process().memory_info().rss
    open_bundle(folder, [key.public])
    assert psutil.Process().memory_info().rss - before < 64 * 2**20
