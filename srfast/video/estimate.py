"""What a run will take, from a short probe of it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from srfast.upscaler import Upscaler
from srfast.video.arrangement import arrange
from srfast.video.memory import peak_memory
from srfast.video.options import UpscalingKeywords, UpscalingOptions
from srfast.video.pipeline import Progress, upscale_video
from srfast.video.reader import VideoReader
from srfast.video.report import bottleneck
from srfast.video.source import Source
from srfast.video.target import parse_target

if TYPE_CHECKING:
    from typing_extensions import Unpack

_MOST, _LEAST = 48, 3  # frames of a probe


@dataclass(frozen=True)
class Forecast:
    """Predictions; those that need the number of frames are None where the input does not tell it.

    Attributes:
        frames: of the input.
        width, height: of the output, in pixels.
        fps: frames per second.
        seconds: of the whole run.
        memory_bytes: peak of the process.
        output_bytes: size of the file.
        disk_bytes: most disk in use at once: the journal and the file.
        tiles: in each frame.
        bottleneck: the stage that worked longest.
        probed: frames that the probe ran.
    """

    frames: int | None
    width: int
    height: int
    fps: float
    seconds: float | None
    memory_bytes: int
    output_bytes: int | None
    disk_bytes: int | None
    tiles: int
    bottleneck: str
    probed: int

    def __str__(self) -> str:
        count = f"{self.frames} frames" if self.frames else "an unknown number of frames"
        lines = [f"output      {count} of {self.width}x{self.height}, {self.tiles} tiles each"]
        lines.append(f"speed       {self.fps:.2f} frames/s, held back by: {self.bottleneck}")
        if self.seconds is not None and self.output_bytes is not None and self.disk_bytes is not None:
            minutes, seconds = divmod(round(self.seconds), 60)
            lines.append(f"time        {minutes // 60}:{minutes % 60:02d}:{seconds:02d}")
            lines.append(f"file        {_mega(self.output_bytes)} (up to {_mega(self.disk_bytes)} of disk on the way)")
        lines.append(f"memory      {_mega(self.memory_bytes)}")
        return "\n".join([*lines, f"measured on the first {self.probed} frames"])


def _mega(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size >= 10 << 20 else f"{size / 2**20:.1f} MiB"


def forecast(
    source: Source,
    model: Upscaler,
    *,
    suffix: str = ".mp4",
    seconds: float = 2.0,
    **options: Unpack[UpscalingKeywords],
) -> Forecast:
    """Upscales the first frames into a temporary folder and scales up what they took.

    Args:
        source: the video.
        model: the upscaler.
        suffix: of the target, which chooses the container.
        seconds: about how long to probe.
        **options: those of the run, whose whole output is rehearsed first.

    Raises:
        InputError, OutputError: what the run would raise for this input and encoding.
    """
    how = UpscalingOptions.of(options)
    with VideoReader(source, how.input_options) as reader:
        total = reader.expected_frames or None
        others = _other_bytes(reader)
        end = parse_target(f"probe{suffix}", how.encoding.format)
        arrange(reader, end, model, how, source)
        height, width = reader.height, reader.width
    once = _time_of_a_frame(model, height, width)
    count = max(_LEAST, min(_MOST, round(seconds / once)))
    moments: list[float] = []

    def note(progress: Progress) -> None:
        moments.append(progress.seconds)

    with tempfile.TemporaryDirectory(prefix="srfast-plan-") as folder:
        target = Path(folder) / f"probe{suffix}"
        # Alone, and without what is copied: an estimate is of frames that are all computed.
        probe: UpscalingKeywords = {**options, "copy": (), "reuse": False}
        result = upscale_video(source, target, model, frames=count, on_progress=note, **probe)
        size = target.stat().st_size
    # The stages add up where they share the processor, and the start is paid once.
    each = (moments[-1] - moments[0]) / (len(moments) - 1) if len(moments) > 1 else once
    drain = max(0.0, result.seconds - moments[-1]) / result.frames
    fps = 1 / (each + drain)
    output = None if total is None else round(size / result.frames * total + others)
    return Forecast(
        frames=total,
        width=result.width,
        height=result.height,
        fps=fps,
        seconds=None if total is None else total / fps,
        memory_bytes=peak_memory(),
        output_bytes=output,
        # The journal is deleted only when the file that is made of it is whole.
        disk_bytes=None if output is None else 2 * output,
        tiles=model.engine.statistics.tiles,
        bottleneck=bottleneck(result),
        probed=result.frames,
    )


def _time_of_a_frame(model: Upscaler, height: int, width: int) -> float:
    import numpy as np

    image = np.zeros((height, width, 3), np.uint8)
    model(image)
    started = time.perf_counter()
    model(image)
    return time.perf_counter() - started


def _other_bytes(reader: VideoReader) -> int:
    """Bytes of the streams that are copied, as far as their bit rates tell."""
    seconds = (reader.container.duration or 0) / 1_000_000
    rates = (getattr(s.codec_context, "bit_rate", 0) or 0 for s in reader.copied_streams if s.codec_context)
    return round(sum(rates) * seconds / 8)
