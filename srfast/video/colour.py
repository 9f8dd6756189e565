"""Between a stream's YUV and the network's RGB, with the stream's own matrix and range."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from srfast.errors import InputError
from srfast.frames import Array

if TYPE_CHECKING:
    import av

# Values of ITU-T H.273, which FFmpeg uses.
RGB, BT709, UNSPECIFIED, SMPTE170M = 0, 1, 2, 6
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18
# The scaler's own numbers of the matrices it knows (BT.470BG and SMPTE 170M have the same coefficients).
_SCALER = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}


@dataclass(frozen=True)
class Colour:
    """Colour tags of a stream, by their H.273 numbers; ``matrix`` and ``range`` are never unspecified.

    Attributes:
        matrix: YUV coefficients; 0 for RGB.
        range: 1 limited (16..235), 2 full.
        primaries, transfer: carried as they are.
        guessed: the stream had no matrix of its own.
    """

    matrix: int
    range: int
    primaries: int
    transfer: int
    guessed: bool

    def for_format(self, pix_fmt: Any, height: int) -> Colour:
        """The tags of an output of that pixel format: those of the input, unless one is RGB and the other is not."""
        if pix_fmt.is_rgb:
            return replace(self, matrix=RGB, range=FULL)
        if self.matrix == RGB:
            return replace(self, matrix=_usual(height), range=FULL if pix_fmt.name.startswith("yuvj") else LIMITED)
        return replace(self, range=FULL) if pix_fmt.name.startswith("yuvj") else self


def _usual(height: int) -> int:
    return BT709 if height >= 720 else SMPTE170M


def colour_of(context: Any, frame: Any, height: int, path: str) -> Colour:
    """Reads the tags of a codec context, and of its first frame where the context has none.

    An untagged stream is taken for BT.709 from 720 lines on and for BT.601 below, as players do. The output is tagged
    with what was taken: its size alone would make a player guess otherwise.

    Raises:
        InputError: the matrix is none that the scaler converts.
    """
    pix_fmt = frame.sw_format or frame.format

    def tag(name: str, unknown: int) -> int:
        value = int(getattr(context, name))
        return int(getattr(frame, name)) if value == unknown else value

    matrix, colour_range = tag("colorspace", UNSPECIFIED), tag("color_range", 0)
    primaries, transfer = tag("color_primaries", UNSPECIFIED), tag("color_trc", UNSPECIFIED)
    if pix_fmt.is_rgb or pix_fmt.has_palette:
        return Colour(RGB, FULL, primaries, transfer, False)
    guessed = matrix in (RGB, UNSPECIFIED)
    if guessed:
        matrix = _usual(height)
    if matrix not in _SCALER:
        raise InputError(
            f"{path}: the colour matrix (number {matrix} of ITU-T H.273) is not supported; convert it with ffmpeg"
        )
    if colour_range not in (LIMITED, FULL):
        colour_range = FULL if pix_fmt.name.startswith("yuvj") else LIMITED
    return Colour(matrix, colour_range, primaries, transfer, guessed)


def to_rgb(
    frame: av.VideoFrame, colour: Colour, deep: bool, alpha: bool = False, size: tuple[int, int] | None = None
) -> Array:
    """Decoded frame -> [H, W, 3] RGB, or [H, W, 4] RGBA with ``alpha``; uint8, or uint16 (full 16-bit scale) if ``deep``.

    Args:
        frame: as it was decoded, on the CPU or a device.
        colour: its matrix and range.
        deep: 16 bits.
        alpha: with the alpha plane.
        size: width and height, where the frame may have another.
    """
    from av.video.reformatter import Interpolation as I  # noqa: N817

    width, height = size or (frame.width, frame.height)
    name = "rgba" if alpha else "rgb"
    rgb = frame.reformat(
        width=width,
        height=height,
        format=f"{name}64le" if deep and alpha else "rgb48le" if deep else name if alpha else "rgb24",
        src_colorspace=_SCALER.get(colour.matrix),
        src_color_range=colour.range,
        dst_color_range=FULL,
        interpolation=I.BICUBIC | I.ACCURATE_RND | I.FULL_CHR_H_INT,
    )
    return rgb.to_ndarray()


def from_rgb(image: Array, pix_fmt: str, colour: Colour) -> av.VideoFrame:
    """[H, W, 3] RGB or [H, W, 4] RGBA of uint8 or uint16 -> a frame to encode."""
    import av
    from av.video.reformatter import Interpolation as I  # noqa: N817

    formats = {3: ("rgb24", "rgb48le"), 4: ("rgba", "rgba64le")}[image.shape[2]]
    rgb = av.VideoFrame.from_ndarray(image, format=formats[image.dtype == np.uint16])
    frame = rgb.reformat(
        format=pix_fmt,
        src_color_range=FULL,
        dst_colorspace=_SCALER.get(colour.matrix),
        dst_color_range=colour.range,
        interpolation=I.BICUBIC | I.ACCURATE_RND | I.FULL_CHR_H_INP,
    )
    frame.colorspace, frame.color_range = colour.matrix, colour.range
    frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
    return frame
