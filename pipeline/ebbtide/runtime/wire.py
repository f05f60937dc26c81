"""What session and server say to each other: tensors in the safetensors format, in a body of known size.

A session posts the feature map at which its own part of a path ends to

    POST {address}/v1/bundles/{digest}/configurations/{configuration}

as ``{map}``, float32 in the shape that the manifest gives the step's input, row by row whatever the order of memory on
either side. The answer to 200 is ``{probabilities (k), confidence (1), logits (k), step (1)}``, all float32 but
``step``, int64: the index into the configuration's path of the exit or head that was left at; the header
`DIGEST_HEADER` repeats the digest. Every other answer is JSON, ``{"error": {...}}`` as `EbbtideError.as_dict` gives it.
Nothing in a message is code, and whoever reads one knows names, types, shapes and the number of bytes beforehand.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ebbtide.bundle import Bundle, manifest_bytes
from ebbtide.errors import EbbtideError
from ebbtide.runtime.residency import Source

DIGEST_HEADER: Final = "Ebbtide-Bundle"
MEDIA_TYPE: Final = "application/vnd.safetensors"
MAP: Final = "map"

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Names to element type (`F32` or `I64`) and shape."""

_NUMPY: Final[dict[str, np.dtype[Any]]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
# What the head of a message may take: its names, types and shapes as JSON.
_HEAD_BYTES: Final = 1024


def digest_of(source: Source) -> str:
    """SHA-256 (hex) of a bundle's manifest, which lists the hash of every file: equal digests, equal programs."""
    signed = source.manifest_bytes if isinstance(source, Bundle) else manifest_bytes(source.manifest)
    return hashlib.sha256(signed).hexdigest()


def map_shapes(shape: tuple[int, ...]) -> Shapes:
    """What a question holds."""
    return {MAP: ("F32", shape)}


def answer_shapes(classes: int) -> Shapes:
    """What an answer over so many classes holds."""
    return {
        "probabilities": ("F32", (classes,)),
        "confidence": ("F32", (1,)),
        "logits": ("F32", (classes,)),
        "step": ("I64", (1,)),
    }


def most_bytes(shapes: Shapes) -> int:
    """The longest message of these tensors, in bytes."""
    return _HEAD_BYTES + sum(_NUMPY[kind].itemsize * math.prod(shape) for kind, shape in shapes.values())


def pack(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Tensors as a message."""
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def unpack(body: bytes, shapes: Shapes) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a message, in memory of their own.

    Raises:
        EbbtideError: ``runtime.wire`` if the message holds anything else than these names, types and shapes.
    """
    from safetensors import SafetensorError, deserialize

    if len(body) > most_bytes(shapes):
        raise _refused("too long", expected=f"at most {most_bytes(shapes)} bytes", found=f"{len(body)} bytes")
    try:
        found: dict[str, dict[str, Any]] = dict(deserialize(body))  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError, TypeError) as error:
        raise _refused(f"no safetensors message: {error}") from None
    if found.keys() != shapes.keys():
        raise _refused("of other tensors", expected=", ".join(sorted(shapes)), found=", ".join(sorted(found))[:200])
    tensors = {}
    for name, (kind, shape) in shapes.items():
        one = found[name]
        if one["dtype"] != kind or tuple(one["shape"]) != shape:
            raise _refused(
                f"of another {name}", expected=f"{kind} {list(shape)}", found=f"{one['dtype']} {one['shape']}", at=name
            )
        values = np.frombuffer(one["data"], dtype=_NUMPY[kind])
        tensors[name] = values.astype(values.dtype.newbyteorder("=")).reshape(shape)
    return tensors


def _refused(
    what: str, *, expected: str | None = None, found: str | None = None, at: str | None = None
) -> EbbtideError:
    return EbbtideError(
        "runtime.wire",
        f"The message is {what}.",
        expected=expected,
        found=found,
        hint="session and server must be of one version and hold one bundle",
        place=at,
    )
