"""PGM, PPM and PAM files whose white is another number than 255 and 65535, and the order of a PAM file's colours.

OpenCV gives the numbers of a file as they are, which makes 10 bits nearly black, and those of PAM as BGR, though they are RGB.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

_ASCII, _BINARY, _PAM = (b"P2", b"P3"), (b"P5", b"P6"), b"P7"
_HEADER = 4096  # bytes in which it ends, comments and all
_AS_BGR = {
    2: [0, 0, 0, 1],
    3: [2, 1, 0],
    4: [2, 1, 0, 3],
}  # channels of a PAM file by their number; 2 are gray and alpha


def with_white(data: Array, image: Array) -> Array:
    """Scales an image that OpenCV read from the bytes of a PGM or PPM file, so that white is 255 or 65535; others stay."""
    head = data[:_HEADER].tobytes()
    if head[:2] not in (*_ASCII, *_BINARY):
        return image
    words = re.sub(rb"#[^\n]*", b" ", head).split(None, 4)
    white = int(words[3]) if len(words) > 3 and words[3].isdigit() else 0
    # OpenCV itself brings text of 8 bits to 0..255.
    return image if head[:2] in _ASCII and white < 256 else scaled(image, white)


def read_pam(data: Array) -> Array | None:
    """[H, W] gray, [H, W, 3] BGR or [H, W, 4] BGRA of the bytes of a PAM file, uint8 or uint16; None for other files."""
    if data[:2].tobytes() != _PAM:
        return None
    head, _, pixels = data.tobytes().partition(b"ENDHDR\n")
    fields = dict(re.findall(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,9})\s*$", head[:_HEADER], re.MULTILINE))
    width, height, depth, white = (int(fields.get(name, 0)) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    kind = np.dtype(np.uint8 if white < 256 else ">u2")
    count = width * height * depth
    if not count or depth > 4 or not 0 < white < 1 << 16 or len(pixels) < count * kind.itemsize:
        return None
    values = np.frombuffer(pixels, kind, count).astype(kind.newbyteorder("=")).reshape(height, width, depth)
    values = scaled(values, white)
    return values[..., 0] if depth == 1 else np.ascontiguousarray(values[..., _AS_BGR[depth]])


def scaled(image: Array, white: int) -> Array:
    """Scales numbers so that ``white`` becomes the largest of their type; 0, and the largest, leave them as they are."""
    most = int(np.iinfo(image.dtype).max) if white else 0
    if not 0 < white < most:
        return image
    return np.rint(image.clip(0, white) * (most / white)).astype(image.dtype)
