"""Video through the upscaler: decoding, network and encoding run at the same time."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2

import srfast
from srfast.errors import FrameLossError, OutputError
from srfast.frames import Array
from srfast.sequence import Reuse, SequenceUpscaler
from srfast.upscaler import Upscaler
from srfast.video.damage import Damage
from srfast.video.encoder import Encoding, choose
from srfast.video.reader import Item, RgbFrame, VideoReader
from srfast.video.sinks import ImageSink, JournalSink, Sink, StreamSink, holdable
from srfast.video.source import COPIED, InputOptions, Source, is_live, is_sequence, reason, require_av
from srfast.video.stages import Channel, StageTimes, StoppedError

_log = logging.getLogger("srfast")
SEGMENT = 120  # frames: what a crash costs at most, and the longest distance of key frames


@dataclass(frozen=True)
class Progress:
    """State of a run: frames done, frames expected (0 if unknown), seconds since the start, frames of an earlier run."""

    done: int
    total: int
    seconds: float
    resumed: int = 0

    @property
    def fps(self) -> float:
        """Frames per second so far."""
        return (self.done - self.resumed) / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class VideoResult:
    """What a finished run did.

    Attributes:
        frames: frames written.
        seconds: wall time, from opening to the completed file.
        width, height: of the output, in pixels.
        redone: frames computed again in float32 because half precision overflowed.
        resumed: frames taken over from an interrupted run.
        damage: what was wrong with the input.
        reuse: what was copied from the frame before.
        stages: seconds of work by stage; stages overlap.
        codec, pix_fmt: of the output.
    """

    frames: int
    seconds: float
    width: int
    height: int
    redone: int
    resumed: int
    damage: Damage
    reuse: Reuse
    stages: dict[str, float]
    codec: str
    pix_fmt: str

    @property
    def fps(self) -> float:
        """Frames per second over the whole run."""
        return (self.frames - self.resumed) / self.seconds


def upscale_video(
    source: Source,
    target: str | os.PathLike[str],
    model: Upscaler | str | os.PathLike[str] = "compact_x4",
    *,
    encoding: Encoding | None = None,
    overwrite: bool = False,
    frames: int | None = None,
    copy: tuple[str, ...] = COPIED,
    resume: bool = False,
    strict: bool = False,
    reuse: bool = True,
    segment: int = SEGMENT,
    input_options: InputOptions | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> VideoResult:
    """Upscales a video; audio, subtitles, timestamps, colours, chapters, attachments and metadata come along.

    Memory does not grow with the length. The target appears under its name only when it is whole. The work is kept in a
    journal beside the target, so that a run that was killed continues with ``resume``; its frames are the same.

    Args:
        source: a file, '-' for the standard input, a network address, a camera, or numbered images (``in/%05d.png``).
        target: the file to write, whose suffix chooses the container; '-' for the standard output (Y4M, or
            ``encoding.format``); or numbered images.
        model: an upscaler, or what ``srfast.load`` takes.
        encoding: codec, quality, pixel format.
        overwrite: replace an existing target, and start over where an unfinished run is.
        frames: stop after this many frames.
        copy: kinds of other streams to carry over.
        resume: continue an unfinished run of the same input, model and encoding, if there is one.
        strict: any damage of the input is an error; else what it cost is in the result's ``damage``.
        reuse: copy what has not changed since the last frame instead of computing it; the result is the same.
        segment: frames between two points from which a run can continue.
        input_options: how to read a source that does not say it itself.
        on_progress: called after each frame, in the calling thread.

    Raises:
        InputError, OutputError: the source cannot be read, or the target cannot be written.
        FrameLossError: with ``strict``, frames are missing from the source; or frames were lost on the way.
    """
    started = time.perf_counter()
    upscaler = model if isinstance(model, Upscaler) else Upscaler(model)
    source_path, target_path = Path(source), Path(target)
    if target_path.exists() and source_path.exists() and str(target) != "-" and target_path.samefile(source_path):
        raise OutputError(f"the output {target_path} is the input itself; give another name")
    encoding = encoding or Encoding()
    redone = upscaler.engine.statistics.redone
    with VideoReader(source, input_options, strict=strict) as reader:
        if reader.interlaced:
            _log.warning("the input is interlaced: fields are upscaled woven together; deinterlace it first (bwdif)")
        streams = [s for s in reader.copied_streams if ("attachment" if s.type == "video" else s.type) in copy]
        height, width = upscaler.output_size(reader.height, reader.width)
        suffix = ".y4m" if str(target) == "-" and not encoding.format else target_path.suffix.lower()
        if is_sequence(target):
            suffix, encoding = ".png", Encoding("png", None, None)
        settings = choose(reader, encoding, suffix, width, height)
        run = _identity(source, upscaler, settings, frames, copy, segment)
        kind = encoding.format or ("y4m" if str(target) == "-" else None)
        if not is_sequence(target):
            streams = holdable(suffix, kind, reader, settings, streams)
        sink: Sink
        if is_sequence(target):
            sink = ImageSink(os.fspath(target), run, overwrite=overwrite, resume=resume)
        elif str(target) == "-" or is_live(source):
            sink = StreamSink(os.fspath(target), kind, reader, settings, streams, overwrite)
        else:
            sink = JournalSink(
                target_path, reader, settings, streams, run, segment=segment, overwrite=overwrite, resume=resume
            )
        total = min(filter(None, (frames, reader.expected_frames)), default=0)
        job = _Run(reader, SequenceUpscaler(upscaler, reuse=reuse), sink, streams, frames)
        job.go(_reporter(on_progress, total, started, sink.start.frames))
        return VideoResult(
            frames=sink.encoded,
            seconds=time.perf_counter() - started,
            width=width,
            height=height,
            redone=upscaler.engine.statistics.redone - redone,
            resumed=sink.start.frames,
            damage=reader.damage,
            reuse=job.upscaler.statistics,
            stages=job.times.seconds,
            codec=settings.codec,
            pix_fmt=settings.pix_fmt,
        )


def _identity(
    source: Source, upscaler: Upscaler, settings: Any, frames: int | None, copy: tuple[str, ...], segment: int
) -> dict[str, Any]:
    """What two runs must share for one to continue the other."""
    path = Path(source)
    state = path.stat() if path.is_file() else None
    encoder = {k: v if isinstance(v, (int, str, dict)) else str(v) for k, v in asdict(settings).items()}
    return {
        "input": str(path.absolute()) if str(source) != "-" else "-",
        "input size": state.st_size if state else 0,
        "input time": state.st_mtime_ns if state else 0,
        "model": upscaler.fingerprint,
        "outscale": upscaler.outscale,
        "backend": f"{upscaler.engine.backend.name} on {upscaler.engine.device} in {upscaler.engine.dtype}",
        "encoding": encoder,
        "frames limit": frames,
        "copied streams": sorted(copy),
        "segment": segment,
        "version": srfast.__version__,
    }


def _reporter(
    on_progress: Callable[[Progress], None] | None, total: int, started: float, resumed: int
) -> Callable[[int], None]:
    def report(done: int) -> None:
        if on_progress:
            on_progress(Progress(done, total, time.perf_counter() - started, resumed))

    return report


class _Run:
    """One pass from a reader to a sink."""

    def __init__(
        self, reader: VideoReader, upscaler: SequenceUpscaler, sink: Sink, streams: list[Any], limit: int | None
    ) -> None:
        self.reader, self.upscaler, self.sink = reader, upscaler, sink
        self.times = StageTimes()
        self._streams, self._limit = streams, limit

    def go(self, report: Callable[[int], None]) -> None:
        """Runs to the end; on failure the sink keeps what can be continued.

        Raises:
            OutputError: the output cannot be written.
            FrameLossError: not every frame came through.
        """
        try:
            if not self.sink.start.finished:
                self._stages(report)
            with _output_errors(), self.times.measure("finish"):
                self.sink.finish()
        except (KeyboardInterrupt, OutputError):
            self.sink.abandon(keep=True)
            raise
        except BaseException:
            self.sink.abandon(keep=False)
            raise

    def _stages(self, report: Callable[[int], None]) -> None:
        stop = threading.Event()
        decoded: Channel[Item] = Channel(stop)
        upscaled: Channel[Item] = Channel(stop)
        start = self.sink.start
        items = self.reader.items(
            self._streams, self._limit, skip_frames=start.frames, skip_packets=dict(start.packets)
        )
        timed = self.times.timed("decode", items)
        reading = threading.Thread(target=decoded.feed, args=(timed,), name="srfast-decode")
        writing = _WriterThread(self.sink, upscaled, self.times)
        reading.start()
        writing.start()
        done = start.frames
        try:
            for item in decoded:
                if isinstance(item, RgbFrame):
                    with self.times.measure("network"):
                        image = self.upscaler(item.image)
                    upscaled.put(RgbFrame(image, item.pts, item.duration))
                    done += 1
                    report(done)
                else:
                    upscaled.put(item)
                writing.check()
            upscaled.put(None)
            writing.join()
            writing.check()
        except StoppedError:
            writing.check()
            raise
        finally:
            stop.set()
            reading.join()
            writing.join()
        if not self.reader.decoded == done == self.sink.encoded:
            raise FrameLossError(
                f"{self.reader.decoded} frames came in, {self.sink.encoded} went out; the output is discarded"
            )


class _output_errors:  # noqa: N801
    """Turns what a muxer or the system says about writing into OutputError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, ValueError, require_av().error.FFmpegError)):
            raise OutputError(f"cannot write the output: {reason(error)}") from error


class _WriterThread(threading.Thread):
    """Encodes until the channel ends."""

    def __init__(self, sink: Sink, items: Channel[Item], times: StageTimes) -> None:
        super().__init__(name="srfast-encode")
        self._sink, self._items, self._times = sink, items, times
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            for item in self._items:
                with self._times.measure("encode"):
                    if isinstance(item, RgbFrame):
                        self._sink.frame(item)
                    else:
                        self._sink.packet(item)
        except StoppedError:
            return
        except BaseException as error:
            self._error = error
            self._items.stop()

    def check(self) -> None:
        """Raises what ended the thread."""
        if self._error is not None:
            with _output_errors():
                raise self._error


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
    """
    require_av()
    upscaler = model if isinstance(model, Upscaler) else Upscaler(model)
    sequence = SequenceUpscaler(upscaler, reuse=reuse)
    stop = threading.Event()
    decoded: Channel[Item] = Channel(stop)
    with VideoReader(source, input_options) as reader:
        thread = threading.Thread(target=decoded.feed, args=(reader.items([]),), name="srfast-decode")
        thread.start()
        try:
            for index, item in enumerate(decoded):
                assert isinstance(item, RgbFrame)
                image = sequence(item.image)
                code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
                yield UpscaledFrame(index, item.pts * reader.time_base, cv2.cvtColor(image, code))
        finally:
            stop.set()
            thread.join()
