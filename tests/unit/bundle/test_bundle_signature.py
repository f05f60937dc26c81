"""Keys and signatures."""

from __future__ import annotations

import hashlib
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ebbtide.bundle import load_private_key, load_public_key, new_key, verify_signature, write_public_key
from ebbtide.errors import EbbtideError

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def code_of(function, *arguments, **named):
    with pytest.raises(EbbtideError) as caught:
        function(*arguments, **named)
    return caught.value.code


def test_key_is_private_to_its_owner_when_new(tmp_path):
    made = new_key(tmp_path / "keys" / "dev.pem")
    path = tmp_path / "keys" / "dev.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert load_private_key(path).public.key_id == made.public.key_id


def test_key_id_is_hash_of_public_der_when_computed(tmp_path):
    public = new_key(tmp_path / "dev.pem").public
    der = public.key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert public.key_id == hashlib.sha256(der).hexdigest()[:16]


def test_new_key_refuses_when_file_exists(tmp_path):
    (tmp_path / "dev.pem").write_bytes(b"precious")
    assert code_of(new_key, tmp_path / "dev.pem") == "bundle.key_exists"
    assert (tmp_path / "dev.pem").read_bytes() == b"precious"


def test_public_key_round_trips_when_written(tmp_path):
    key = new_key(tmp_path / "dev.pem")
    write_public_key(key.public, tmp_path / "dev.pub.pem")
    assert load_public_key(tmp_path / "dev.pub.pem").key_id == key.public.key_id
    assert load_public_key(tmp_path / "dev.pem").key_id == key.public.key_id


def test_keys_are_refused_when_not_p256_pem(tmp_path):
    others = {
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "rsa": rsa.generate_private_key(65537, 2048),
    }
    for name, key in others.items():
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (tmp_path / name).write_bytes(key.private_bytes(*form))
    locked = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    (tmp_path / "locked").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*form))
    (tmp_path / "noise").write_bytes(b"-----BEGIN PUBLIC KEY-----\nnoise")
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    for name in (*others, "locked", "noise", "large", "absent"):
        assert code_of(load_private_key, tmp_path / name) == "bundle.key"
        assert code_of(load_public_key, tmp_path / name) == "bundle.key"


def test_signature_is_the_same_when_made_twice(tmp_path):
    key = new_key(tmp_path / "dev.pem")
    assert key.sign(b"manifest") == key.sign(b"manifest")


def test_signature_is_that_of_rfc_6979_when_key_is_its_example():
    # RFC 6979, A.2.5: P-256, SHA-256, message "sample".
    private = ec.derive_private_key(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, ec.SECP256R1())
    from ebbtide.bundle.signature import PrivateKey, _public

    r, s = decode_dss_signature(PrivateKey(private, _public(private.public_key())).sign(b"sample"))
    assert r == 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
    assert s == 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8


def test_signature_verifies_with_openssl_when_written(tmp_path):
    key = new_key(tmp_path / "dev.pem")
    write_public_key(key.public, tmp_path / "pub.pem")
    (tmp_path / "data").write_bytes(b"manifest")
    (tmp_path / "sig").write_bytes(key.sign(b"manifest"))
    command = ["openssl", "dgst", "-sha256", "-verify", "pub.pem", "-signature", "sig", "data"]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert b"Verified OK" in done.stdout


def test_keys_rotate_when_several_are_trusted(tmp_path):
    old, new = new_key(tmp_path / "old.pem"), new_key(tmp_path / "new.pem")
    both = [old.public, new.public]
    # Phase 1: phones trust both, bundles come from the old key. Phase 2: they come from the new one.
    assert verify_signature(b"m", old.sign(b"m"), both) == old.public.key_id
    assert verify_signature(b"m", new.sign(b"m"), both) == new.public.key_id
    # Phase 3: the old key is dropped, and what it signed is refused.
    assert code_of(verify_signature, b"m", old.sign(b"m"), [new.public]) == "bundle.signature"
    named = code_of(verify_signature, b"m", old.sign(b"m"), [new.public], key_id=old.public.key_id)
    assert named == "bundle.key_untrusted"


def test_nothing_verifies_when_no_key_is_trusted(tmp_path):
    key = new_key(tmp_path / "dev.pem")
    assert code_of(verify_signature, b"m", key.sign(b"m"), []) == "bundle.key_untrusted"


def test_signature_is_refused_when_not_the_one_encoding(tmp_path):
    key = new_key(tmp_path / "dev.pem")
    good = key.sign(b"m")
    r, s = decode_dss_signature(good)
    long_form = b"\x30\x81" + good[1:]
    padded = b"\x30" + bytes([good[1] + 1]) + b"\x02" + bytes([good[3] + 1]) + b"\x00" + good[4:]
    for bad in (
        b"", b"\x30", good[:-1], good + b"\x00", long_form, padded, b"\x00" * 64,
        encode_dss_signature(0, s), encode_dss_signature(r, 0), encode_dss_signature(r, s + ORDER),
        encode_dss_signature(r + ORDER, s), b"\x30" * 5000,
    ):  # fmt: skip
        assert code_of(verify_signature, b"m", bad, [key.public]) == "bundle.signature"
