"""``srfast upscale --max-latency``: cameras and streams, within a latency."""

from __future__ import annotations

import sys

from srfast.cli.options import UpscaleOptions, upscaler_from
from srfast.errors import escaped


def upscale(options: UpscaleOptions, source: str, target: str, latency: float) -> int:
    """Runs until the source ends or Ctrl-C, then completes the output; returns 0."""
    from srfast.video import upscale_live
    from srfast.video.reader import VideoReader
    from srfast.video.source import can_reopen
    from srfast.video.target import parse_target

    place, reading = parse_target(target, options.video.format), options.video.input()
    if can_reopen(source):  # a bad input is said before a model is loaded
        VideoReader(source, reading).close()
    place.check(source, options.output.overwrite)
    upscaler = upscaler_from(options.model, "video")
    result = upscale_live(
        source,
        target,
        upscaler,
        max_latency=latency,
        lighter=options.run.lighter,
        encoding=options.video.encoding(),
        overwrite=options.output.overwrite,
        frames=options.run.frames,
        copy=options.video.copied(),
        input_options=reading,
    )
    within = f"at most {latency * 1000:.0f} ms each, on {upscaler}"
    print(escaped(f"{place.label}: {result.statistics}, {within}"), file=sys.stderr)
    return 0
