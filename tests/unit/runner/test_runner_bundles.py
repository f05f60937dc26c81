"""The C++ reader of bundles refuses what Python's refuses, with the same codes, and nothing crashes it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bundle_maker
import numpy as np
import pytest
from manifest_base import base, written
from runner_bundles import draft

from ebbtide.bundle import Bundle, PrivateKey, new_key, open_bundle, parse_manifest, write_bundle
from ebbtide.bundle.reader import open_installed
from ebbtide.bundle.signature import MAX_SIGNATURE_BYTES
from ebbtide.errors import EbbtideError

SIGNED_MUTANTS = 1500  # of each kind
FOLDER_MUTANTS = 60


def refusal(runner: Path, *arguments: object) -> dict[str, Any]:
    """The error with which a command ends: one line on stderr, exit status 2."""
    done = subprocess.run([runner, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, (done.returncode, done.stdout[:200], done.stderr[:400])
    assert done.stderr.count("\n") == 1
    error: dict[str, Any] = json.loads(done.stderr)["error"]
    assert error["message"].endswith(".")
    return error


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.folder, tmp_path / "copy"))


def change(manifest: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(manifest.read_bytes())
    edit(document)
    manifest.write_text(json.dumps(document))


def replace_program(folder: Path, content: bytes) -> None:
    """Another program with a manifest that states it truly."""
    (folder / "programs/w100.pte").write_bytes(content)

    def state(document: dict[str, Any]) -> None:
        entry = next(one for one in document["files"] if one["path"] == "programs/w100.pte")
        entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    change(folder / "manifest.json", state)


def test_a_signed_bundle_is_verified(runner: Path, bundle: Bundle, key: PrivateKey, tmp_path: Path) -> None:
    (tmp_path / "public.pem").write_bytes(key.public.pem())
    command = [runner, "verify", bundle.folder, "--key", tmp_path / "public.pem"]
    facts = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert facts["manifest_sha256"] == hashlib.sha256(bundle.manifest_bytes).hexdigest()
    assert (facts["key_id"], facts["signature_checked"], facts["files"]) == (bundle.key_id, True, 2)


def test_a_signature_of_anyone_else_is_refused(runner: Path, copy: Path, key: PrivateKey, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other.pem")
    for name, content in {
        "own": key.public.pem(),
        "other": other.public.pem(),
        "nonsense": b"no key",
        "private": (tmp_path / "other.pem").read_bytes(),
    }.items():
        (tmp_path / f"{name}.key").write_bytes(content)
    assert refusal(runner, "verify", copy, "--key", tmp_path / "other.key")["code"] == "bundle.key_untrusted"
    assert refusal(runner, "verify", copy, "--key", tmp_path / "nonsense.key")["code"] == "bundle.key"
    assert refusal(runner, "verify", copy, "--key", tmp_path / "private.key")["code"] == "bundle.key"
    assert refusal(runner, "verify", copy, "--key", tmp_path / "none.key")["code"] == "bundle.key"
    signature = (copy / "manifest.sig").read_bytes()
    # A byte more can be more than any signature has, which the reader refuses before it looks inside.
    longer = "bundle.limit" if len(signature) == MAX_SIGNATURE_BYTES else "bundle.signature"
    for bad, code in {
        b"": "bundle.signature",
        signature[:-1]: "bundle.signature",
        signature + b"\0": longer,
        other.sign((copy / "manifest.json").read_bytes()): "bundle.signature",
    }.items():
        (copy / "manifest.sig").write_bytes(bad)
        assert refusal(runner, "verify", copy, "--key", tmp_path / "own.key")["code"] == code
    (copy / "manifest.sig").write_bytes(signature)
    change(copy / "manifest.json", lambda document: document.update(sequence=4))
    assert refusal(runner, "verify", copy, "--key", tmp_path / "own.key")["code"] == "bundle.signature"


def linked(folder: Path) -> None:
    (folder / "programs/w50.pte").rename(folder.parent / "elsewhere.pte")
    (folder / "programs/w50.pte").symlink_to(folder.parent / "elsewhere.pte")


def piped(folder: Path) -> None:
    (folder / "programs/w50.pte").unlink()
    os.mkfifo(folder / "programs/w50.pte")


def flipped(folder: Path) -> None:
    data = bytearray((folder / "programs/w50.pte").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "programs/w50.pte").write_bytes(data)


FAULTS: dict[str, Callable[[Path], object]] = {
    "bundle.file_hash": flipped,
    "bundle.file_size": lambda folder: (folder / "programs/w50.pte").write_bytes(b"short"),
    "bundle.file_missing": lambda folder: (folder / "programs/w50.pte").unlink(),
    "bundle.file_kind": linked,
    "bundle.file_kind ": piped,
    "bundle.extra_file": lambda folder: (folder / "programs/more").write_bytes(b""),
    "bundle.extra_file ": lambda folder: (folder / "empty").mkdir(),
    "bundle.file_missing ": lambda folder: (folder / "manifest.json").unlink(),
    "bundle.manifest_syntax": lambda folder: (folder / "manifest.json").write_bytes(b"{"),
    "bundle.limit": lambda folder: (folder / "manifest.json").write_bytes(b" " * (8 * 2**20 + 1)),
    "bundle.manifest_unknown_key": lambda folder: change(
        folder / "manifest.json", lambda document: document.update(licence="MIT")
    ),
    "bundle.manifest_value": lambda folder: change(
        folder / "manifest.json", lambda document: document["files"][0].update(path="../w100.pte")
    ),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_has_the_code_that_python_gives(runner: Path, copy: Path, code: str) -> None:
    FAULTS[code](copy)
    with pytest.raises(EbbtideError) as caught:
        open_installed(copy)
    found = refusal(runner, "run", copy)
    assert (found["code"], caught.value.code) == (code.strip(), code.strip())
    assert found["place"] == caught.value.place


def test_another_runtime_is_refused_before_anything_is_loaded(runner: Path, copy: Path) -> None:
    original = (copy / "manifest.json").read_bytes()
    for edit, code in (
        ({"min": "1.6.0"}, "bundle.runtime_version"),
        ({"min": "1.0.0", "max_exclusive": "1.5.1"}, "bundle.runtime_version"),
        ({"backends": ["xnnpack", "vulkan"]}, "bundle.runtime_version"),
        ({"engine": "coreml"}, "runtime.engine"),
    ):
        (copy / "manifest.json").write_bytes(original)
        change(copy / "manifest.json", lambda document, edit=edit: document["runtime"].update(edit))
        assert refusal(runner, "run", copy)["code"] == code


def test_a_packed_bundle_says_that_it_must_be_installed(
    runner: Path, lowered: dict[str, Path], key: PrivateKey, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "packed", draft(), lowered, key=key, payload="xz")
    error = refusal(runner, "run", tmp_path / "packed")
    assert error["code"] == "bundle.payload"
    assert "ebb install" in error["hint"]


def test_an_extension_is_ignored(runner: Path, copy: Path) -> None:
    change(copy / "manifest.json", lambda document: document["policy"].update(x_own={"deep": [None]}))
    assert subprocess.run([runner, "verify", copy], capture_output=True, check=False).returncode == 0


def test_a_program_that_is_truly_stated_but_no_program_is_an_error(
    runner: Path, copy: Path, lowered: dict[str, Path]
) -> None:
    good = lowered["programs/w100.pte"].read_bytes()
    generator = random.Random(3)
    for content in (b"", b"x", bytes(4096), generator.randbytes(50_000), good[:200], good[: len(good) // 2]):
        replace_program(copy, content)
        assert refusal(runner, "run", copy)["code"] == "engine.load"
    replace_program(copy, lowered["programs/w50.pte"].read_bytes())  # a program, but of other shapes
    error = refusal(runner, "run", copy)
    assert error["code"] == "engine.load"
    assert "another shape" in error["found"]


def test_a_file_of_inputs_that_does_not_fit_is_an_error(runner: Path, bundle: Bundle, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((3, 1, 8, 8), np.float32))
    done = subprocess.run([runner, "run", bundle.folder, "--input", inputs], capture_output=True, check=True)
    assert len(done.stdout.splitlines()) == 3
    whole = inputs.read_bytes()
    for name, content in {
        "short": whole[:-4],
        "header": whole[:40],
        "empty": b"",
        "text": b"1 2 3",
        "version": whole[:6] + b"\x09" + whole[7:],
    }.items():
        inputs.write_bytes(content)
        assert refusal(runner, "run", bundle.folder, "--input", inputs)["code"] == "runtime.input", name
    for array in (
        np.zeros((3, 1, 9, 8), np.float32),
        np.zeros((3, 1, 8, 8), np.float64),
        np.asfortranarray(np.zeros((3, 1, 8, 8), np.float32)),
        np.zeros((), np.float32),
    ):
        np.save(inputs, array)
        assert refusal(runner, "run", bundle.folder, "--input", inputs)["code"] == "runtime.input"
    assert refusal(runner, "run", bundle.folder, "--input", tmp_path / "none.npy")["code"] == "runtime.input"
    assert refusal(runner, "run", bundle.folder, "-c", "none")["code"] == "runtime.configuration"
    assert refusal(runner, "run", bundle.folder, "--tier", "9")["code"] == "runtime.tier"


def test_altered_bundles_are_refused_as_python_refuses_them(runner: Path, key: PrivateKey, tmp_path: Path) -> None:
    (tmp_path / "public.pem").write_bytes(key.public.pem())
    folder = tmp_path / "b"
    write_bundle(folder, bundle_maker.draft(), bundle_maker.files(tmp_path / "s"), key=key, payload="raw")
    parts = sorted(path for path in folder.rglob("*") if path.is_file())
    generator = random.Random(7)
    for _ in range(FOLDER_MUTANTS):
        part = generator.choice(parts)
        good = part.read_bytes()
        at = generator.randrange(len(good))
        part.write_bytes(generator.choice((good[:at], good[:at] + b"\0" + good[at:], good[:at] + good[at + 1 :])))
        with pytest.raises(EbbtideError) as caught:
            open_bundle(folder, [key.public])
        found = refusal(runner, "verify", folder, "--key", tmp_path / "public.pem")
        assert (found["code"], found["place"]) == (caught.value.code, caught.value.place)
        part.write_bytes(good)


# What a value of a manifest is replaced by: right and wrong ones of every type, and names from other places.
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 7, 1.0, 0.5, 1e39, 2**53, 2**53 - 1, "", "x", "w50", "stage0", "exit0", "head"),
    *("xz", "raw", "../a", "a\0", "é", "e\u0301", "Programs/W100-f32-cpu.pte", [], {}, [1], ["c0"], {"x_a": {}}),
    *({"x_a": 1}, "c1", "2026-02-30T00:00:00Z", "1.5.0", "9.0.0", "image", "signal", "gray", "NCT", [3, 2, 1], 4095),
)
KEYS = ("x", "x_own", "X_", "Name", "file", "layout", "threshold", "type", "xz", "outside")


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a document with a key or index of it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield value, key
        yield from places(item)


def altered(document: Any, generator: random.Random) -> None:
    """One change: a value replaced, left out, moved, doubled or nudged, or a key added."""
    everywhere = list(places(document))
    container, key = generator.choice(everywhere)
    value, act = container[key], generator.randrange(5)
    if act == 0:
        container[key] = generator.choice(VALUES)
    elif act == 1:
        del container[key]
    elif act == 2 and isinstance(container, dict):
        container[generator.choice(KEYS)] = generator.choice(VALUES)
    elif act == 2:
        container.insert(generator.randrange(len(container) + 1), json.loads(json.dumps(value)))
    elif act == 3:
        simple = [other[name] for other, name in everywhere if not isinstance(other[name], dict | list)]
        container[key] = generator.choice(simple)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        container[key] = value + generator.choice((1, -1, 0.5))
    else:
        container[key] = value[:-1] if isinstance(value, str | list) else generator.choice(VALUES)


def mutants() -> Iterator[bytes]:
    generator = random.Random(19)
    for _ in range(SIGNED_MUTANTS):
        document = json.loads(written(base()))
        altered(document, generator)
        yield json.dumps(document).encode()
    good = written(base()).encode()
    for _ in range(SIGNED_MUTANTS):
        at = generator.randrange(len(good))
        yield good[:at] + generator.choice(b'"{}[]:,019.-eE\\u x\xc3\xff\0').to_bytes() + good[at + 1 :]


def test_altered_manifests_give_the_code_and_path_that_python_gives(runner: Path, tmp_path: Path) -> None:
    """Vectors that nobody wrote: whatever Python's reader says of three thousand manifests, this one says too."""
    vectors, codes = [], set()
    for data in mutants():
        vector: dict[str, Any] = {"name": "mutant", "why": "", "text": data.decode("latin-1")}
        try:
            # The text becomes UTF-8 in the file, so Python is shown what the runner will see.
            parse_manifest(vector["text"].encode())
            codes.add("valid")
        except EbbtideError as error:
            vector["error"] = {"code": error.code, "path": error.place}
            codes.add(error.code)
        vectors.append(vector)
    (tmp_path / "mutants.json").write_text(json.dumps(vectors))
    command = [runner, "replay", "manifest", tmp_path / "mutants.json"]
    said = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    assert said["first_difference"] is None
    assert said["equal"] == len(vectors)
    assert codes >= {"valid", *(f"bundle.manifest_{kind}" for kind in ("value", "syntax", "unknown_key", "reference"))}
