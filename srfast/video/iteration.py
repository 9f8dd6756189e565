"""The upscaled frames of a video, one by one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import cv2

from srfast._threads import Channel, Feeding
from srfast.images.arrays import Array
from srfast.upscaler import Upscaler
from srfast.video.keeping import carried, prepare
from srfast.video.reader import Item, RgbFrame, VideoReader
from srfast.video.source import InputOptions, Source, require_av
from srfast.video.upscale_stage import NetworkStage


@dataclass(frozen=True)
class UpscaledFrame:
    """One frame of a video: its number from 0, its time in seconds, [H, W, 3] BGR or [H, W, 4] BGRA."""

    index: int
    time: Fraction
    image: Array


def iter_video(
    source: Source,
    model: Upscaler | str | os.PathLike[str] = "compact_x4",
    *,
    reuse: bool = True,
    input_options: InputOptions | None = None,
) -> Iterator[UpscaledFrame]:
    """Upscales the frames of a video one by one, decoding ahead in the background.

    Args:
        source: what ``upscale_video`` reads.
        model: an upscaler, or what ``srfast.load`` takes.
        reuse: copy what has not changed since the last frame.
        input_options: how to read a source that does not say it itself.

    Raises:
        InputError: the source cannot be read.

    Examples:
        >>> from pathlib import Path
        >>> import srfast
        >>> clip = Path(srfast.__file__).parent / "assets" / "clip.mp4"
        >>> for frame in iter_video(clip, srfast.load("compact_x2", device="cpu")):
        ...     break
        >>> frame.image.shape  # [H, W, 3], BGR
        (288, 384, 3)
    """
    require_av()
    upscaler = model if isinstance(model, Upscaler) else Upscaler(model)
    decoded: Channel[Item] = Channel(threading.Event())
    with VideoReader(source, input_options) as reader:
        prepare(reader, "iter")
        carried(reader, "iter", reader.copied_streams)
        engine = upscaler.engine.for_frames(reader.bits, reader.height, reader.width)
        network = NetworkStage(upscaler, engine, reuse=reuse)
        feeding = Feeding(decoded, reader.items([]), "srfast-decode", reader.hold())
        try:
            feeding.start()
            for index, item in enumerate(network(decoded)):
                assert isinstance(item, RgbFrame)
                image = item.image
                code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
                yield UpscaledFrame(index, item.pts * reader.time_base, cv2.cvtColor(image, code))
        finally:
            reader.interrupt()
            feeding.leave()
