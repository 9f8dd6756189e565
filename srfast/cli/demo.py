"""The demonstration: the clip that comes with srfast, upscaled, and a picture of the difference."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from srfast.cli.progress import Reporter
from srfast.errors import escaped
from srfast.images import write_image
from srfast.images.arrays import Array
from srfast.images.comparison import side_by_side
from srfast.upscaler import Upscaler
from srfast.video import VideoResult, upscale_video
from srfast.video.reader import RgbFrame, VideoReader

CLIP = Path(__file__).parents[1] / "assets" / "clip.mp4"
MODEL = "srresnet_x4"


def run_demo(folder: Path) -> VideoResult:
    """Writes ``clip_x4.mp4`` and ``comparison.png`` into ``folder`` and prints what ran and how fast."""
    folder.mkdir(parents=True, exist_ok=True)
    upscaler = Upscaler(MODEL)
    print(f"srfast: {MODEL} by the {upscaler.engine.backend.name} backend on {upscaler.engine.device}", flush=True)
    video, picture = folder / "clip_x4.mp4", folder / "comparison.png"
    with Reporter("bar") as reporter:
        result = upscale_video(
            CLIP, video, upscaler, overwrite=True, on_progress=lambda p: reporter.update(p.done, p.total, p.seconds)
        )
    write_image(picture, comparison(_frame(CLIP, 30), upscaler), overwrite=True)
    sys.stderr.flush()
    print(f"srfast: {result.frames} frames to {result.width}x{result.height} at {result.fps:.2f} frames/s")
    print(escaped(f"srfast: the video is       {video.resolve()}"))
    print(escaped(f"srfast: bicubic and srfast {picture.resolve()}"))
    return result


def _frame(path: Path, index: int) -> Array:
    """BGR frame number ``index`` of a video."""
    with VideoReader(path) as reader:
        frames = (item.image for item in reader.items([]) if isinstance(item, RgbFrame))
        rgb = next(image for i, image in enumerate(frames) if i == index)
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def comparison(image: Array, upscaler: Upscaler) -> Array:
    """``image`` by bicubic interpolation and by the network, side by side with their names."""
    ours = upscaler(image)
    height, width = ours.shape[:2]
    bicubic = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return side_by_side([(bicubic, "bicubic"), (ours, f"srfast {upscaler.name}")])
