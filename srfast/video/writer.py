"""Encoding: upscaled frames and copied packets into a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srfast.errors import OutputError
from srfast.video.colour import from_rgb
from srfast.video.reader import RgbFrame, VideoReader, require_av

if TYPE_CHECKING:
    import av

DEFAULT_CODECS = {".webm": "libvpx-vp9"}
DEFAULT_CRF = {"libx264": 18, "libx265": 20, "libvpx-vp9": 24, "libsvtav1": 24}
SUFFIXES = (".mp4", ".mkv", ".mov", ".m4v", ".webm", ".avi", ".ts")


@dataclass(frozen=True)
class Encoding:
    """How to encode, in ffmpeg's words.

    Attributes:
        codec: encoder name; by default libx264, or libvpx-vp9 in .webm.
        crf: constant quality; by default 18 for libx264.
        pix_fmt: pixel format; by default the input's where the encoder takes it, else the nearest it does.
        options: further encoder options.
    """

    codec: str | None = None
    crf: float | None = None
    pix_fmt: str | None = None
    options: dict[str, str] = field(default_factory=dict)


class VideoWriter:
    """A video file being written, with the time base, colours, metadata and other streams of its source.

    Args:
        path: the file to write.
        reader: where the frames come from.
        width, height: of the frames to come.
        encoding: codec and its options.
        streams: streams of the reader whose packets will come too.

    Raises:
        OutputError: the container or the encoder cannot take this.
    """

    def __init__(
        self, path: Path, reader: VideoReader, width: int, height: int, encoding: Encoding, streams: list[Any]
    ) -> None:
        self._av = require_av()
        self._reader = reader
        self.encoded = 0
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise OutputError(f"cannot tell a video container from {path.name!r}; use one of {', '.join(SUFFIXES)}")
        try:
            self.container = self._av.open(str(path), "w")
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"cannot write {path}: {error}") from error
        try:
            self.stream = self._add_video(encoding, suffix, width, height)
            self._copies = {s.index: self._add_copy(s, path) for s in streams}
            self.container.metadata.update(_kept(reader.container.metadata))
            self.container.set_chapters(reader.container.chapters())
            self.container.start_encoding()
        except BaseException as error:
            self._abandon()
            if isinstance(error, (self._av.error.FFmpegError, OSError, ValueError)):
                size = f"{width}x{height} {self._pix_fmt}"
                raise OutputError(f"the encoder or container refuses {size} in {suffix}: {error}") from error
            raise

    _pix_fmt = ""

    def _add_video(self, encoding: Encoding, suffix: str, width: int, height: int) -> Any:
        reader = self._reader
        name = encoding.codec or DEFAULT_CODECS.get(suffix, "libx264")
        try:
            codec = self._av.Codec(name, "w")
        except (self._av.error.FFmpegError, ValueError) as error:
            raise OutputError(f"this FFmpeg has no encoder called {name!r}; see 'srfast info'") from error
        options = dict(encoding.options)
        crf = encoding.crf if encoding.crf is not None else DEFAULT_CRF.get(name)
        if crf is not None:
            options.setdefault("crf", f"{crf:g}")
        if name == "libvpx-vp9":
            options.setdefault("b", "0")  # constant quality needs it
        stream = self.container.add_stream(name, rate=reader.rate, options=options)
        context = stream.codec_context
        self._pix_fmt = encoding.pix_fmt or _nearest_format(reader, codec)
        stream.width, stream.height, stream.pix_fmt = width, height, self._pix_fmt
        _check_even(width, height, self._av.VideoFormat(self._pix_fmt))
        context.time_base = stream.time_base = reader.time_base
        colour = reader.colour
        context.colorspace, context.color_range = colour.matrix, colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        if reader.stream.sample_aspect_ratio:
            context.sample_aspect_ratio = reader.stream.sample_aspect_ratio
        stream.metadata.update(_kept(reader.stream.metadata))
        if reader.rotation:
            stream.set_display_rotation(reader.rotation)
        stream.thread_type = "AUTO"
        return stream

    def _add_copy(self, source: Any, path: Path) -> Any:
        name = source.codec_context.name if source.codec_context else source.type
        advice = f"write .mkv, or pass --no-copy-{source.type} to leave it out"
        if source.codec_context and source.codec_context.codec.canonical_name not in self.container.supported_codecs:
            raise OutputError(f"{path.suffix} cannot hold the {name} {source.type} stream; {advice}")
        try:
            stream = self.container.add_stream_from_template(source)
        except (self._av.error.FFmpegError, ValueError) as error:
            raise OutputError(
                f"{path.suffix} cannot hold the {name} {source.type} stream ({error}); {advice}"
            ) from error
        stream.metadata.update(_kept(source.metadata))
        stream.disposition = source.disposition
        return stream

    def write_frame(self, frame: RgbFrame) -> None:
        """Encodes one frame at its time."""
        video = from_rgb(frame.image, self._pix_fmt, self._reader.colour)
        video.pts, video.time_base = frame.pts, self._reader.time_base
        video.duration = frame.duration
        self.encoded += 1
        self._mux(self.stream.encode(video))

    def write_packet(self, packet: av.Packet[Any]) -> None:
        """Copies one packet of another stream."""
        packet.stream = self._copies[packet.stream.index]
        self._mux([packet])

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            self.container.mux(packet)

    def finish(self) -> None:
        """Drains the encoder and completes the file."""
        self._mux(self.stream.encode(None))
        self.container.close()

    def _abandon(self) -> None:
        """Closes without caring for the content, which is to be deleted."""
        try:
            self.container.close()
        except (self._av.error.FFmpegError, OSError, ValueError):
            return

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None:
            self._abandon()


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata less what describes the old container itself."""
    own = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
    return {k: v for k, v in metadata.items() if k.lower() not in own}


def _nearest_format(reader: VideoReader, codec: Any) -> str:
    """The input's pixel format if the encoder takes it, else one with its depth and at least its chroma."""
    wanted = reader.stream.codec_context.format
    offered = [f.name for f in codec.video_formats or []]
    name = wanted.name.replace("yuvj", "yuv")
    if not offered or name in offered:
        return str(name)
    chroma = "444" if wanted.is_rgb or "444" in name else "422" if "422" in name else "420"
    for sampling in dict.fromkeys((chroma, "420", "444")):
        for depth in ("10le", "12le", "") if reader.deep else ("",):
            if f"yuv{sampling}p{depth}" in offered:
                return f"yuv{sampling}p{depth}"
    return str(offered[0])


def _check_even(width: int, height: int, pix_fmt: Any) -> None:
    """Subsampled chroma halves the size, which must then be even; encoders say so only in their log."""
    for name, size, halves in (("width", width, ("420", "422")), ("height", height, ("420",))):
        if size % 2 and any(sampling in pix_fmt.name for sampling in halves):
            raise OutputError(
                f"{pix_fmt.name} needs an even {name}, not {size}; use --pix-fmt yuv444p or another scale"
            )
