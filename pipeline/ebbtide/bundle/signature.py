"""Signatures: ECDSA over P-256 with SHA-256, which every platform verifies with its own crypto.

A signature is over the exact bytes of a manifest and lies beside it in DER form. It is deterministic (RFC 6979), so the
same manifest and key give the same bundle. A key is known by its id: the first 16 hexadecimal digits of the SHA-256 of
its SubjectPublicKeyInfo in DER form. Several keys may be trusted at once: to rotate, trust the new key beside the old
one, sign with the new one, and drop the old one when no bundle signed by it is wanted any more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ebbtide.errors import EbbtideError
from ebbtide.steps import storage_errors

MAX_SIGNATURE_BYTES = 72
"""Two integers of at most 33 bytes with two bytes of header each, and two for the sequence."""
MAX_KEY_BYTES = 16 * 1024

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, SEC 2 section 2.4.2


@dataclass(frozen=True)
class PublicKey:
    """A key that may be trusted, with its id."""

    key: ec.EllipticCurvePublicKey
    key_id: str

    def pem(self) -> bytes:
        """The key as SubjectPublicKeyInfo in PEM form."""
        return self.key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs."""

    key: ec.EllipticCurvePrivateKey
    public: PublicKey

    def sign(self, data: bytes) -> bytes:
        """The DER signature of the exact bytes; the same each time."""
        return self.key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def _public(key: ec.EllipticCurvePublicKey) -> PublicKey:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(key, hashlib.sha256(der).hexdigest()[:16])


def _bad_key(path: Path, found: str, expected: str) -> EbbtideError:
    return EbbtideError(
        "bundle.key",
        "This is not a key that can be used here.",
        expected=expected,
        found=found,
        hint="Make one with `ebb keys new`, and its public half with `ebb keys public`.",
        place=str(path),
    )


def _read_key(path: Path, expected: str) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise _bad_key(path, error.strerror or "a file that cannot be read", expected) from None
    if len(data) > MAX_KEY_BYTES:
        raise _bad_key(path, f"more than {MAX_KEY_BYTES} bytes", expected)
    return data


def new_key(path: Path) -> PrivateKey:
    """Make a key pair and write the private key: PKCS #8 in PEM form, unencrypted, readable by its owner only.

    Raises:
        EbbtideError: ``bundle.key_exists`` rather than overwrite anything; ``steps.disk_full``, ``steps.read_only``.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write_new(path, pem, mode=0o600)
    return PrivateKey(key, _public(key.public_key()))


def write_public_key(key: PublicKey, path: Path) -> None:
    """Write a public key in PEM form, refusing to overwrite; raises as `new_key` does."""
    _write_new(path, key.pem(), mode=0o644)


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise EbbtideError(
                "bundle.key_exists",
                "There is a file already, and a lost key cannot be had back.",
                hint="Choose another name, or move the old file away first.",
                place=str(path),
            ) from None
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def load_private_key(path: Path) -> PrivateKey:
    """Read a private key.

    Raises:
        EbbtideError: ``bundle.key`` if it is not an unencrypted P-256 key in PEM form.
    """
    expected = "an unencrypted P-256 private key in PEM form"
    data = _read_key(path, expected)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _bad_key(path, "something else", expected) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_key(path, "a key of another kind", expected)
    return PrivateKey(key, _public(key.public_key()))


def load_public_key(path: Path) -> PublicKey:
    """Read a public key in PEM form, or the public half of a private one.

    Raises:
        EbbtideError: ``bundle.key`` if it is neither.
    """
    expected = "a P-256 public key in PEM form"
    data = _read_key(path, expected)
    if b"PRIVATE KEY" in data:
        return load_private_key(path).public
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise _bad_key(path, "something else", expected) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_key(path, "a key of another kind", expected)
    return _public(key)


def verify_signature(data: bytes, signature: bytes, trusted: Sequence[PublicKey], *, key_id: str | None = None) -> str:
    """Check that one of the trusted keys signed exactly these bytes.

    Args:
        data: the bytes of the manifest.
        signature: DER, minimal form only.
        trusted: at least one key; all are tried, in order.
        key_id: the id that the manifest states, for the message and to insist on that very key.

    Returns:
        The id of the key that signed.

    Raises:
        EbbtideError: ``bundle.key_untrusted`` if no trusted key has that id or none is trusted, ``bundle.signature``
            if the signature is malformed or wrong.
    """
    by_id: Mapping[str, PublicKey] = {key.key_id: key for key in trusted}
    if not by_id or (key_id is not None and key_id not in by_id):
        raise EbbtideError(
            "bundle.key_untrusted",
            "The bundle is signed by a key that is not trusted here.",
            expected=" or ".join(by_id) or "at least one trusted key",
            found=key_id,
            hint="Give the public key of whoever built the bundle, if you trust them.",
            place="manifest.sig",
        )
    _check_form(signature)
    for name, key in by_id.items():
        if key_id in (None, name) and _is_valid(key, data, signature):
            return name
    raise _bad_signature("The manifest is not what was signed, or the signature is another's.")


def _bad_signature(message: str) -> EbbtideError:
    return EbbtideError(
        "bundle.signature", message, hint="Fetch the bundle again from its source.", place="manifest.sig"
    )


def _check_form(signature: bytes) -> None:
    """Accept one encoding for each pair of integers in range: a second one would be a second valid file."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise _bad_signature(f"The signature has more than {MAX_SIGNATURE_BYTES} bytes.")
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        raise _bad_signature("The signature is not an ECDSA signature in DER form.") from None
    if not (0 < r < _ORDER and 0 < s < _ORDER) or encode_dss_signature(r, s) != signature:
        raise _bad_signature("The signature is not in the one form that DER allows.")


def _is_valid(key: PublicKey, data: bytes, signature: bytes) -> bool:
    try:
        key.key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
