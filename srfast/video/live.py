"""Video of cameras and streams within a latency: the newest frame wins, and what would be late takes a lighter way."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2

from srfast._threads import PATIENCE
from srfast.live import LiveFrame, LiveStatistics, LiveUpscaler
from srfast.upscaler import Upscaler
from srfast.video.arrangement import arrange
from srfast.video.keeping import tell_left_out
from srfast.video.options import UpscalingOptions
from srfast.video.reader import RgbFrame, VideoReader, option_of
from srfast.video.settings import Encoding
from srfast.video.sinks import Sink
from srfast.video.source import COPIED, InputOptions, Source, can_reopen
from srfast.video.target import SinkOptions, parse_target

_log = logging.getLogger("srfast")


@dataclass(frozen=True)
class LiveResult:
    """What a live run did.

    Attributes:
        frames: written.
        seconds: wall time, from opening to the completed output.
        width, height: of the output, in pixels.
        statistics: what became of the frames that came in.
        interrupted: Ctrl-C ended it.
    """

    frames: int
    seconds: float
    width: int
    height: int
    statistics: LiveStatistics
    interrupted: bool = False


def upscale_live(
    source: Source,
    target: str | os.PathLike[str],
    model: Upscaler | str | os.PathLike[str] = "compact_x4",
    *,
    max_latency: float = 0.04,
    lighter: Upscaler | str | os.PathLike[str] | None = None,
    encoding: Encoding | None = None,
    overwrite: bool = False,
    frames: int | None = None,
    copy: tuple[str, ...] = COPIED,
    input_options: InputOptions | None = None,
) -> LiveResult:
    """Upscales a camera or a stream within a latency, until it ends or Ctrl-C; then the output is completed.

    A file plays at its own rate, as a camera would. Frames that come faster than they can be made are dropped for newer
    ones, and counted. The output holds frames only: no sound.

    Args:
        source: as for ``upscale_video``.
        target: as for ``upscale_video``.
        model: an upscaler, or what ``srfast.load`` takes.
        max_latency: seconds from a frame's arrival to its result.
        lighter: a faster model of the same enlargement, for frames that would be late.
        encoding: codec, quality, pixel format.
        overwrite: replace an existing target.
        frames: take as many frames of the source.
        copy: kinds of streams whose loss is worth a warning.
        input_options: how to read a source that does not say it itself.

    Raises:
        ValueError: ``max_latency`` is not positive, or ``frames`` below 1.
        InputError, OutputError: the source cannot be read, or the target cannot be written.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import srfast
        >>> clip = Path(srfast.__file__).parent / "assets" / "clip.mp4"
        >>> target = Path(tempfile.mkdtemp()) / "live.mkv"
        >>> upscaler = srfast.load("compact_x2", device="cpu")
        >>> upscale_live(clip, target, upscaler, max_latency=10.0, frames=2).statistics.received
        2
    """
    if frames is not None and frames < 1:
        raise ValueError(f"frames takes a number from 1, not {frames}")
    started, encoding = time.perf_counter(), encoding or Encoding()
    place = parse_target(target, encoding.format)
    place.check(source, overwrite)
    upscaler = model if isinstance(model, Upscaler) else Upscaler(model)
    with VideoReader(source, input_options) as reader:
        left_out = [s for s in reader.copied_streams if option_of(s) in copy]
        tell_left_out(left_out, "a live run carries frames only")
        asked = UpscalingOptions(encoding, (), input_options or InputOptions())
        made = arrange(reader, place, upscaler, asked, source)
        live = LiveUpscaler(upscaler, max_latency=max_latency, lighter=lighter)
        try:
            # Compiling and the first memory would cost the first frames their latency.
            live.warm_up(reader.height, reader.width)
            sink = place.sink(reader, made.settings, [], SinkOptions({}, live=True, overwrite=overwrite))
        except BaseException:
            live.close()
            raise
        feeding = _Feeding(reader, live, frames, paced=can_reopen(source))
        interrupted = _written(live, sink, feeding, recorded=can_reopen(source))
    return LiveResult(
        frames=sink.encoded,
        seconds=time.perf_counter() - started,
        width=made.settings.width,
        height=made.settings.height,
        statistics=live.statistics,
        interrupted=interrupted,
    )


def _written(live: LiveUpscaler, sink: Sink, feeding: _Feeding, *, recorded: bool) -> bool:
    """Writes all results and completes the output; True where Ctrl-C was the end."""
    interrupted = False
    feeding.start()
    try:
        for frame in live:
            sink.frame(_rgb(frame))
        feeding.check()
    except KeyboardInterrupt:
        interrupted = True  # the end of a live run: what came so far becomes the file
    except BaseException:
        if left := sink.abandon(keep=not recorded):
            _log.warning("%s", left)
        raise
    finally:
        feeding.leave()
    try:
        sink.finish()
    except BaseException:
        sink.abandon(keep=False)
        raise
    return interrupted


def _rgb(frame: LiveFrame) -> RgbFrame:
    """A result with the times of the frame that it is made of."""
    item: RgbFrame = frame.tag
    return RgbFrame(cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB), item.pts, item.duration)


class _Feeding(threading.Thread):
    """Hands the frames of a reader to a live upscaler as they come.

    Args:
        reader: of the source.
        live: what takes the frames; it is closed after the last.
        limit: of frames.
        paced: give each at its time, as a camera would.
    """

    def __init__(self, reader: VideoReader, live: LiveUpscaler, limit: int | None, *, paced: bool) -> None:
        super().__init__(name="srfast-decode", daemon=True)
        self._reader, self._live, self._limit, self._paced = reader, live, limit, paced
        self._release: Callable[[], None] = reader.hold()
        self._left = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._submit()
        except BaseException as error:
            self._error = error
        finally:
            self._release()
            self._live.close()

    def _submit(self) -> None:
        started = time.perf_counter()
        for item in self._reader.items([], self._limit):
            if self._left.is_set():
                return
            if not isinstance(item, RgbFrame):
                continue
            if self._paced:
                until = started + float(item.pts * self._reader.time_base)
                time.sleep(max(0.0, until - time.perf_counter()))
            # Alpha is left out: it would be another pass through the network for each frame.
            image: Any = item.image[..., :3]
            self._live.submit(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), item)

    def leave(self) -> None:
        """Ends it; a source that stays silent is left to itself."""
        self._left.set()
        self._reader.interrupt()
        self.join(PATIENCE)

    def check(self) -> None:
        """Raises what ended the thread."""
        if self._error is not None:
            raise self._error
