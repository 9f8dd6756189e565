"""Clips of a moving gradient, and what is read back from files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

STEADY = [40 * i for i in range(12)]
UNEVEN = [0, 33, 40, 140, 141, 500, 533, 900, 1400, 1401]


def make_clip(
    path: Path,
    times: list[int],
    time_base: Fraction = Fraction(1, 1000),
    size: tuple[int, int] = (48, 32),
    pix_fmt: str = "yuv420p",
    tags: tuple[int, int, int, int] = (2, 0, 2, 2),
    audio: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """A moving gradient whose frames show at ``times`` (in units of ``time_base``)."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options=options or {"crf": "10"})
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        context = video.codec_context
        context.time_base = video.time_base = time_base
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        sound = out.add_stream("aac", rate=48_000, layout="stereo") if audio else None
        if sound is not None:
            sound.metadata["language"] = "fin"
        out.metadata["title"] = "gradient"
        ramp = np.add.outer(np.arange(size[1]) * 3, np.arange(size[0]) * 2)
        for i, pts in enumerate(times):
            rgb = np.stack([(ramp + 9 * i) % 256, (ramp * 2) % 256, np.full_like(ramp, (40 * i) % 256)], -1)
            frame = av.VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = pts, time_base
            frame.duration = (times[i + 1] if i + 1 < len(times) else 2 * pts - times[i - 1]) - pts
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if sound is not None:
            tone = np.sin(np.arange(48_000)[None] / 20).astype(np.float32).repeat(2, 0)
            samples = av.AudioFrame.from_ndarray(tone, format="fltp", layout="stereo")
            samples.sample_rate, samples.pts = 48_000, 0
            out.mux(sound.encode(samples))
            out.mux(sound.encode(None))
    return path


def frame_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as c:
        return [f.pts * f.time_base for f in c.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as c:
        stream = next(s for s in c.streams if s.type == kind)
        return [(p.pts * p.time_base, bytes(p)) for p in c.demux(stream) if p.size]


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())
