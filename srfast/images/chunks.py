"""The pieces of PNG (and APNG) and of RIFF (WebP) files: each has a kind of four letters, a length and a content."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"  # what a file begins with
_RIFF_HEAD = 12  # bytes: "RIFF", the length of the file, what it holds


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over kind and content of the chunks of a file; the content of one that is cut off is what is there."""
    at = len(PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def riff_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk with its length, filled up to an even one."""
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over kind and content of the chunks of a file, as ``png_chunks`` does."""
    at = _RIFF_HEAD
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
