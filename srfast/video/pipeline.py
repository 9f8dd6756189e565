"""Video through the upscaler: decoding, network and encoding run at the same time."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import srfast
from srfast._threads import StageTimes
from srfast.engine import Engine
from srfast.errors import OutputError
from srfast.upscaler import Upscaler
from srfast.video.damage import Damage
from srfast.video.encoder import settle
from srfast.video.image_sink import ImageSink
from srfast.video.keeping import carried, column_of, prepare, tell_times
from srfast.video.planes import plane_colour
from srfast.video.reader import VideoReader, option_of
from srfast.video.rehearsal import rehearse
from srfast.video.reuse import Reuse
from srfast.video.run import Run
from srfast.video.segments import Segments
from srfast.video.settings import Encoding
from srfast.video.sinks import JournalSink, Sink, StreamSink
from srfast.video.source import COPIED, InputOptions, Source, can_reopen, is_live, is_sequence, numbered
from srfast.video.upscale_stage import NetworkStage

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
    encoding: Encoding | None = None,
    overwrite: bool = False,
    frames: int | None = None,
    copy: tuple[str, ...] = COPIED,
    resume: bool = False,
    strict: bool = False,
    reuse: bool = True,
    segment: int | None = None,
    input_options: InputOptions | None = None,
    on_progress: Callable[[Progress], None] | None = None,
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
        encoding: codec, quality, pixel format.
        overwrite: replace an existing target, and start over where an unfinished run is.
        frames: stop after this many frames.
        copy: kinds of other streams to carry over.
        resume: continue an unfinished run of the same input, model and encoding, if there is one; ``copy`` may be another.
        strict: any damage of the input is an error; else what it cost is in the result's ``damage``.
        reuse: copy what has not changed since the last frame instead of computing it; the result is the same.
        segment: frames between two points from which a run can continue; by default 120, or fewer where these would take
            more than 30 seconds.
        input_options: how to read a source that does not say it itself.
        on_progress: called after each frame, in the calling thread.

    Raises:
        ValueError: ``frames`` or ``segment`` is below 1.
        InputError, OutputError: the source cannot be read, or the target cannot be written.
        FrameLossError: with ``strict``, frames are missing from the source; or frames were lost on the way.
    """
    for name, count in (("frames", frames), ("segment", segment)):
        if count is not None and count < 1:
            raise ValueError(f"{name} takes a number from 1, not {count}")
    started = time.perf_counter()
    upscaler = model if isinstance(model, Upscaler) else Upscaler(model)
    source_path, target_path = Path(source), Path(target)
    if target_path.exists() and source_path.exists() and str(target) != "-" and target_path.samefile(source_path):
        raise OutputError(f"the output {target_path} is the input itself; give another name")
    encoding = encoding or Encoding()
    redone = upscaler.engine.statistics.redone
    with VideoReader(source, input_options, strict=strict) as reader:
        streams = [s for s in reader.copied_streams if option_of(s) in copy]
        suffix = ".y4m" if str(target) == "-" and not encoding.format else target_path.suffix.lower()
        kind = encoding.format or ("y4m" if str(target) == "-" else None)
        column = column_of(suffix, kind, images=is_sequence(target))
        prepare(reader, column)
        height, width = upscaler.output_size(reader.height, reader.width)
        if is_sequence(target):
            suffix, encoding = "", Encoding("png", None, None)
        settings = settle(reader, encoding, suffix, width, height)
        reader.planes = plane_colour(reader, settings, upscaler)
        run = _identity(source, input_options or InputOptions(), upscaler, settings, frames, copy, segment)
        arithmetic = _arithmetic(upscaler.engine.for_bits(reader.bits))
        run |= arithmetic
        run["planes"] = str(reader.planes)
        streams = carried(reader, column, streams)
        if not is_sequence(target):
            streams = rehearse(
                reader,
                settings,
                streams,
                suffix=suffix if str(target) != "-" else "",
                kind=kind,
                pipe=str(target) == "-",
                source=source if can_reopen(source) else None,
                options=input_options,
            )
        times = StageTimes()
        network = NetworkStage(upscaler, reuse=reuse, times=times, planes=reader.planes, bits=reader.bits)
        sink: Sink
        if is_sequence(target):
            sink = ImageSink(os.fspath(target), run, segment=segment, overwrite=overwrite, resume=resume)
        elif str(target) == "-" or is_live(source):
            sink = StreamSink(os.fspath(target), kind, reader, settings, streams, overwrite)
        else:
            segments = Segments(segment, network.seconds_a_frame)
            sink = JournalSink(
                target_path, reader, settings, streams, run, segments=segments, overwrite=overwrite, resume=resume
            )
        total = min(filter(None, (frames, reader.expected_frames)), default=0)
        stages = Run(reader, network, sink, streams, frames, times, is_live(source))
        stages.go(_reporter(on_progress, total, started, sink.start.frames))
        tell_times(reader, column)
        return VideoResult(
            frames=sink.encoded,
            seconds=time.perf_counter() - started,
            width=width,
            height=height,
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
    options: InputOptions,
    upscaler: Upscaler,
    settings: Any,
    frames: int | None,
    copy: tuple[str, ...],
    segment: int | None,
) -> dict[str, Any]:
    """What two runs must share for one to continue the other."""
    path = Path(source)
    state = path.stat() if path.is_file() else None
    images = numbered(source) if is_sequence(source) else []
    states = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in images]
    encoder = {k: v if isinstance(v, (int, str, dict)) else str(v) for k, v in asdict(settings).items()}
    return {
        "input": str(path.absolute()) if str(source) != "-" else "-",
        "input size": state.st_size if state else 0,
        "input time": state.st_mtime_ns if state else 0,
        "input images": hashlib.sha256(repr(states).encode()).hexdigest() if states else "",
        "input options": asdict(options),
        "model": upscaler.fingerprint,
        "outscale": upscaler.outscale,
        "size": [upscaler.size, upscaler.height],
        "encoding": encoder,
        "frames limit": frames,
        "copied streams": sorted(copy),
        "segment": segment,
        "version": srfast.__version__,
    }


def _arithmetic(engine: Engine) -> dict[str, str]:
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
