"""Ten thousand altered copies of a real bundle: none is accepted, none ends in anything but an EbbtideError."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from ebbtide.bundle import PrivateKey, new_key, open_bundle, parse_manifest, write_bundle
from ebbtide.errors import EbbtideError

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))

import bundle_maker

MUTANTS = 5000  # of each layout: 10,000 together
SIGNED = 1000


def mutant(data: bytes, generator: random.Random) -> bytes:
    """The data with a bit flipped, a byte or a run replaced, something cut, doubled, swapped or added."""
    at = generator.randrange(len(data))
    end = min(len(data), at + generator.choice((1, 1, 2, 7, 64)))
    noise = generator.randbytes(end - at)
    return generator.choice(
        (
            data[:at] + bytes([data[at] ^ 1 << generator.randrange(8)]) + data[at + 1 :],
            data[:at] + noise + data[end:],
            data[:at] + data[end:],
            data[:at] + data[at:end] + data[at:],
            data[:at] + noise + data[at:],
            data[:at],
            data + noise,
            data[end:] + data[:end],
            data.replace(data[at:end], b"", 1),
            b"",
        )
    )


@pytest.fixture(scope="module", params=["raw", "xz"])
def bundle(request, tmp_path_factory) -> tuple[Path, PrivateKey]:
    folder = tmp_path_factory.mktemp(request.param)
    key = new_key(folder / "dev.pem")
    files = bundle_maker.files(folder / "s", size=3000)
    write_bundle(folder / "b", bundle_maker.draft(), files, key=key, payload=request.param)
    open_bundle(folder / "b", [key.public])
    return folder / "b", key


def test_no_mutant_is_accepted_when_any_byte_is_altered(bundle):
    folder, key = bundle
    parts = sorted(path for path in folder.rglob("*") if path.is_file())
    generator = random.Random(7)
    codes: list[str] = []
    while len(codes) < MUTANTS:
        part = generator.choice(parts)
        good = part.read_bytes()
        bad = mutant(good, generator)
        if bad == good:
            continue
        part.write_bytes(bad)
        with pytest.raises(EbbtideError) as caught:
            open_bundle(folder, [key.public])
        codes.append(caught.value.code)
        part.write_bytes(good)
    open_bundle(folder, [key.public])
    assert set(codes) >= {"bundle.signature", "bundle.file_size", "bundle.file_hash"}


def test_no_mutant_crashes_when_its_owner_signed_it(bundle):
    """The signature stops nobody who holds the key: each reader's own check must hold alone."""
    folder, key = bundle
    manifest, signature = folder / "manifest.json", folder / "manifest.sig"
    good, original = manifest.read_bytes(), signature.read_bytes()
    generator = random.Random(11)
    refused = accepted = 0
    for _ in range(SIGNED):
        bad = mutant(good, generator)
        manifest.write_bytes(bad)
        signature.write_bytes(key.sign(bad))
        try:
            opened = open_bundle(folder, [key.public])
        except EbbtideError as error:
            refused += error.code.startswith("bundle.")
        else:
            accepted += 1
            assert opened.manifest == parse_manifest(bad)  # another name or number, and still a valid manifest
    manifest.write_bytes(good)
    signature.write_bytes(original)
    assert refused + accepted == SIGNED
    assert refused > SIGNED // 2
