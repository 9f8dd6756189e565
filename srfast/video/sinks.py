"""Where upscaled frames go: a journal that becomes a file, or a stream."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from srfast._files import check_output, whole_file
from srfast._threads import PATIENCE
from srfast.errors import OutputError
from srfast.video.encoder import FrameEncoder
from srfast.video.journal import VIDEO, Commit, open_journal
from srfast.video.muxer import open_muxer
from srfast.video.pipe import OutputPipe
from srfast.video.reader import RgbFrame, VideoReader
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

    def frame(self, frame: RgbFrame) -> None: ...

    def packet(self, packet: av.Packet[Any]) -> None: ...

    def finish(self) -> None:
        """Completes the output under its name."""
        ...

    def abandon(self, *, keep: bool) -> None:
        """Ends without an output; ``keep`` leaves what a later run can continue."""
        ...


def holdable(suffix: str, kind: str | None, reader: VideoReader, settings: Settings, streams: list[Any]) -> list[Any]:
    """The streams that the container takes, found by writing a header; of data streams those that it refuses are left out.

    Raises:
        OutputError: it refuses the video or another stream.
    """
    with tempfile.TemporaryDirectory(prefix="srfast-") as folder:
        probe = Path(folder) / f"probe{suffix}"
        try:
            open_muxer(probe, kind, reader, settings, streams).abandon()
        except OutputError:
            others = [s for s in streams if s.type != "data"]
            if len(others) == len(streams):
                _name_refused(probe, suffix or str(kind), kind, reader, settings, streams)
                raise
            open_muxer(probe, kind, reader, settings, others).abandon()
            # As ffmpeg does: timecodes and telemetry of a camera, texts of chapters that are written anew.
            _log.info("%s cannot hold %d data streams; they are left out", suffix or kind, len(streams) - len(others))
            return others
    return streams


def _name_refused(
    probe: Path, label: str, kind: str | None, reader: VideoReader, settings: Settings, streams: list[Any]
) -> None:
    """Raises the refusal of the one stream that the container does not take, if the video alone is fine with it."""
    for stream in streams:
        try:
            open_muxer(probe, kind, reader, settings, []).abandon()
        except OutputError:
            return
        try:
            open_muxer(probe, kind, reader, settings, [stream]).abandon()
        except OutputError as error:
            if "cannot hold the" in str(error):
                raise
            name = stream.codec_context.name if stream.codec_context else stream.type
            why = reason(error.__cause__) if error.__cause__ else str(error)
            raise OutputError(
                f"{label} cannot hold the {name} {stream.type} stream ({why}); "
                f"write .mkv, or pass --no-copy-{stream.type} to leave it out"
            ) from error


class JournalSink:
    """Encodes in segments into a journal; the container is written from it at the end.

    Args:
        target: the file to make.
        reader: of the input.
        settings: of the encoder.
        streams: those to copy.
        run: what identifies the run.
        segment: frames in a segment.
        overwrite: replace an existing target, and start over where a journal is.
        resume: continue from a journal.

    Raises:
        OutputError: the container refuses, or an unfinished run is in the way.
    """

    patience: float | None = None

    def __init__(
        self,
        target: Path,
        reader: VideoReader,
        settings: Settings,
        streams: list[Any],
        run: dict[str, Any],
        *,
        segment: int,
        overwrite: bool,
        resume: bool,
    ) -> None:
        check_output(target, overwrite)
        self._target, self._reader, self._settings, self._streams = target, reader, settings, streams
        self._overwrite, self._segment = overwrite, segment
        self._journal = open_journal(target, run, overwrite=overwrite, resume=resume)
        self.start = self._journal.commit
        self.encoded = self.start.frames
        self._packets = dict(self.start.packets)
        self._encoder: FrameEncoder | None = None

    def frame(self, frame: RgbFrame) -> None:
        self._encoder = self._encoder or FrameEncoder(self._settings)
        self._add(self._encoder.encode(frame))
        self.encoded += 1
        if self.encoded % self._segment == 0:
            self._end_segment()

    def packet(self, packet: av.Packet[Any]) -> None:
        index = packet.stream.index
        self._journal.add(packet, index)
        self._packets[index] = self._packets.get(index, 0) + 1

    def _add(self, packets: list[av.Packet[Any]]) -> None:
        for packet in packets:
            self._journal.add(packet, VIDEO)

    def _end_segment(self, finished: bool = False) -> None:
        if self._encoder is not None:
            self._add(self._encoder.close())
            self._encoder = None
        self._journal.commit_segment(Commit(self.encoded, dict(self._packets), finished))

    def finish(self) -> None:
        if not self.start.finished:
            self._end_segment(finished=True)
        with whole_file(self._target, self._overwrite) as partial:
            muxer = open_muxer(partial, None, self._reader, self._settings, self._streams)
            try:
                for index, packet in self._journal.packets():
                    if index == VIDEO:
                        muxer.video(packet)
                    else:
                        muxer.copy(packet, index)
                muxer.finish()
            except BaseException:
                muxer.abandon()
                raise
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        self._journal.close(keep=False)

    def abandon(self, *, keep: bool) -> None:
        self._journal.abandon(keep=keep)


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
        self._target, self._pipe, self._busy = target, _output_pipe(target), threading.Lock()
        self.patience = None if self._pipe is None else PATIENCE
        self._files = contextlib.ExitStack()
        file: Any = self._pipe or sys.stdout.buffer
        if str(target) != "-":
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
        self._files.close()

    def abandon(self, *, keep: bool) -> None:
        """As ``Sink.abandon``; a recording is completed with ``keep``, as nothing can continue it."""
        if keep and self.encoded and str(self._target) != "-" and self._completed():
            _log.warning("%s holds the %d frames up to the failure", self._target, self.encoded)
            return
        if self._pipe is not None:
            self._pipe.stop()
        if self._busy.acquire(blocking=False):  # else a write still waits, which holds the muxer
            self._muxer.abandon()
        with contextlib.suppress(_AbandonedError):
            self._files.__exit__(_AbandonedError, _AbandonedError(), None)

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
        OutputError: it is a terminal.
    """
    if str(target) != "-":
        return None
    if sys.stdout.isatty():
        raise OutputError("the standard output is a terminal; send it to a program or a file")
    if sys.stdout.buffer.seekable():
        return None
    return OutputPipe(sys.stdout.buffer)


class _AbandonedError(Exception):
    """Makes ``whole_file`` delete what it holds."""
