"""Video through the upscaler: decoding, network and encoding run at the same time, with short queues between them."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Generic, TypeVar

import cv2

from srfast.errors import FrameLossError, OutputError
from srfast.frames import Array, resize_array, run_array
from srfast.output import whole_file
from srfast.upscaler import Upscaler
from srfast.video.reader import Item, RgbFrame, VideoReader, require_av
from srfast.video.writer import Encoding, VideoWriter

T = TypeVar("T")
QUEUED = 3  # items between two stages: enough to even out their times, few enough to bound memory


@dataclass(frozen=True)
class Progress:
    """State of a run: frames done, frames expected (0 if unknown), seconds since the start."""

    done: int
    total: int
    seconds: float

    @property
    def fps(self) -> float:
        """Frames per second so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class VideoResult:
    """What a finished run did.

    Attributes:
        frames: frames read, which equals frames written.
        seconds: wall time, from opening to the completed file.
        width, height: of the output, in pixels.
        redone: frames computed again in float32 because half precision overflowed.
    """

    frames: int
    seconds: float
    width: int
    height: int
    redone: int

    @property
    def fps(self) -> float:
        """Frames per second over the whole run."""
        return self.frames / self.seconds


class _StoppedError(Exception):
    """Another stage has failed; this one ends."""


class _Channel(Generic[T]):
    """A bounded queue from a producing thread whose failure reaches the consumer, and the reverse."""

    def __init__(self, stop: threading.Event) -> None:
        self._queue: queue.Queue[T | None] = queue.Queue(QUEUED)
        self._stop = stop
        self.error: BaseException | None = None

    def put(self, item: T | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue
        raise _StoppedError

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self._queue.get(timeout=0.1)
            except queue.Empty:
                if self.error is not None:
                    raise self.error from None
                if self._stop.is_set():
                    raise _StoppedError from None
                continue
            if item is None:
                return
            yield item

    def feed(self, items: Iterator[T]) -> None:
        """Puts all items, then the end mark; an error is kept for the consumer."""
        try:
            for item in items:
                self.put(item)
            self.put(None)
        except _StoppedError:
            return
        except BaseException as error:
            self.error = error


def upscale_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: Upscaler | str | os.PathLike[str] = "compact_x4",
    *,
    encoding: Encoding | None = None,
    overwrite: bool = False,
    frames: int | None = None,
    copy: tuple[str, ...] = ("audio", "subtitle", "attachment", "data"),
    on_progress: Callable[[Progress], None] | None = None,
) -> VideoResult:
    """Upscales a video file; audio, subtitles, timestamps, colours, chapters and metadata come along.

    Memory does not grow with the length. The target appears under its name only when it is whole.

    Args:
        source: the video to read.
        target: the file to write; its suffix chooses the container.
        model: an upscaler, or what ``srfast.load`` takes.
        encoding: codec, quality, pixel format.
        overwrite: replace an existing target.
        frames: stop after this many frames.
        copy: kinds of other streams to carry over.
        on_progress: called after each frame, in the calling thread.

    Raises:
        InputError, OutputError: the source cannot be read, or the target cannot be written; nothing is left behind.
        FrameLossError: frames are missing from the source or were lost on the way.
    """
    started = time.perf_counter()
    source, target = Path(source), Path(target)
    upscaler = model if isinstance(model, Upscaler) else Upscaler(model)
    if target.exists() and source.exists() and target.samefile(source):
        raise OutputError(f"the output {target} is the input itself; give another name")
    with whole_file(target, overwrite) as partial, VideoReader(source) as reader:
        streams = [s for s in reader.copied_streams if s.type in copy]
        height, width = upscaler.output_size(reader.height, reader.width)
        redone = upscaler.engine.statistics.redone
        with VideoWriter(partial, reader, width, height, encoding or Encoding(), streams) as writer:
            total = min(filter(None, (frames, reader.expected_frames)), default=0)
            _run(reader, upscaler, writer, streams, frames, _reporter(on_progress, total, started))
    redone = upscaler.engine.statistics.redone - redone
    return VideoResult(writer.encoded, time.perf_counter() - started, width, height, redone)


def _reporter(on_progress: Callable[[Progress], None] | None, total: int, started: float) -> Callable[[int], None]:
    def report(done: int) -> None:
        if on_progress:
            on_progress(Progress(done, total, time.perf_counter() - started))

    return report


def _run(
    reader: VideoReader,
    upscaler: Upscaler,
    writer: VideoWriter,
    streams: list[object],
    limit: int | None,
    report: Callable[[int], None],
) -> None:
    stop = threading.Event()
    decoded: _Channel[Item] = _Channel(stop)
    upscaled: _Channel[Item] = _Channel(stop)
    writing = _WriterThread(writer, upscaled)
    reading = threading.Thread(target=decoded.feed, args=(reader.items(streams, limit),), name="srfast-decode")
    reading.start()
    writing.start()
    done = 0
    try:
        for item in decoded:
            if isinstance(item, RgbFrame):
                image = upscale_rgb(upscaler, item.image)
                upscaled.put(RgbFrame(image, item.pts, item.duration))
                done += 1
                report(done)
            else:
                upscaled.put(item)
            writing.check()
        upscaled.put(None)
        writing.join()
        writing.check()
    except _StoppedError:
        writing.check()
        raise
    finally:
        stop.set()
        reading.join()
        writing.join()
    if not reader.decoded == done == writer.encoded:
        raise FrameLossError(f"{reader.decoded} frames came in, {writer.encoded} went out; the output is discarded")


class _WriterThread(threading.Thread):
    """Encodes until the channel ends, then completes the file."""

    def __init__(self, writer: VideoWriter, items: _Channel[Item]) -> None:
        super().__init__(name="srfast-encode")
        self._writer, self._items = writer, items
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            for item in self._items:
                if isinstance(item, RgbFrame):
                    self._writer.write_frame(item)
                else:
                    self._writer.write_packet(item)
            self._writer.finish()
        except _StoppedError:
            return
        except BaseException as error:
            self._error = error
            self._items._stop.set()

    def check(self) -> None:
        """Raises what ended the thread.

        Raises:
            OutputError: the file cannot be written.
        """
        if self._error is None:
            return
        if isinstance(self._error, (OSError, ValueError)):
            reason = getattr(self._error, "strerror", None) or self._error
            raise OutputError(f"cannot write the output: {reason}") from self._error
        raise self._error


def upscale_rgb(upscaler: Upscaler, image: Array) -> Array:
    """[H, W, 3] RGB through the network, then to the upscaler's output size."""
    return resize_array(run_array(image, upscaler.engine), *upscaler.output_size(*image.shape[:2]))


@dataclass(frozen=True)
class UpscaledFrame:
    """One frame of a video: its number from 0, its time in seconds (None if the file has none), [H, W, 3] BGR."""

    index: int
    time: Fraction | None
    image: Array


def iter_video(
    source: str | os.PathLike[str], model: Upscaler | str | os.PathLike[str] = "compact_x4"
) -> Iterator[UpscaledFrame]:
    """Upscales the frames of a video one by one, decoding ahead in the background.

    Args:
        source: the video to read.
        model: an upscaler, or what ``srfast.load`` takes.

    Raises:
        InputError: the source cannot be read.
    """
    require_av()
    upscaler = model if isinstance(model, Upscaler) else Upscaler(model)
    stop = threading.Event()
    decoded: _Channel[Item] = _Channel(stop)
    with VideoReader(Path(source)) as reader:
        thread = threading.Thread(target=decoded.feed, args=(reader.items([]),), name="srfast-decode")
        thread.start()
        try:
            for index, item in enumerate(decoded):
                assert isinstance(item, RgbFrame)
                time_s = None if item.pts is None else item.pts * reader.time_base
                image = upscale_rgb(upscaler, item.image)
                yield UpscaledFrame(index, time_s, cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=image))
        finally:
            stop.set()
            thread.join()
