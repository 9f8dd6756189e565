"""Decoded frames as the planes that they are, for networks whose kernels convert colour: no conversion on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from srfast.errors import InputError
from srfast.images.arrays import Array
from srfast.video.colour import Colour

if TYPE_CHECKING:
    import av


# Pixel formats that are 4:2:0: bits, and whether both chroma planes lie in one.
FORMATS = {"yuv420p": (8, False), "nv12": (8, True), "yuv420p10le": (10, False), "p010le": (10, True)}


def to_planes(frame: av.VideoFrame, name: str, size: tuple[int, int]) -> Array:
    """Decoded frame -> [3 * H / 2, W, 1], luma above and rows of (u, v) below; 10 bits are the upper ones of 16.

    Args:
        frame: as it was decoded, on the CPU or a device.
        name: its pixel format in host memory.
        size: width and height, where the frame may have another.
    """
    if frame.format.name != name or (frame.width, frame.height) != size:
        frame = frame.reformat(width=size[0], height=size[1], format=name)
    bits, together = FORMATS[name]
    width, height = size
    picture = np.empty((height // 2 * 3, width), np.uint8 if bits == 8 else np.uint16)
    luma, chroma = picture[:height], picture[height:].reshape(height // 2, width // 2, 2)
    # P010 has its 10 bits above in the 16, as the kernels want them; planar formats have them below.
    shift = 6 if bits == 10 and not together else 0
    parts = [(luma, frame.planes[0]), *_chroma(chroma, frame, together)]
    for target, plane in parts:
        np.left_shift(_values(plane, target), shift, out=target)
    return picture[:, :, None]


def from_planes(picture: Array, pix_fmt: str, colour: Colour) -> av.VideoFrame:
    """[3 * H / 2, W, 1] as ``to_planes`` gives -> a frame to encode."""
    import av

    height, width = picture.shape[0] // 3 * 2, picture.shape[1]
    frame, (bits, together) = av.VideoFrame(width, height, pix_fmt), FORMATS[pix_fmt]
    if (picture.dtype == np.uint16) != (bits == 10):
        raise InputError(f"planes of {picture.dtype} are no {pix_fmt}")
    luma, chroma = picture[:height, :, 0], picture[height:, :, 0].reshape(height // 2, width // 2, 2)
    shift = 6 if bits == 10 and not together else 0
    for source, plane in [(luma, frame.planes[0]), *_chroma(chroma, frame, together)]:
        np.right_shift(source, shift, out=_values(plane, source))
    frame.colorspace, frame.color_range = colour.matrix, colour.range
    frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
    return frame


def _chroma(chroma: Array, frame: av.VideoFrame, together: bool) -> list[tuple[Array, Any]]:
    """The parts of [H / 2, W / 2, 2] with the frame's planes that hold them."""
    if together:
        return [(chroma, frame.planes[1])]
    return [(chroma[:, :, i], frame.planes[1 + i]) for i in range(2)]


def _values(plane: Any, like: Array) -> Array:
    """A plane's memory in the shape and type of an array."""
    rows = np.frombuffer(plane, like.dtype).reshape(like.shape[0], -1)
    return rows[:, : like[0].size].reshape(like.shape)
