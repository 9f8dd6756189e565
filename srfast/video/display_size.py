"""The shown size of a video in Matroska and WebM, written into a finished file: PyAV cannot hand it to FFmpeg's muxer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

_SEGMENT, _SEEK_HEAD, _VOID, _TRACKS, _CLUSTER = 0x18538067, 0x114D9B74, 0xEC, 0x1654AE6B, 0x1F43B675
_SEEK, _SEEK_POSITION, _ENTRY, _TYPE, _VIDEO = 0x4DBB, 0x53AC, 0xAE, 0x83, 0xE0
_DISPLAY_WIDTH, _DISPLAY_HEIGHT = 0x54B0, 0x54BA
_MOST = 64 << 20  # bytes before the first cluster: attachments are among them


def shown_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height in square pixels, of which one side is as it is coded."""
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def set_shown_size(path: Path, size: tuple[int, int]) -> bool:
    """Writes width and height into the first video track; what lies after the tracks stays where it is.

    The place comes from the empty element that FFmpeg leaves after the list of positions. Returns False, and leaves the file
    alone, where that has no room or the file is built in another way.
    """
    with path.open("r+b") as file:
        data = file.read(_MOST)
        found: dict[int, tuple[int, int, int]] = {}
        segment = next((begin for kind, begin, _, _ in _elements(data, 0, len(data)) if kind == _SEGMENT), None)
        if segment is None:
            return False
        for kind, begin, end, start in _elements(data, segment, len(data)):
            if kind == _CLUSTER:
                break
            found.setdefault(kind, (start, begin, end))
        if not {_SEEK_HEAD, _VOID, _TRACKS} <= found.keys():
            return False
        void, tracks = found[_VOID], found[_TRACKS]
        grown = _with_size(data[tracks[1] : tracks[2]], size)
        if grown is None or not found[_SEEK_HEAD][2] <= void[0] < tracks[0]:
            return False
        wider = _element(_TRACKS, grown)
        more = len(wider) - (tracks[2] - tracks[0])
        room = void[2] - void[0] - more
        # What is left must hold the header of an empty element itself.
        if room < 9:
            return False
        between = data[void[2] : tracks[0]]
        head = _moved(data[: void[0]], found[_SEEK_HEAD], (void[2] - segment, tracks[2] - segment), more)
        if head is None:
            return False
        # Its size takes 8 bytes even if it is small: the header is 9 bytes long, whatever is left.
        empty = b"\xec" + struct.pack(">Q", (1 << 56) | (room - 9)) + b"\0" * (room - 9)
        file.seek(0)
        file.write(head + empty + between + wider)
    return True


def _with_size(tracks: bytes, size: tuple[int, int]) -> bytes | None:
    """The content of a Tracks element in which the first video has that shown size."""
    shown = b"".join(
        kind.to_bytes(2, "big") + b"\x84" + struct.pack(">I", side)
        for kind, side in zip((_DISPLAY_WIDTH, _DISPLAY_HEIGHT), size, strict=True)
    )
    for kind, begin, end, start in _elements(tracks, 0, len(tracks)):
        if kind != _ENTRY:
            continue
        parts = list(_elements(tracks, begin, end))
        if not any(k == _TYPE and tracks[b:e] == b"\x01" for k, b, e, _ in parts):
            continue
        for inner, first, last, at in parts:
            if inner == _VIDEO:
                if any(k in (_DISPLAY_WIDTH, _DISPLAY_HEIGHT) for k, _, _, _ in _elements(tracks, first, last)):
                    return None
                entry = tracks[begin:at] + _element(_VIDEO, tracks[first:last] + shown) + tracks[last:end]
                return tracks[:start] + _element(_ENTRY, entry) + tracks[end:]
    return None


def _moved(data: bytes, seek_head: tuple[int, int, int], span: tuple[int, int], less: int) -> bytes | None:
    """The beginning of the file in which positions within ``span`` are ``less`` smaller."""
    changed = bytearray(data)
    for kind, begin, end, _ in _elements(data, seek_head[1], seek_head[2]):
        if kind != _SEEK:
            continue
        for inner, first, last, _ in _elements(data, begin, end):
            position = int.from_bytes(data[first:last], "big")
            if inner == _SEEK_POSITION and span[0] <= position < span[1]:
                changed[first:last] = (position - less).to_bytes(last - first, "big")
    return bytes(changed)


def _elements(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, begin and end of the content, and start of each element."""
    while at + 2 <= end:
        start = at
        # As many bytes as the first one has leading zero bits, and one (RFC 8794); ids keep the bit that marks it.
        length = 9 - data[at].bit_length()
        kind = int.from_bytes(data[at : at + length], "big")
        at += length
        if at >= end:
            return
        length = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
        at += length
        unknown = size == (1 << 7 * length) - 1
        yield kind, at, end if unknown else at + size, start
        at = end if unknown else at + size


def _element(kind: int, content: bytes) -> bytes:
    name = kind.to_bytes((kind.bit_length() + 7) // 8, "big")
    return name + struct.pack(">Q", (1 << 56) | len(content)) + content
