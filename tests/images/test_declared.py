"""Sizes that headers declare, of uint8 and uint16 images, beside those that OpenCV decodes. CPU."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from srfast.errors import InputError
from srfast.images import declared_size


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 13, 3), (300, 2, 3), (5, 400), (33, 17, 4)])
def test_the_size_is_that_of_the_decoded_image(suffix: str, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    quality = [[], [cv2.IMWRITE_WEBP_QUALITY, 50], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]]
    for options in quality:
        data = cv2.imencode(suffix, image, options)[1]
        assert declared_size(data.tobytes()) == cv2.imdecode(data, cv2.IMREAD_UNCHANGED).shape[:2] == shape[:2]


def test_a_size_of_its_own_in_any_segment_counts() -> None:
    """A small picture before a large one, and bytes between segments, do not hide the large one."""
    small, large = (cv2.imencode(".jpg", np.zeros((n, n, 3), np.uint8))[1].tobytes() for n in (8, 4000))
    frame = large.index(b"\xff\xc0")
    hidden = small[:2] + b"filling" + b"\xff\xff" + large[frame : frame + 19] + small[2:]
    assert declared_size(hidden) == (4000, 4000)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 0, 9),
        b"\xff\xd8\xff",
        b"\xff\xd8" + b"\xff\xe0\x00\x00" * 9,
        b"RIFF\0\0\0\0WEBPVP8 \x00\x00\x00\x00",
        b"BM",
        b"#EXTM3U\n",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b"II*\0",
        b"GIF89a\x01\0\x01\0",
    ],
)
def test_what_declares_no_size_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="PNG, JPEG, WebP and BMP"):
        declared_size(data)
