"""Where upscaled frames go: a journal that becomes a file, or a stream."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from srfast._files import check_output, whole_file
from srfast._threads import PATIENCE
from srfast.errors import OutputError
from srfast.video.animated import AnimationMuxer
from srfast.video.decode_times import DecodeTimes
from srfast.video.encoder import FrameEncoder
from srfast.video.journal import VIDEO, Commit, Journal, open_journal
from srfast.video.muxer import Muxer, open_muxer
from srfast.video.pipe import OutputPipe
from srfast.video.reader import RgbFrame, VideoReader
from srfast.video.segments import Segments
from srfast.video.settings import Settings
from srfast.video.source import reason

if TYPE_CHECKING:
    import av


_log = logging.getLogger("srfast")


class Sink(Protocol):
    """Takes frames and copied packets in the order of the input.

    Attributes:
        start: what an earlier run has done.
        encoded: frames so far.
        patience: seconds for which a failed run waits for the frame at hand; None as long as it takes.
    """

    start: Commit
    encoded: int
    patience: float | None

    def frame(self, frame: RgbFrame) -> None:
        """Takes the next frame, and encodes or writes it."""
        ...

    def packet(self, packet: av.Packet[Any]) -> None:
        """Takes a packet of a copied stream."""
        ...

    def finish(self) -> None:
        """Completes the output under its name."""
        ...

    def abandon(self, *, keep: bool) -> str:
        """Ends without an output; ``keep`` leaves what a later run can continue. Returns what is left, in words."""
        ...


class JournalEncoder:
    """Encodes in segments into a journal: what the sinks that make one have in common.

    Args:
        journal: an open one.
        settings: of the encoder.
        segments: where they end.
        start: what the journal holds.
    """

    patience: float | None = None

    def __init__(self, journal: Journal, settings: Settings, segments: Segments, start: Commit) -> None:
        self._journal, self._settings, self._segments, self.start = journal, settings, segments, start
        segments.length = segments.length or start.segment
        self.encoded = start.frames
        self._packets = dict(start.packets)
        self._encoder: FrameEncoder | None = None

    def frame(self, frame: RgbFrame) -> None:
        """Encodes a frame."""
        self._encoder = self._encoder or FrameEncoder(self._settings)
        self._add(self._encoder.encode(frame))
        self.encoded += 1
        if self._segments.ended(self.encoded):
            self._end_segment()

    def packet(self, packet: av.Packet[Any]) -> None:
        """Keeps a copied packet."""
        index = packet.stream.index
        self._journal.add(packet, index)
        self._packets[index] = self._packets.get(index, 0) + 1

    def _add(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            self._journal.add(packet, VIDEO)

    def _end_segment(self, finished: bool = False) -> None:
        if self._encoder is not None:
            # Each segment is an encoder of its own, from a key frame on: what follows a commit does not depend on what came
            # before it, so that a continued run makes the same bytes.
            self._add(self._encoder.close())
            self._encoder = None
        commit = replace(self.start, frames=self.encoded, packets=dict(self._packets), finished=finished)
        self._journal.commit_segment(replace(commit, segment=self._segments.length))

    def abandon(self, *, keep: bool) -> str:
        """As ``Sink.abandon``."""
        if self._encoder is not None:
            self._encoder.abandon()
        return self._journal.abandon(keep=keep)


class JournalSink(JournalEncoder):
    """Encodes in segments into a journal; the container is written from it at the end.

    Args:
        target: the file to make.
        reader: of the input.
        settings: of the encoder.
        streams: those to copy.
        run: what identifies the run.
        kind: the container by ffmpeg's name; None tells it from the target's suffix.
        segments: where they end.
        overwrite: replace an existing target, and start over where a journal is.
        resume: continue from a journal.

    Raises:
        OutputError: the container refuses, or an unfinished run is in the way.
    """

    def __init__(
        self,
        target: Path,
        reader: VideoReader,
        settings: Settings,
        streams: list[Any],
        run: dict[str, Any],
        *,
        kind: str | None = None,
        segments: Segments,
        overwrite: bool,
        resume: bool,
    ) -> None:
        check_output(target, overwrite)
        self._target, self._reader, self._streams = target, reader, streams
        self._kind, self._overwrite = kind, overwrite
        journal = open_journal(target, run, overwrite=overwrite, resume=resume)
        super().__init__(journal, settings, segments, self._continued(journal.commit))

    def _continued(self, commit: Commit) -> Commit:
        """Where this run begins: streams that the earlier one left out are read from the input's start."""
        wanted = tuple(sorted(stream.index for stream in self._streams))
        before = wanted if commit.streams is None else commit.streams
        # Packets of a stream that the earlier run left out follow frames that they belong between, and are sorted in at
        # the end.
        more = bool(commit.frames and set(wanted) - set(before))
        return replace(commit, finished=commit.finished and not more, streams=wanted, mixed=commit.mixed or more)

    def finish(self) -> None:
        """Writes the container."""
        if not self.start.finished:
            self._end_segment(finished=True)
        write_container(
            self._target,
            self._kind,
            self._reader,
            self._settings,
            self._streams,
            self._journal.packets(),
            self._decode_times(),
            overwrite=self._overwrite,
        )
        self._journal.close(keep=False)

    def _decode_times(self) -> DecodeTimes:
        times = DecodeTimes(usual_step(self._settings))
        times.add(self._journal.video_times())
        return times


def usual_step(settings: Settings) -> int:
    """The distance of two frames in units of the encoder's time base, at least 1."""
    return max(1, round(1 / (settings.rate * settings.time_base))) if settings.rate else 1


def write_container(
    target: Path,
    kind: str | None,
    reader: VideoReader,
    settings: Settings,
    streams: list[Any],
    packets: Iterable[tuple[int, av.Packet[Any]]],
    decode_times: Iterator[int],
    *,
    overwrite: bool,
    scratch: Path | None = None,
) -> None:
    """Writes a file from packets that are there, or come; it has its name once it is whole and on the disk.

    Args:
        target: the file to make.
        kind: the container by ffmpeg's name; None tells it from the target's suffix.
        reader, settings, streams: as for ``JournalSink``.
        packets: each with its stream's number; VIDEO is the encoded one.
        decode_times: of the video's packets, one for each.
        overwrite: replace an existing target.
        scratch: a folder on the target's file system for the file until it is whole; by default the target's own.

    Raises:
        OutputError: the container refuses.
    """
    with whole_file(target, overwrite, scratch=scratch) as partial:
        muxer = open_muxer(partial, kind, reader, settings, streams)
        try:
            for index, packet in packets:
                if index == VIDEO:
                    packet.dts = next(decode_times)
                    muxer.video(packet)
                else:
                    muxer.copy(packet, index)
            muxer.finish()
        except BaseException:
            muxer.abandon()
            raise
        with partial.open("rb") as file:
            os.fsync(file.fileno())
    tell_copied(muxer, reader, streams)


def tell_copied(muxer: Muxer | AnimationMuxer, reader: VideoReader, streams: list[Any]) -> None:
    """Says, and counts as damage, which copied packets the container did not take; says which were moved."""
    for stream in streams:
        name = f"{stream.codec_context.name} {stream.type}" if stream.codec_context else stream.type
        refused, moved = muxer.refused.get(stream.index, 0), muxer.moved(stream.index)
        if refused:
            _log.warning("%d packets of the %s stream are damaged and left out", refused, name)
            reader.damage.add("packets", None, refused)
        if moved:
            _log.warning("%d packets of the %s stream went back in time and are moved behind it", moved, name)


class StreamSink:
    """Encodes and writes at once: pipes, and recordings of live sources.

    Args:
        target: '-' for the standard output, or the file of a live recording.
        kind: the container by ffmpeg's name.
        reader, settings, streams: as for ``JournalSink``.
        overwrite: replace an existing target.
    """

    def __init__(
        self,
        target: str | Path,
        kind: str | None,
        reader: VideoReader,
        settings: Settings,
        streams: list[Any],
        overwrite: bool = False,
    ) -> None:
        self.start, self.encoded = Commit(), 0
        self._reader, self._streams = reader, streams
        self._target, self._pipe, self._busy = target, _output_pipe(target), threading.Lock()
        self.patience = None if self._pipe is None else PATIENCE
        self._files = contextlib.ExitStack()
        if str(target) == "-":
            file: Any = self._pipe or _standard_output()
        else:
            file = self._files.enter_context(whole_file(Path(target), overwrite))
        try:
            with self._interruptible():
                self._muxer = open_muxer(file, kind, reader, settings, streams)
            self._encoder = FrameEncoder(settings)
        except BaseException:
            self._files.__exit__(*sys.exc_info())
            raise

    def frame(self, frame: RgbFrame) -> None:
        with self._busy:
            self._write(self._encoder.encode(frame))
        self.encoded += 1

    def packet(self, packet: av.Packet[Any]) -> None:
        with self._busy:
            self._muxer.copy(packet, packet.stream.index)

    def _write(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            self._muxer.video(packet)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Raises Ctrl-C that came in a write."""
        try:
            yield
        finally:
            if self._pipe is not None:
                self._pipe.check()

    def finish(self) -> None:
        with self._interruptible():
            self._write(self._encoder.close())
            self._muxer.finish()
        tell_copied(self._muxer, self._reader, self._streams)
        self._files.close()

    def abandon(self, *, keep: bool) -> str:
        """As ``Sink.abandon``; a recording is completed with ``keep``, as nothing can continue it."""
        if keep and self.encoded and str(self._target) != "-" and self._completed():
            return f"{self._target} holds the {self.encoded} frames up to the failure"
        if self._pipe is not None:
            self._pipe.stop()
        if self._busy.acquire(blocking=False):  # else a write still waits, which holds the muxer
            self._muxer.abandon()
        with contextlib.suppress(_AbandonedError):
            self._files.__exit__(_AbandonedError, _AbandonedError(), None)
        return ""

    def _completed(self) -> bool:
        try:
            self.finish()
        except Exception as error:
            _log.warning("%s cannot be completed: %s", self._target, reason(error))
            return False
        return True


def _output_pipe(target: str | Path) -> OutputPipe | None:
    """The standard output if it is meant and a pipe.

    Raises:
        OutputError: it is a terminal, or takes no bytes.
    """
    if str(target) != "-":
        return None
    output = _standard_output()
    if sys.stdout.isatty():
        raise OutputError("the standard output is a terminal; send it to a program or a file")
    return None if output.seekable() else OutputPipe(output)


def _standard_output() -> Any:
    """Return the standard output for bytes.

    Raises:
        OutputError: there is none, as in a program with windows, or a notebook has put one for text in its place.
    """
    output = getattr(sys.stdout, "buffer", None)
    if output is None:
        raise OutputError("the standard output takes no video here: a notebook or a window has its place; name a file")
    return output


class _AbandonedError(Exception):
    """Makes ``whole_file`` delete what it holds."""
