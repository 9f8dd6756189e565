"""Output containers: the encoded video, copied streams, and everything that is not a frame."""

from __future__ import annotations

import contextlib
import errno
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from srfast._names import openable
from srfast.errors import OutputError
from srfast.video.copied import CopiedTimes, name_layout
from srfast.video.encoder import configure
from srfast.video.reader import VideoReader
from srfast.video.settings import Settings, container_format
from srfast.video.source import file_address, reason, require_av

if TYPE_CHECKING:
    import av

_log = logging.getLogger("srfast")
VIDEO_ONLY = ("yuv4mpegpipe", "rawvideo")
# Containers without times for each frame.
# Errors of a disk, which has no more room, or of a pipe.
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EPIPE)
_NONSTRICT = 0x20000  # AVFMT_TS_NONSTRICT: two packets may have one time
CONSTANT_RATE = ("avi", "yuv4mpegpipe", "rawvideo")


def tell_left_out(streams: list[Any], why: str, advice: str) -> None:
    """Warns of streams that the output will lack; data streams go without a word, as with any other container."""
    names = [f"{s.type} ({s.codec_context.name})" if s.codec_context else s.type for s in streams if s.type != "data"]
    if names:
        counted = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
        _log.warning("%s, so these streams are left out: %s; %s to keep them", why, counted, advice)


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
        suffix = target.suffix.lower() if isinstance(target, Path) else ""
        self.kind = container_format(suffix, kind)
        self._label = suffix or self.kind
        options = {"strict": "-1"} if self.kind == "yuv4mpegpipe" else {}  # more than 8 bits are an extension of Y4M
        if self.kind in ("mp4", "mov") and not isinstance(target, Path) and not target.seekable():
            options["movflags"] = "frag_keyframe+empty_moov"  # a pipe does not go back for the index
        try:
            # The file is there, as ``whole_file`` makes it: it can be opened whatever its name is.
            file = (
                file_address(self._name.enter_context(openable(target, True))) if isinstance(target, Path) else target
            )
            self.container = self._av.open(file, "w", format=self.kind, container_options=options)
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            self._name.close()
            raise OutputError(f"cannot write {target}: {reason(error)}") from error
        self._constant = self.container.format.name in CONSTANT_RATE
        self._last: int | None = None
        try:
            self.stream = self._add_video(reader, settings)
            video_only = self.kind in VIDEO_ONLY
            self._copies = {} if video_only else self._add_copies(streams)
            self._describe(reader)
            self.container.start_encoding()
            loose = bool(self.container.format.flags & _NONSTRICT)
            self._copied = {index: CopiedTimes(s.type, loose) for index, s in self._copies.items()}
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
        stream.metadata.update(_kept(reader.stream.metadata))
        stream.disposition = reader.stream.disposition
        if reader.display_matrix:
            stream.set_display_matrix(reader.display_matrix)
        return stream

    def _describe(self, reader: VideoReader) -> None:
        self.container.metadata.update(_kept(reader.container.metadata))
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
        stream.metadata.update(_kept(source.metadata))
        stream.disposition = source.disposition
        return stream

    def video(self, packet: av.Packet[Any]) -> None:
        """Adds a packet of the video; decoding times that do not rise in the container's own units are moved behind."""
        packet.stream = self.stream
        self._rescale(packet, self.stream)
        if packet.dts is not None:
            packet.dts = packet.dts if self._last is None else max(packet.dts, self._last + 1)
            self._last = packet.dts
            packet.pts = max(packet.pts, packet.dts) if packet.pts is not None else None
        self.container.mux(packet)

    def _rescale(self, packet: av.Packet[Any], stream: Any) -> None:
        base = stream.time_base
        packet.rescale_ts(self._av.AVRational(base.numerator, base.denominator))

    def copy(self, packet: av.Packet[Any], index: int) -> None:
        """Adds a packet of the reader's stream number ``index``; times that the container would refuse are moved.

        A packet that it refuses nevertheless is left out and counted in ``refused``, unless the disk is what refuses.
        """
        stream = self._copies.get(index)
        if stream is None or stream.type == "attachment":
            return
        packet.stream = stream
        self._rescale(packet, stream)
        self._copied[index].settle(packet)
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
        with self._name:
            self.container.close()

    def abandon(self) -> None:
        """Closes without caring for the content, which is to be deleted."""
        with contextlib.suppress(self._av.error.FFmpegError, OSError, ValueError):
            self.container.close()
        self._name.close()


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata less what describes the old container and its encoder."""
    own = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id"}
    own |= {"bps", "number_of_frames", "number_of_bytes", "_statistics_writing_app", "_statistics_tags"}
    return {k: v for k, v in metadata.items() if k.lower().removesuffix("-eng") not in own}
