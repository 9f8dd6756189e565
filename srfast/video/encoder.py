"""Encoding frames in closed segments."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from srfast._torch_private import cpu_has
from srfast.errors import OutputError
from srfast.video.animated import PALETTE_INPUT, Palette
from srfast.video.colour import from_rgb
from srfast.video.planes import from_planes
from srfast.video.reader import RgbFrame
from srfast.video.scheduling import scheduling_kept
from srfast.video.settings import BY_COUNT, Settings
from srfast.video.source import reason, require_av

if TYPE_CHECKING:
    import av


class FrameEncoder:
    """One encoder from its first frame to its flush.

    Raises:
        OutputError: the encoder refuses the settings.
    """

    def __init__(self, settings: Settings) -> None:
        av = require_av()
        self._settings = settings
        context = av.CodecContext.create(settings.codec, "w")
        flags = av.codec.context.Flags
        context.options = configure(context, settings)
        context.flags |= int(flags.frame_duration) | (int(flags.global_header) if settings.headers_apart else 0)
        context.thread_type = "AUTO"
        try:
            with scheduling_kept():
                context.open()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            size = f"{settings.width}x{settings.height} {settings.pix_fmt}"
            given = " ".join(f"{k}={v}" for k, v in settings.options.items())
            raise OutputError(
                f"the encoder {settings.codec} refuses {size} with {given or 'no options'}: {reason(error)}"
            ) from error
        # FFmpeg takes what it knows out of the options that it is given; what is left was misspelt, and would be ignored in
        # silence.
        unused = set(context.options) & set(settings.options)
        if unused:
            raise OutputError(f"the encoder {settings.codec} has no option called {', '.join(sorted(unused))}")
        self._context: Any = context
        self._count = 0  # frames that it was given
        self._scaler = av.video.reformatter.VideoReformatter()
        self._durations: dict[int, int] = {}
        self._palette = Palette(settings) if settings.codec == "gif" else None
        self._counted = _CountedTimes(settings) if settings.codec in BY_COUNT else None

    def encode(self, frame: RgbFrame) -> list[av.Packet[Any]]:
        """The packets that are ready after one more frame."""
        settings = self._settings
        self._count += 1
        if frame.planes is not None:
            video = from_planes(frame.image, settings.pix_fmt, settings.colour)
        else:
            name = settings.pix_fmt if self._palette is None else PALETTE_INPUT
            video = from_rgb(frame.image, name, settings.colour, self._scaler)
        if self._counted is not None:
            return self._finished(self._context.encode(self._counted.put(video, frame)))
        video.pts, video.time_base, video.duration = frame.pts, settings.clock, frame.duration
        # In coarser units two frames may have one time, which would find the duration of the wrong one.
        if settings.clock == settings.time_base:
            self._durations[frame.pts] = frame.duration
        if self._palette is not None:
            return self._finished([p for ready in self._palette(video) for p in self._context.encode(ready)])
        return self._finished(self._context.encode(video))

    def close(self) -> list[av.Packet[Any]]:
        """The remaining packets; the encoder is gone after this."""
        context, self._context = self._context, None
        late = [] if self._palette is None else [p for ready in self._palette(None) for p in context.encode(ready)]
        return self._finished([*late, *context.encode(None)])

    def abandon(self) -> None:
        """Lets the encoder go without its packets. It is told so: SVT-AV1 writes of a silent end to the standard error."""
        context, self._context = self._context, None
        if context is not None:
            with contextlib.suppress(Exception):
                context.encode(None)

    def _finished(self, packets: list[av.Packet[Any]]) -> list[av.Packet[Any]]:
        for packet in packets:
            packet.time_base = self._settings.time_base
            if self._counted is not None:
                self._counted.restore(packet)
                continue
            # x265 (4.2) takes how far decoding goes ahead from its third frame. Without one its decoding times are
            # what the memory held; two frames are decoded as they are shown.
            if self._settings.codec == "libx265" and self._count <= 2:
                packet.dts = packet.pts
            shown = self._durations.pop(packet.pts, 0) if packet.pts is not None else 0
            if not packet.duration and shown:  # not every encoder hands it on
                packet.duration = shown
        return packets


class _CountedTimes:
    """Numbers the frames of an encoder whose clock is the frame rate, and gives its packets the frames' own times."""

    def __init__(self, settings: Settings) -> None:
        self._unit, self._step = settings.encoder_clock, settings.encoder_clock / settings.time_base
        self._count = self._first = 0
        self._shown: dict[int, tuple[int, int]] = {}  # times and durations by number, of frames that are in the encoder

    def put(self, video: Any, frame: RgbFrame) -> Any:
        """The frame with its number as its time."""
        if not self._count:
            self._first = frame.pts
        self._shown[self._count] = frame.pts, frame.duration
        video.pts, video.time_base, video.duration = self._count, self._unit, 1
        self._count += 1
        return video

    def restore(self, packet: Any) -> None:
        """Sets the packet's times: it is decoded when the frame that its encoder names is shown, or before the first."""
        number = packet.dts
        packet.pts, packet.duration = self._shown[packet.pts]
        packet.dts = self._shown[number][0] if number >= 0 else self._first + round(number * self._step)
        # Decoding times rise, and are never after their frames: no later packet asks for these.
        for gone in [old for old in self._shown if old <= number]:
            del self._shown[gone]


def configure(context: Any, settings: Settings) -> dict[str, str]:
    """Sets what an encoder's context holds; returns the options that remain."""
    context.width, context.height, context.pix_fmt = settings.width, settings.height, settings.pix_fmt
    context.time_base = settings.encoder_clock
    if settings.rate:
        context.framerate = settings.rate
    colour = settings.colour
    context.colorspace, context.color_range = colour.matrix, colour.range
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    if settings.aspect:
        context.sample_aspect_ratio = settings.aspect
    return _repeatable(settings.codec, settings.options)


def _repeatable(codec: str, options: Mapping[str, str]) -> dict[str, str]:
    """The options, and what an encoder needs to make the same of the same frames each time.

    With AVX-512, x264 (build 165) makes frames of a width such as 96 differently from run to run, unless its lookahead plans no
    bits (``no-mbtree``); with AVX2 it does not, and is as fast. A segment that is computed again has to come out alike.
    """
    own = dict(options)
    named = own.get("x264-params", "")
    if codec in ("libx264", "libx264rgb") and cpu_has("avx512") and "asm=" not in named + own.get("x264opts", ""):
        own["x264-params"] = f"{named}:asm=avx2".lstrip(":")
    return own
