"""Video through the upscaler: what is decided before the first frame, and the pass from a reader to a sink.

Decoding, network and encoding run at the same time, in three threads with short queues between them.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srfast._threads import Channel, Feeding, StageTimes, StoppedError
from srfast._version import __version__
from srfast.engine import Engine
from srfast.errors import FrameLossError, OutputError
from srfast.upscaler import Upscaler
from srfast.video.arrangement import arrange
from srfast.video.damage import Damage
from srfast.video.keeping import tell_times
from srfast.video.options import UpscalingKeywords, UpscalingOptions
from srfast.video.reader import Item, RgbFrame, VideoReader
from srfast.video.sinks import Sink
from srfast.video.source import Source, is_live, is_sequence, numbered, reason, require_av
from srfast.video.target import SinkOptions, parse_target
from srfast.video.upscale_stage import NetworkStage, Reuse, plane_colour

if TYPE_CHECKING:
    from typing_extensions import Unpack

_log = logging.getLogger("srfast")


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
        interrupted: Ctrl-C ended a source that has no end of its own.
        arithmetic: what the bits of the frames depend on beside the network: backend, device, dtype, instruction set.
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
    interrupted: bool = False
    arithmetic: dict[str, str] = field(default_factory=dict)

    @property
    def fps(self) -> float:
        """Frames per second over the whole run."""
        return (self.frames - self.resumed) / self.seconds


def upscale_video(
    source: Source,
    target: str | os.PathLike[str],
    model: Upscaler | str | os.PathLike[str] = "compact_x4",
    *,
    overwrite: bool = False,
    frames: int | None = None,
    resume: bool = False,
    segment: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Unpack[UpscalingKeywords],
) -> VideoResult:
    """Upscales a video; audio, subtitles, timestamps, colours, chapters, attachments and metadata come along.

    Memory does not grow with the length. The target appears under its name only when it is whole. The work is kept in a
    journal beside the target, so that a run that was killed continues with ``resume``; its frames are the same. A camera
    or network address has no end: there Ctrl-C ends the video as it is, and is not raised once there are frames.

    Args:
        source: a file, '-' for the standard input, a network address, a camera, or numbered images (``in/%05d.png``).
        target: the file to write, whose suffix chooses the container; '-' for the standard output (Y4M, or
            ``encoding.format``); or numbered images.
        model: an upscaler, or what ``srfast.load`` takes.
        overwrite: replace an existing target, and start over where an unfinished run is.
        frames: stop after this many frames.
        resume: continue an unfinished run of the same input, model and encoding, if there is one; ``copy`` may be another.
        segment: frames between two points from which a run can continue; by default 120, or fewer where these would take
            more than 30 seconds.
        on_progress: called after each frame, in the calling thread.
        **options: ``encoding``, ``copy``, ``input_options``, ``strict`` and ``reuse``, as ``UpscalingOptions`` describes them.

    Raises:
        TypeError: an option is unknown.
        ValueError: ``frames`` or ``segment`` is below 1.
        InputError, OutputError: the source cannot be read, or the target cannot be written.
        FrameLossError: with ``strict``, frames are missing from the source; or frames were lost on the way.

    Examples:
        >>> import tempfile
        >>> import srfast
        >>> clip = Path(srfast.__file__).parent / "assets" / "clip.mp4"
        >>> target = Path(tempfile.mkdtemp()) / "large.mkv"
        >>> upscale_video(clip, target, srfast.load("compact_x2", device="cpu"), frames=2).frames
        2
    """
    for name, count in (("frames", frames), ("segment", segment)):
        if count is not None and count < 1:
            raise ValueError(f"{name} takes a number from 1, not {count}")
    started = time.perf_counter()
    how = UpscalingOptions.of(options)
    place = parse_target(target, how.encoding.format)
    place.check(source, overwrite)
    upscaler = model if isinstance(model, Upscaler) else Upscaler(model)
    upscaler.check_takes_video()
    # The upscaler may have run before: only what this run adds counts.
    redone = upscaler.engine.statistics.redone
    with VideoReader(source, how.input_options, strict=how.strict) as reader:
        made = arrange(reader, place, upscaler, how, source)
        settings, streams = made.settings, made.streams
        reader.planes = plane_colour(reader, settings, upscaler)
        engine = upscaler.engine.for_frames(reader.bits, reader.height, reader.width)
        arithmetic = arithmetic_of(engine)
        run = _identity(source, how, upscaler, settings, frames, segment)
        run |= arithmetic | {"planes": str(reader.planes)}
        times = StageTimes()
        network = NetworkStage(upscaler, engine, reuse=how.reuse, times=times, planes=reader.planes)
        live = is_live(source)
        beside = SinkOptions(run, live, overwrite, resume, segment, network.seconds_a_frame)
        sink = place.sink(reader, settings, streams, beside)
        total = min(filter(None, (frames, reader.expected_frames)), default=0)
        stages = Run(reader, network, sink, streams, frames, times, live)
        stages.go(_reporter(on_progress, total, started, sink.start.frames))
        tell_times(reader, place.column)
        return VideoResult(
            frames=sink.encoded,
            seconds=time.perf_counter() - started,
            width=settings.width,
            height=settings.height,
            redone=upscaler.engine.statistics.redone - redone,
            resumed=sink.start.frames,
            damage=reader.damage,
            reuse=network.statistics,
            stages=times.seconds,
            codec=settings.codec,
            pix_fmt=settings.pix_fmt,
            interrupted=stages.interrupted,
            arithmetic=arithmetic,
        )


def _identity(
    source: Source,
    how: UpscalingOptions,
    upscaler: Upscaler,
    settings: Any,
    frames: int | None,
    segment: int | None,
) -> dict[str, Any]:
    """What two runs must share for one to continue the other."""
    path = Path(source)
    state = path.stat() if path.is_file() else None
    images = numbered(source) if is_sequence(source) else []
    # Size and time instead of content: to read a whole video only to compare it would take minutes.
    states = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in images]
    reading = asdict(how.input_options)
    del reading["untrusted"]  # what is allowed does not touch the frames
    encoder = {k: v if isinstance(v, (int, str, dict)) else str(v) for k, v in asdict(settings).items()}
    return {
        "input": str(path.absolute()) if str(source) != "-" else "-",
        "input size": state.st_size if state else 0,
        "input time": state.st_mtime_ns if state else 0,
        "input images": hashlib.sha256(repr(states).encode()).hexdigest() if states else "",
        "input options": reading,
        "model": upscaler.fingerprint,
        "outscale": upscaler.outscale,
        "size": [upscaler.size, upscaler.height],
        "encoding": encoder,
        "frames limit": frames,
        "copied streams": sorted(how.copy),
        "segment": segment,
        "version": __version__,
    }


def arithmetic_of(engine: Engine) -> dict[str, str]:
    """What the bits of the frames depend on beside the network: part of the identity of a run."""
    return {
        "backend": engine.backend.name,
        "device": str(engine.device),
        "dtype": str(engine.dtype).removeprefix("torch."),
        "instruction set": engine.path,
    }


def _reporter(
    on_progress: Callable[[Progress], None] | None, total: int, started: float, resumed: int
) -> Callable[[int], None]:
    def report(done: int) -> None:
        if on_progress:
            on_progress(Progress(done, total, time.perf_counter() - started, resumed))

    return report


class Run:
    """One pass from a reader to a sink.

    Args:
        reader: where frames and packets come from.
        network: makes the frames larger, as ``NetworkStage``.
        sink: where they go.
        streams: the reader's streams to copy.
        limit: frames after which it ends.
        times: where the stages' work is counted.
        live: the reader has no end of its own: Ctrl-C is the end.

    Attributes:
        interrupted: Ctrl-C ended it.
    """

    def __init__(
        self,
        reader: VideoReader,
        network: Callable[[Iterable[Item]], Iterator[Item]],
        sink: Sink,
        streams: list[Any],
        limit: int | None,
        times: StageTimes,
        live: bool = False,
    ) -> None:
        self._reader, self._network, self._sink = reader, network, sink
        self._streams, self._limit, self._times, self._live = streams, limit, times, live
        self._done, self._complete = sink.start.frames, True
        self.interrupted = False

    def go(self, report: Callable[[int], None]) -> None:
        """Runs to the end; on failure the sink keeps what can be continued.

        Raises:
            OutputError: the output cannot be written.
            FrameLossError: not every frame came through.
        """
        try:
            if not self._sink.start.finished:
                self._stages(report)
            with output_errors(), self._times.measure("finish"):
                self._sink.finish()
        except BaseException as error:
            # Whatever it was, the frames so far are right; a second Ctrl-C gives up what the first was completing.
            left = self._sink.abandon(keep=self._complete and not self.interrupted)
            if left and isinstance(error, OutputError):
                raise OutputError(*error.args[:-1], f"{error.args[-1]}; {left}") from error
            if left:
                _log.warning("%s", left)
            raise

    def _stages(self, report: Callable[[int], None]) -> None:
        stop = threading.Event()
        decoded: Channel[Item] = Channel(stop)
        upscaled: Channel[Item] = Channel(stop)
        start = self._sink.start
        items = self._reader.items(
            self._streams, self._limit, skip_frames=start.frames, skip_packets=dict(start.packets)
        )
        timed = self._times.timed("decode", items)
        reading = Feeding(decoded, timed, "srfast-decode", self._reader.hold())
        writing = _WriterThread(self._sink, upscaled, self._times)
        try:
            reading.start()
            writing.start()
            self._upscale(decoded, upscaled, writing, report)
            upscaled.end()
            writing.join()
            writing.check()
        except StoppedError:
            writing.check()
            raise
        finally:
            stop.set()
            self._reader.interrupt()
            reading.leave()
            writing.leave()
        # Counted at three places: a frame lost anywhere between them is an error and never a shorter video.
        self._complete = self.interrupted or self._reader.decoded == self._done == self._sink.encoded
        if not self._complete:
            raise FrameLossError(
                f"{self._reader.decoded} frames came in, {self._sink.encoded} went out; the output is discarded"
            )

    def _upscale(
        self, decoded: Channel[Item], upscaled: Channel[Item], writing: _WriterThread, report: Callable[[int], None]
    ) -> None:
        try:
            for item in self._network(decoded):
                upscaled.put(item)
                if isinstance(item, RgbFrame):
                    self._done += 1
                    report(self._done)
                writing.check()
        except KeyboardInterrupt:
            if not self._live or not self._done:
                raise
            self.interrupted = True
            _log.warning("the output is being completed; Ctrl-C once more discards it")


def disk_reason(error: BaseException) -> str | None:
    """What a disk that takes no more says, with what to do; None for other errors."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"{os.strerror(number)}; make room first"
    if number == errno.EFBIG:
        return f"{os.strerror(number)} for this file system"
    return None


class output_errors:  # noqa: N801
    """Turns what a muxer or the system says about writing into OutputError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BrokenPipeError):
            return  # who reads a pipe may stop at any time
        if isinstance(error, (OSError, ValueError, require_av().error.FFmpegError)):
            raise OutputError(f"cannot write the output: {disk_reason(error) or reason(error)}") from error


class _WriterThread(threading.Thread):
    """Encodes until the channel ends."""

    def __init__(self, sink: Sink, items: Channel[Item], times: StageTimes) -> None:
        super().__init__(name="srfast-encode", daemon=True)  # who reads a pipe may never read on
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

    def leave(self) -> None:
        """Waits for the item at hand, as long as the sink has patience."""
        if self.ident is not None:
            self.join(self._sink.patience)

    def check(self) -> None:
        """Raises what ended the thread."""
        if self._error is not None:
            with output_errors():
                raise self._error
