"""Between a stream's YUV and the network's RGB, with the stream's own matrix and range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from srfast.errors import InputError
from srfast.frames import Array

if TYPE_CHECKING:
    import av

# Values of ITU-T H.273, which FFmpeg uses.
BT709, UNSPECIFIED, SMPTE170M = 1, 2, 6
LIMITED, FULL = 1, 2
# The scaler's own numbers of the matrices it knows (BT.470BG and SMPTE 170M have the same coefficients).
_SCALER = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}


@dataclass(frozen=True)
class Colour:
    """Colour tags of a stream, by their H.273 numbers; ``matrix`` and ``range`` are never unspecified.

    Attributes:
        matrix: YUV coefficients.
        range: 1 limited (16..235), 2 full.
        primaries, transfer: carried as they are.
        guessed: the stream had no matrix of its own.
    """

    matrix: int
    range: int
    primaries: int
    transfer: int
    guessed: bool


def colour_of(context: Any, height: int) -> Colour:
    """Reads the tags of a codec context.

    An untagged stream is taken for BT.709 from 720 lines on and for BT.601 below, as players do. The output is tagged
    with what was taken: its size alone would make a player guess otherwise.

    Raises:
        InputError: the matrix is none that the scaler converts.
    """
    matrix, colour_range = int(context.colorspace), int(context.color_range)
    guessed = matrix in (0, UNSPECIFIED) and not _is_rgb(context)
    if guessed:
        matrix = BT709 if height >= 720 else SMPTE170M
    if matrix not in _SCALER and not _is_rgb(context):
        raise InputError(
            f"the video's colour matrix (number {matrix} of ITU-T H.273) is not supported; convert it with ffmpeg"
        )
    if colour_range not in (LIMITED, FULL):
        colour_range = FULL if (context.pix_fmt or "").startswith("yuvj") or _is_rgb(context) else LIMITED
    return Colour(matrix, colour_range, int(context.color_primaries), int(context.color_trc), guessed)


def _is_rgb(context: Any) -> bool:
    return bool(context.format is not None and context.format.is_rgb)


def to_rgb(frame: av.VideoFrame, colour: Colour, deep: bool) -> Array:
    """Decoded frame -> [H, W, 3] RGB, uint8, or uint16 (full 16-bit scale) if ``deep``."""
    from av.video.reformatter import Interpolation as I  # noqa: N817

    rgb = frame.reformat(
        format="rgb48le" if deep else "rgb24",
        src_colorspace=_SCALER.get(colour.matrix),
        src_color_range=colour.range,
        dst_color_range=FULL,
        interpolation=I.BICUBIC | I.ACCURATE_RND | I.FULL_CHR_H_INT,
    )
    return rgb.to_ndarray()


def from_rgb(image: Array, pix_fmt: str, colour: Colour) -> av.VideoFrame:
    """[H, W, 3] RGB of uint8 or uint16 -> a frame to encode."""
    import av
    from av.video.reformatter import Interpolation as I  # noqa: N817

    rgb = av.VideoFrame.from_ndarray(image, format="rgb48le" if image.dtype == np.uint16 else "rgb24")
    frame = rgb.reformat(
        format=pix_fmt,
        src_color_range=FULL,
        dst_colorspace=_SCALER.get(colour.matrix),
        dst_color_range=colour.range,
        interpolation=I.BICUBIC | I.ACCURATE_RND | I.FULL_CHR_H_INP,
    )
    frame.colorspace, frame.color_range = colour.matrix, colour.range
    return frame
