"""Output containers: the encoded video, copied streams, and everything that is not a frame."""

from __future__ import annotations

import contextlib
import logging
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from srfast.errors import OutputError
from srfast.video.animated import AnimationMuxer, continued_gif
from srfast.video.display_size import set_shown_size, shown_size
from srfast.video.encoder import configure
from srfast.video.reader import VideoReader, own_tags
from srfast.video.settings import Settings, container_format
from srfast.video.source import reason, require_av
from srfast.video.subtitles import SubtitleConverter, converted_codec

if TYPE_CHECKING:
    import av

_log = logging.getLogger("srfast")
VIDEO_ONLY = ("yuv4mpegpipe", "rawvideo")
# Containers without times for each frame.
CONSTANT_RATE = ("avi", "yuv4mpegpipe", "rawvideo")


def open_muxer(
    target: Path | BinaryIO, kind: str | None, reader: VideoReader, settings: Settings, streams: list[Any]
) -> Muxer | AnimationMuxer:
    """The muxer of a container; arguments and errors are those of ``Muxer``."""
    container = container_format(target.suffix.lower() if isinstance(target, Path) else "", kind)
    if container not in ("apng", "webp"):
        return Muxer(target, kind, reader, settings, streams)
    if not isinstance(target, Path):
        raise OutputError(f"an animation in {container} needs a file, not a pipe")
    return AnimationMuxer(target, container, settings)


class Muxer:
    """A container being written.

    Args:
        target: a path, or a binary file to write to.
        kind: the container by ffmpeg's name; None tells it from the path's suffix.
        reader: where metadata, chapters and the copied streams come from.
        settings: of the video's encoder.
        streams: the reader's streams whose packets will come too.

    Raises:
        OutputError: the container or the encoder cannot take this.
    """

    def __init__(
        self, target: Path | BinaryIO, kind: str | None, reader: VideoReader, settings: Settings, streams: list[Any]
    ) -> None:
        self._av = require_av()
        self._header: _AspectHeader | None = None
        self._shown: tuple[Path, tuple[int, int]] | None = None
        suffix = target.suffix.lower() if isinstance(target, Path) else ""
        self.kind = container_format(suffix, kind)
        self._label = suffix or self.kind
        options = {"strict": "-1"} if self.kind == "yuv4mpegpipe" else {}  # more than 8 bits are an extension of Y4M
        if self.kind in ("mp4", "mov") and not isinstance(target, Path) and not target.seekable():
            options["movflags"] = "frag_keyframe+empty_moov"  # a pipe does not go back for the index
        if (
            self.kind in ("webm", "matroska")
            and settings.aspect not in (None, Fraction(1))
            and isinstance(target, Path)
        ):
            assert settings.aspect is not None
            self._shown = target, shown_size(settings.width, settings.height, settings.aspect)
            options["write_crc32"] = "0"  # what is written later has none
        try:
            file: Any = str(target) if isinstance(target, Path) else target
            if self.kind == "yuv4mpegpipe" and settings.aspect not in (None, Fraction(1)):
                file = self._header = _AspectHeader(target, settings.aspect)
            self.container = self._av.open(file, "w", format=self.kind, container_options=options)
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"cannot write {target}: {reason(error)}") from error
        self._constant = self.container.format.name in CONSTANT_RATE
        self._last: int | None = None
        self._covers = reader.covers
        self._converters: dict[int, SubtitleConverter] = {}
        try:
            self.stream = self._add_video(reader, settings)
            video_only = self.kind in VIDEO_ONLY
            self._copies = {} if video_only else self._add_copies(streams)
            self._describe(reader)
            self.container.start_encoding()
        except BaseException as error:
            self.abandon()
            if isinstance(error, (self._av.error.FFmpegError, OSError, ValueError)):
                size = f"{settings.width}x{settings.height} {settings.pix_fmt}"
                raise OutputError(
                    f"{self._label} cannot hold {settings.codec} of {size} with these streams: {reason(error)}"
                ) from error
            raise

    def _add_video(self, reader: VideoReader, settings: Settings) -> Any:
        stream = self.container.add_stream(settings.codec, rate=reader.rate, options={})
        context = stream.codec_context
        # Its encoder never gets a frame: opening it gives the headers that the container wants.
        context.options = configure(context, settings)
        stream.time_base = settings.time_base if not self._constant or not reader.rate else 1 / reader.rate
        stream.metadata.update(own_tags(reader.stream.metadata))
        stream.disposition = reader.stream.disposition
        if reader.display_matrix:
            stream.set_display_matrix(reader.display_matrix)
        return stream

    def _describe(self, reader: VideoReader) -> None:
        self.container.metadata.update(own_tags(reader.container.metadata))
        chapters = reader.container.chapters()
        if chapters:
            self.container.set_chapters(chapters)

    def _add_copies(self, streams: list[Any]) -> dict[int, Any]:
        return {source.index: self._add_copy(source) for source in streams}

    def _add_copy(self, source: Any) -> Any:
        context = source.codec_context
        name = context.name if context else source.type
        option = "attachment" if source.type == "video" else source.type
        advice = f"write .mkv, or pass --no-copy-{option} to leave it out"
        refusal = f"{self._label} cannot hold the {name} {source.type} stream"
        if source.index in self._covers and self.kind == "matroska":
            kind = "png" if self._covers[source.index].startswith(b"\x89PNG") else "jpeg"
            named = source.metadata.get("filename", f"cover.{kind.replace('jpeg', 'jpg')}")
            stream = self.container.add_attachment(named, f"image/{kind}", self._covers[source.index])
            stream.metadata.update(own_tags(source.metadata))
            return stream
        wanted = converted_codec(name, self.kind) if source.type == "subtitle" else None
        if wanted:
            self._converters[source.index] = SubtitleConverter(source, wanted, self.container)
            stream = self._converters[source.index].stream
            stream.metadata.update(own_tags(source.metadata))
            stream.disposition = source.disposition
            return stream
        if source.type == "attachment":
            if self.container.format.name not in ("matroska", "webm"):
                raise OutputError(f"{refusal}; {advice}")
            stream = self.container.add_attachment(
                source.name or f"attachment{source.index}", source.mimetype or "application/octet-stream", source.data
            )
            stream.metadata.update(source.metadata)
            return stream
        try:
            # A cover picture is copied as it is, so an encoder for it is not needed.
            stream = self.container.add_stream_from_template(source, opaque=True)
        except (self._av.error.FFmpegError, ValueError) as error:
            raise OutputError(f"{refusal} ({reason(error)}); {advice}") from error
        stream.metadata.update(own_tags(source.metadata))
        stream.disposition = source.disposition
        return stream

    def video(self, packet: av.Packet[Any]) -> None:
        """Adds a packet of the video; decoding times that do not rise where segments meet are moved between."""
        if self.kind == "gif" and self._last is not None:
            packet = _like(packet, continued_gif(bytes(packet)), self._av)
        packet.stream = self.stream
        if packet.dts is not None and self._last is not None and packet.dts <= self._last:
            packet.dts = self._last + 1
        self._last = packet.dts if packet.dts is not None else self._last
        self.container.mux(packet)

    def copy(self, packet: av.Packet[Any], index: int) -> None:
        """Adds a packet of the reader's stream number ``index``."""
        stream = self._copies.get(index)
        if stream is None or stream.type == "attachment":
            return
        if index in self._converters:
            made = self._converters[index](packet)
            if made is None:
                return
            packet = made
        packet.stream = stream
        self.container.mux(packet)

    def finish(self) -> None:
        """Completes the file."""
        self.container.close()
        self._close_header()
        if self._shown is not None and not set_shown_size(*self._shown):
            _log.warning("the output lacks the pixel aspect of the input")

    def _close_header(self) -> None:
        if self._header is not None:
            self._header.close()

    def abandon(self) -> None:
        """Closes without caring for the content, which is to be deleted."""
        with contextlib.suppress(self._av.error.FFmpegError, OSError, ValueError):
            self.container.close()
            self._close_header()


def _like(packet: av.Packet[Any], data: bytes, av_module: Any) -> Any:
    """Other data at the packet's times."""
    made = av_module.Packet(data)
    made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    made.is_keyframe = packet.is_keyframe
    return made


class _AspectHeader:
    """A file whose Y4M header tells the pixel aspect, which PyAV cannot hand to FFmpeg's muxer."""

    def __init__(self, target: Path | BinaryIO, aspect: Fraction | None) -> None:
        self._owned = target.open("wb") if isinstance(target, Path) else None
        self._file: Any = self._owned or target
        self._aspect: Fraction | None = aspect

    def seekable(self) -> bool:
        """Y4M is written from its start to its end."""
        return False

    def write(self, data: bytes) -> int:
        """Writes all of it."""
        if self._aspect is not None:
            told = b" A%d:%d" % (self._aspect.numerator, self._aspect.denominator)
            data, self._aspect = bytes(data).replace(b" A0:0", told, 1), None
        self._file.write(data)
        return len(data)

    def close(self) -> None:
        """Closes a file that this has opened."""
        if self._owned is not None:
            self._owned.close()
