"""Boxes of MP4, MOV and AVIF files: what FFmpeg does not tell of their headers (ISO/IEC 14496-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

_LARGEST = 1 << 24  # bytes of a header


def movie(file: BinaryIO) -> bytes:
    """Return what the box of the header holds; nothing where there is none."""
    file.seek(0)
    while len(head := file.read(16)) >= 8:
        length = int.from_bytes(head[:4], "big")
        length = int.from_bytes(head[8:16], "big") if length == 1 else length
        begin = file.tell() - len(head)
        if head[4:8] == b"moov":
            file.seek(begin)
            return inside(file.read(min(length, _LARGEST) if length else _LARGEST), b"moov")
        if length < 8:
            break
        file.seek(begin + length)
    return b""


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the kind and the content of boxes that lie one after the other."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + length] if length else data[at + 8 :]
        if length < 8:
            break
        at += length


def inside(data: bytes, *kinds: bytes) -> bytes:
    """Return what the first box of a kind holds, of the next kind in that one, and so on; nothing where one is missing."""
    for kind in kinds:
        data = next((content for found, content in boxes(data) if found == kind), b"")
    return data


def outlasts_itself(path: str, track: int) -> bool:
    """Tells whether the samples of a track begin later than the track ends by its own header.

    No program writes that: one of the two is damaged, and what an edit list hides was not meant to be hidden.

    Args:
        path: any file; one without such a header is none of these.
        track: its number in the file.
    """
    with open(path, "rb") as file:
        header = movie(file)
    for kind, content in boxes(header):
        if kind == b"trak" and _number(inside(content, b"tkhd"), 12, 20, 4) == track:
            media = inside(content, b"mdia")
            clock = inside(media, b"mdhd")
            length = _number(clock, 16, 24, 8 if clock[:1] == b"\1" else 4)
            times = inside(media, b"minf", b"stbl", b"stts")[8:]
            steps = list(struct.iter_unpack(">Ii", times[: len(times) // 8 * 8]))
            return bool(length and steps) and sum(count * step for count, step in steps) - steps[-1][1] > length
    return False


def _number(header: bytes, at: int, at_in_wide: int, size: int) -> int:
    """A number of a box whose version 1 has wider fields."""
    at = at_in_wide if header[:1] == b"\1" else at
    return int.from_bytes(header[at : at + size], "big")
