"""The payload as one solid xz stream, for downloads.

All files, concatenated in the order of the manifest, go through one LZMA2 encoder whose dictionary is at least the
largest program, so that a narrow program that repeats slices of a wide one before it costs little. The manifest states
the dictionary, so that a reader knows what it must allocate before it decodes, and the size and hash of the stream, so
that nothing is decoded that was not signed.
"""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ebbtide.bundle.files import BLOCK_BYTES, blocks_of, open_plain
from ebbtide.bundle.manifest import XzEntry
from ebbtide.errors import EbbtideError

MIN_DICTIONARY_BYTES = 64 * 1024
MAX_DICTIONARY_BYTES = 1536 * 1024 * 1024  # what liblzma's encoder can use
_DECODER_BYTES = 1024 * 1024  # beside the dictionary; liblzma needs about 40 KiB

# A CRC-32 suffices inside a stream whose SHA-256 is signed, and the smallest decoders know no other check.
_CHECK = lzma.CHECK_CRC32


def dictionary_for(program_bytes: int) -> int:
    """The smallest dictionary that LZMA2 can state, 2^n or 3 * 2^n, that holds a program of this size."""
    size = MIN_DICTIONARY_BYTES
    while size < program_bytes and size < MAX_DICTIONARY_BYTES:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size


def compressor(dictionary_bytes: int) -> lzma.LZMACompressor:
    """An encoder of one stream; the same input gives the same bytes with the same liblzma."""
    # Weights come in fours of bytes: a literal's context is its place in the word (lp), not the byte before it (lc).
    # On float32 weights that gives streams 8 % smaller than the preset alone.
    literals = {"lc": 0, "lp": 2, "pb": 2}
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary_bytes} | literals]
    return lzma.LZMACompressor(format=lzma.FORMAT_XZ, check=_CHECK, filters=filters)


def compress(blocks: Iterable[bytes | memoryview], dictionary_bytes: int) -> Iterator[bytes]:
    """The xz stream of some content, in pieces."""
    encoder = compressor(dictionary_bytes)
    for block in blocks:
        piece = encoder.compress(block)
        if piece:
            yield piece
    yield encoder.flush()


def _bad_payload(message: str, place: str) -> EbbtideError:
    return EbbtideError("bundle.payload", message, hint="Fetch the bundle again from its source.", place=place)


def decompress(path: Path, entry: XzEntry, limit_bytes: int, *, place: str) -> Iterator[bytes]:
    """The content of a payload whose hash has been checked, in pieces of at most 1 MiB.

    Args:
        path: the file.
        entry: its description in the manifest.
        limit_bytes: how many bytes come out; not one more is produced.
        place: for messages.

    Raises:
        EbbtideError: ``bundle.payload`` if it is not exactly one stream with that dictionary and that content.
    """
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=entry.dictionary_bytes + _DECODER_BYTES)
    left = limit_bytes
    with open_plain(path, place=place) as descriptor:
        source = blocks_of(descriptor, entry.size, place=place)
        while not decoder.eof:
            fresh = bytes(next(source, b"")) if decoder.needs_input else b""
            if decoder.needs_input and not fresh:
                raise _bad_payload("The payload ends early.", place)
            try:
                piece = decoder.decompress(fresh, max_length=BLOCK_BYTES)
            except lzma.LZMAError as error:
                raise _bad_payload(f"The payload cannot be decoded: {error}.", place) from None
            left -= len(piece)
            if left < 0:
                raise _bad_payload("The payload holds more than the files that the manifest lists.", place)
            if piece:
                yield piece
        if decoder.unused_data or next(source, None) is not None:
            raise _bad_payload("Something follows the stream.", place)
    if left:
        raise _bad_payload(f"The payload holds {left} bytes less than the files that the manifest lists.", place)


def split_stream(pieces: Iterator[bytes], sizes: Mapping[str, int]) -> Iterator[tuple[str, Iterator[memoryview]]]:
    """Cut a stream into files of known sizes, in order; each file's blocks are read before the next file begins.

    The stream has been made to be as long as the sizes together, or ends in an error.
    """
    rest = memoryview(b"")

    def take(size: int) -> Iterator[memoryview]:
        nonlocal rest
        while size:
            if not rest:
                rest = memoryview(next(pieces))
            block, rest = rest[:size], rest[size:]
            size -= len(block)
            yield block

    for name, size in sizes.items():
        yield name, take(size)
    # Runs what follows the last byte of the stream: its end is checked, too.
    for _ in pieces:
        raise RuntimeError("a payload went on after its limit")


def file_blocks(path: Path) -> Iterator[memoryview]:
    """The content of one of the caller's own files; links are followed.

    Raises:
        EbbtideError: ``bundle.file_missing``, or ``bundle.file_size`` if it changes while it is read.
    """
    try:
        stream = path.open("rb", buffering=0)
    except OSError as error:
        raise EbbtideError(
            "bundle.file_missing", "The file cannot be read.", found=error.strerror, place=str(path)
        ) from None
    with stream:
        yield from blocks_of(stream.fileno(), os.fstat(stream.fileno()).st_size, place=str(path))
