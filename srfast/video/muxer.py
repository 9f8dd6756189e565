"""Output containers: the encoded video, copied streams, and everything that is not a frame."""

from __future__ import annotations

import contextlib
import errno
import logging
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from srfast._names import openable
from srfast.errors import OutputError
from srfast.video.animated import AnimationMuxer, continued_gif
from srfast.video.copied import CopiedTimes, name_layout
from srfast.video.display_size import set_shown_size, shown_size
from srfast.video.encoder import configure
from srfast.video.keeping import way_out
from srfast.video.reader import VideoReader, option_of, own_tags
from srfast.video.scheduling import scheduling_kept
from srfast.video.settings import Settings, container_format
from srfast.video.source import file_address, reason, require_av
from srfast.video.subtitles import SubtitleConverter, converted_codec

if TYPE_CHECKING:
    import av

_log = logging.getLogger("srfast")
VIDEO_ONLY = ("yuv4mpegpipe", "rawvideo")
# Errors of a disk, which has no more room, or of a pipe.
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EPIPE)
_NONSTRICT = 0x20000  # AVFMT_TS_NONSTRICT: two packets may have one time
# Containers without times for each frame.
CONSTANT_RATE = ("avi", "yuv4mpegpipe", "rawvideo")


def open_muxer(
    target: Path | BinaryIO,
    kind: str | None,
    reader: VideoReader,
    settings: Settings,
    streams: list[Any],
    *,
    exact: bool = False,
) -> Muxer | AnimationMuxer:
    """The muxer of a container; arguments and errors are those of ``Muxer``."""
    container = container_format(target.suffix.lower() if isinstance(target, Path) else "", kind)
    if container not in ("apng", "webp"):
        return Muxer(target, kind, reader, settings, streams, exact=exact)
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
        exact: raise what the container says about a copied packet.

    Attributes:
        refused: by the reader's stream, how many packets the container did not take.

    Raises:
        OutputError: the container or the encoder cannot take this.
    """

    def __init__(
        self,
        target: Path | BinaryIO,
        kind: str | None,
        reader: VideoReader,
        settings: Settings,
        streams: list[Any],
        *,
        exact: bool = False,
    ) -> None:
        self._av, self._exact = require_av(), exact
        self.refused: dict[int, int] = {}
        self._name = contextlib.ExitStack()
        self._header: _AspectHeader | None = None
        self._shown: tuple[Path, tuple[int, int]] | None = None
        suffix = target.suffix.lower() if isinstance(target, Path) else ""
        self.kind = container_format(suffix, kind)
        self._label = suffix or self.kind
        options = {"strict": "-1"} if self.kind == "yuv4mpegpipe" else {}  # more than 8 bits are an extension of Y4M
        if self.kind == "gif":
            # FFmpeg counts repeats after the first time: 0 is for ever, -1 for none.
            options["loop"] = "-1" if settings.plays == 1 else str(max(0, settings.plays - 1))
        if self.kind == "avif":
            options["loop"] = str(settings.plays)
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
            # The file is there, as ``whole_file`` makes it: it can be opened whatever its name is.
            file: Any = (
                file_address(self._name.enter_context(openable(target, True))) if isinstance(target, Path) else target
            )
            if self.kind == "yuv4mpegpipe" and settings.aspect not in (None, Fraction(1)):
                file = self._header = _AspectHeader(target, settings.aspect)
            self.container = self._av.open(file, "w", format=self.kind, container_options=options)
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            self._name.close()
            raise OutputError(f"cannot write {target}: {reason(error)}") from error
        # AVI begins its sound at once, whatever its time is.
        sounds = [reader.begin_of(stream) for stream in streams if stream.type == "audio"][:1]
        first = reader.first_pts * reader.time_base
        self._zero = min([first, *sounds]) if self.kind == "avi" else Fraction(0)
        self._constant = self.container.format.name in CONSTANT_RATE
        self._last: int | None = None
        self._covers = reader.covers
        self._converters: dict[int, SubtitleConverter] = {}
        try:
            self.stream = self._add_video(reader, settings)
            video_only = self.kind in VIDEO_ONLY
            self._copies = {} if video_only else self._add_copies(streams)
            self._describe(reader)
            with scheduling_kept():
                self.container.start_encoding()
            loose = bool(self.container.format.flags & _NONSTRICT)
            self._copied = {
                index: CopiedTimes("cover" if index in self._covers else s.type, loose)
                for index, s in self._copies.items()
            }
        except BaseException as error:
            self.abandon()
            if isinstance(error, (self._av.error.FFmpegError, OSError, ValueError)):
                size = f"{settings.width}x{settings.height} {settings.pix_fmt}"
                raise OutputError(
                    f"{self._label} cannot hold {settings.codec} of {size} with these streams: {reason(error)}"
                ) from error
            raise

    def _add_video(self, reader: VideoReader, settings: Settings) -> Any:
        stream = self.container.add_stream(settings.codec, rate=settings.rate, options={})
        context = stream.codec_context
        # Its encoder never gets a frame: opening it gives the headers that the container wants.
        context.options = configure(context, settings)
        stream.time_base = settings.time_base if not self._constant or not settings.rate else 1 / settings.rate
        stream.metadata.update(own_tags(reader.stream.metadata))
        stream.disposition = reader.stream.disposition
        if reader.display_matrix:
            stream.set_display_matrix(reader.display_matrix)
        return stream

    def _describe(self, reader: VideoReader) -> None:
        self.container.metadata.update(own_tags(reader.container.metadata))
        chapters = reader.chapters
        if chapters:
            self.container.set_chapters(chapters)

    def _add_copies(self, streams: list[Any]) -> dict[int, Any]:
        return {source.index: self._add_copy(source) for source in streams}

    def _add_copy(self, source: Any) -> Any:
        context = source.codec_context
        name = context.name if context else source.type
        advice = way_out(self.kind, option_of(source))
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
        if source.type == "audio":
            name_layout(stream.codec_context)
        stream.metadata.update(own_tags(source.metadata))
        stream.disposition = source.disposition
        return stream

    def video(self, packet: av.Packet[Any]) -> None:
        """Adds a packet of the video; decoding times that do not rise in the container's own units are moved behind."""
        # Each segment has an encoder of its own, which begins a file; in the middle of one only its pictures may stay.
        if self.kind == "gif" and self._last is not None:
            packet = _like(packet, continued_gif(bytes(packet)), self._av)
        packet.stream = self.stream
        self._rescale(packet, self.stream)
        if packet.dts is not None:
            # Rounding to coarser units may make two decoding times equal, which most containers refuse.
            packet.dts = packet.dts if self._last is None else max(packet.dts, self._last + 1)
            self._last = packet.dts
            packet.pts = max(packet.pts, packet.dts) if packet.pts is not None else None
        self.container.mux(packet)

    def _rescale(self, packet: av.Packet[Any], stream: Any) -> None:
        if self._zero:
            zero = round(self._zero / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - zero
            packet.dts = None if packet.dts is None else packet.dts - zero
        rescale(packet, stream.time_base)

    def copy(self, packet: av.Packet[Any], index: int) -> None:
        """Adds a packet of the reader's stream number ``index``; times that the container would refuse are moved.

        A packet that it refuses nevertheless is left out and counted in ``refused``, unless the disk is what refuses.
        """
        stream = self._copies.get(index)
        if stream is None or stream.type == "attachment":
            return
        if index in self._converters:
            made = self._converters[index](packet)
            if made is None:
                return
            packet = made
        packet.stream = stream
        self._rescale(packet, stream)
        self._put(self._copied[index](packet), index)

    def _put(self, packets: list[Any], index: int) -> None:
        for packet in packets:
            try:
                self.container.mux(packet)
            except self._av.error.FFmpegError as error:
                if getattr(error, "errno", None) in OF_THE_DISK or self._exact:
                    raise
                self.refused[index] = self.refused.get(index, 0) + 1

    def moved(self, index: int) -> int:
        """How many packets of the reader's stream went back in time."""
        times = self._copied.get(index)
        return times.moved if times else 0

    def finish(self) -> None:
        """Completes the file."""
        for index, times in self._copied.items():
            self._put(times.rest(), index)
        with self._name:
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
        self._name.close()


def rescale(packet: Any, unit: Fraction) -> None:
    """Expresses the times of a packet in another unit, halves away from zero, as FFmpeg's av_packet_rescale_ts does.

    PyAV has that function from 18 on.

    Args:
        packet: PyAV's; its ``pts``, ``dts``, ``duration`` and ``time_base`` are set.
        unit: seconds.
    """
    if (scale := packet.time_base / unit) != 1:
        for name in ("pts", "dts", "duration"):
            if (value := getattr(packet, name)) is not None:
                nearest = int(abs(value) * scale + Fraction(1, 2))
                setattr(packet, name, nearest if value >= 0 else -nearest)
    packet.time_base = unit


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
