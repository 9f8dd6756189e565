"""Single frames of a video: one at a time of it, and some beside their bicubic enlargements to look at before a long run."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from srfast.errors import InputError
from srfast.images.arrays import Array, eight_bits
from srfast.images.comparison import middle, side_by_side
from srfast.upscaler import Upscaler
from srfast.video.keeping import prepare
from srfast.video.reader import RgbFrame, VideoReader
from srfast.video.source import InputOptions, Source, can_reopen, label

_HEIGHT, _WIDTH = 720, 960  # of each picture at most: its middle, at full size


def preview(source: Source, upscaler: Upscaler, count: int, input_options: InputOptions | None = None) -> Array:
    """Upscales some frames, spread evenly over a video, and shows each beside its bicubic enlargement.

    Args:
        source: a video that can be read more than once.
        upscaler: the network.
        count: of frames, 1 to 100.
        input_options: how to read it, and which part of it.

    Returns:
        [H, W, 3] BGR of uint8: a row for each frame, of the middle of its pictures at full size.

    Raises:
        ValueError: ``count`` is none of these.
        InputError: it cannot be read, or only once.
    """
    if not 1 <= count <= 100:
        raise ValueError(f"a preview shows 1 to 100 frames, not {count}")
    if not can_reopen(source):
        raise InputError(f"a preview reads frames ahead: {label(source)} can be read only once")
    return np.vstack([_row(image, upscaler) for image in _spread(source, count, input_options or InputOptions())])


def _spread(source: Source, count: int, options: InputOptions) -> list[Array]:
    """[H, W, 3] BGR frames of uint8 from the middles of equal parts; fewer where the video is shorter than it says."""
    begin = options.start or 0.0
    with VideoReader(source, options) as reader:
        seconds = reader.expected_frames / float(reader.rate) if reader.rate else 0.0
        images = [first_frame(reader)[0]]
    if not seconds:
        return images
    found = []
    for number in range(count):
        # The middles of equal parts: neither the first frame nor the last, which are often black.
        time = begin + seconds * (number + 0.5) / count
        try:
            with VideoReader(source, replace(options, start=time, end=None)) as reader:
                found.append(first_frame(reader)[0])
        except InputError:  # after its last frame
            break
    return found or images


def still(source: Source, time: float | None, early: Fraction = Fraction(0)) -> tuple[Array, Fraction, Fraction]:
    """Reads one frame of a video: the first one that is shown at a time or after it.

    Args:
        source: a video that can be read more than once.
        time: seconds from the beginning; None is the middle of the video.
        early: seconds by which an earlier frame will do, too: half a frame's duration finds the frame of another copy of the
            same video, whose container may round times otherwise.

    Returns:
        [H, W, 3] BGR of uint8, its time in seconds, and seconds from one frame to the next (0 where nothing tells).

    Raises:
        InputError: it cannot be read, can be read only once, or has no frame there.
    """
    if not can_reopen(source):
        raise InputError(f"one frame of {label(source)} cannot be read: it can be read only once; give a file")
    with VideoReader(source) as reader:
        step = 1 / reader.rate if reader.rate else Fraction(0)
        if time is None:
            time = float(reader.expected_frames // 2 * step)
    begin = max(0.0, time - float(early))
    with VideoReader(source, InputOptions(start=begin) if begin else None) as reader:
        image, after = first_frame(reader)
    return image, Fraction(round(begin * 1_000_000), 1_000_000) + after, step


def first_frame(reader: VideoReader) -> tuple[Array, Fraction]:
    """The first frame, [H, W, 3] BGR of uint8, and its time in the range that is read."""
    prepare(reader, "iter")
    item = next(item for item in reader.items([]) if isinstance(item, RgbFrame))
    image: Any = item.image[..., :3]
    return cv2.cvtColor(np.ascontiguousarray(eight_bits(image)), cv2.COLOR_RGB2BGR), item.pts * reader.time_base


def _row(image: Array, upscaler: Upscaler) -> Array:
    ours = np.asarray(upscaler(image))
    bicubic = cv2.resize(image, (ours.shape[1], ours.shape[0]), interpolation=cv2.INTER_CUBIC)
    named = ((bicubic, "bicubic"), (ours, f"srfast {upscaler.name}"))
    return side_by_side([(middle(picture, _HEIGHT, _WIDTH), name) for picture, name in named])
