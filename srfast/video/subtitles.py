"""Text subtitles from one container's form into another's: mov_text, SubRip, ASS and WebVTT."""

from __future__ import annotations

from typing import Any

from srfast.video.source import require_av

# The form that a container takes; None where it takes all but mov_text.
_WANTED = {"mp4": "mov_text", "mov": "mov_text", "webm": "webvtt", "matroska": "subrip"}
_ALIASES = {"srt": "subrip", "ssa": "ass", "text": "subrip"}
_NATIVE = {"matroska": ("subrip", "ass", "webvtt")}
_START, _END = 0, 1  # milliseconds that FFmpeg's encoders do not look at: times are those of the packets


def converted_codec(name: str, container: str) -> str | None:
    """The codec that subtitles of codec ``name`` need in a container, by ffmpeg's names; None if they can stay."""
    own = _ALIASES.get(name, name)
    wanted = _WANTED.get(container)
    if wanted is None or own == wanted or own in _NATIVE.get(container, ()):
        return None
    return wanted if own in ("subrip", "ass", "webvtt", "mov_text") else None


class SubtitleConverter:
    """Turns the packets of one text subtitle stream into another codec's.

    Args:
        stream: of the input.
        codec: ffmpeg's name of what to make.
        container: that will hold it.
    """

    def __init__(self, stream: Any, codec: str, container: Any) -> None:
        av = require_av()
        source = stream.codec_context
        # The input's own context is another thread's.
        self._decoder = av.CodecContext.create(source.codec.name, "r")
        self._decoder.extradata = source.extradata
        self._decoder.open()
        header = self._decoder.subtitle_header or _HEADER
        self._encoder = av.CodecContext.create(codec, "w")
        self.stream = container.add_stream(codec)
        self.stream.time_base = stream.time_base
        for context in (self._encoder, self.stream.codec_context):
            context.subtitle_header, context.time_base = header, stream.time_base
        self._encoder.open()

    def __call__(self, packet: Any) -> Any | None:
        """The packet in the other form, with its times; None for one that shows nothing."""
        av = require_av()
        shown = self._decoder.decode2(packet)
        lines = [rect.ass for rect in shown or () if rect.type in (b"ass", b"text")]
        if not lines:
            return None
        texts = [_text(line) for line in lines]
        # Several texts at one time become lines of one: a packet of the other codecs holds a single event.
        line = lines[0][: len(lines[0]) - len(texts[0])] + b"\\N".join(texts)
        made = self._encoder.encode_subtitle(av.subtitles.subtitle.SubtitleSet.create(line, _START, _END))
        made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
        made.time_base, made.is_keyframe = packet.time_base, True
        return made


def _text(line: bytes) -> bytes:
    """The text of an event as FFmpeg's decoders write it: after eight commas."""
    return line.split(b",", 8)[-1]


_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
