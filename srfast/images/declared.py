"""The size that an image file declares, read from its header before anything is decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from srfast.errors import InputError

FORMATS = "PNG, JPEG, WebP and BMP"
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))  # JPEG's markers with a size
_ALONE = (0x01, *range(0xD0, 0xD9))  # those without a length
_SCAN = 0xDA


def declared_size(data: bytes, name: str = "the image") -> tuple[int, int]:
    """Read height and width from the header of an image file.

    Args:
        data: the file.
        name: for messages.

    Returns:
        Height and width in pixels, of the largest picture that the file declares.

    Raises:
        InputError: another format than PNG, JPEG, WebP and BMP, or no size in it.

    Examples:
        >>> import cv2, numpy as np
        >>> declared_size(cv2.imencode(".png", np.zeros((3, 5), np.uint8))[1].tobytes())
        (3, 5)
    """
    try:
        sizes = list(_sizes(data))
    except (struct.error, IndexError):
        sizes = []
    if not sizes or not all(min(size) for size in sizes):
        raise InputError(f"{name} is no image that is taken here, or cut off ({len(data)} bytes); {FORMATS} are")
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def _sizes(data: bytes) -> Iterator[tuple[int, int]]:
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        width, height = struct.unpack_from(">II", data, 16)
        yield height, width
    elif data.startswith(b"\xff\xd8"):
        yield from _of_jpeg(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        yield from _of_webp(data)
    elif data.startswith(b"BM"):
        if struct.unpack_from("<I", data, 14)[0] == 12:  # of OS/2
            width, height = struct.unpack_from("<HH", data, 18)
        else:
            width, height = struct.unpack_from("<ii", data, 18)
        yield abs(height), abs(width)


def _of_jpeg(data: bytes) -> Iterator[tuple[int, int]]:
    at = 2
    while True:
        at = data.find(b"\xff", at)  # decoders pass over what is between segments
        if at < 0:
            return
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _ALONE or marker == 0:
            at += 2
        elif marker == _SCAN:
            return
        else:
            if marker in _FRAMES:
                yield struct.unpack_from(">HH", data, at + 5)
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _of_webp(data: bytes) -> Iterator[tuple[int, int]]:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"VP8X":
            yield _plus_one(data, at + 15), _plus_one(data, at + 12)
        elif kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", data, at + 14)
            yield height & 0x3FFF, width & 0x3FFF
        elif kind == b"VP8L":
            bits = struct.unpack_from("<I", data, at + 9)[0]
            yield (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
        elif kind == b"ANMF":
            raise InputError("an animated WebP is no single image")
        at += 8 + length + length % 2


def _plus_one(data: bytes, at: int) -> int:
    """A number of three bytes, which a WebP keeps less one."""
    return int.from_bytes(data[at : at + 3], "little") + 1
