"""Video end to end: a file in, a file out, decoding and encoding included."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import srfast
from benchmarks.loops import Frame, eager_frame, opencv_loop, pyav_loop, real_esrgan_frame
from benchmarks.sampling import Run
from benchmarks.session import Session
from benchmarks.subjects import COMPACT_X4, SRRESNET_X4, Subject
from srfast.upscaler import Upscaler

CLIP = Path(srfast.__file__).parent / "assets" / "clip.mp4"
FRAMES = {"cpu": 8, "cuda": 48}


@pytest.mark.parametrize("subject", [SRRESNET_X4, COMPACT_X4], ids=lambda s: s.name)
def test_video(bench: Session, benchmark: BenchmarkFixture, subject: Subject, tmp_path: Path) -> None:
    frames = FRAMES[bench.device.type]
    dtype = torch.float16 if bench.device.type == "cuda" else torch.float32
    name = "fp16" if bench.device.type == "cuda" else "fp32"
    upscaler = Upscaler(subject.module(), device=bench.device)
    plain = eager_frame(subject.module(), bench.device, dtype)
    real = real_esrgan_frame(subject.module(), bench.device, dtype)
    target = tmp_path / "out.mp4"

    def ours(frame: Frame) -> Frame:
        result: Frame = upscaler(frame)
        return result

    runs: dict[str, Run] = {
        "srfast.Upscaler in a plain loop (cv2, mp4v)": partial(opencv_loop, CLIP, target, ours, frames),
        f"plain loop, eager {name} (cv2, mp4v)": partial(opencv_loop, CLIP, target, plain, frames),
    }
    missing = {}
    try:
        import av  # noqa: F401
    except ImportError as error:
        missing["srfast.upscale_video"] = f"needs PyAV: {error}"
    else:
        pipeline = partial(srfast.upscale_video, CLIP, target, upscaler, overwrite=True, frames=frames)
        runs = {
            "srfast.upscale_video (libx264 crf 18)": pipeline,
            **runs,
            f"Real-ESRGAN's loop, eager {name} (libx264 crf 23)": partial(pyav_loop, CLIP, target, real, frames),
        }
    for run in runs.values():
        run()
        assert target.stat().st_size > 0
        target.unlink()
    size = f"192x144, {frames} frames"
    bench.time("video", subject.name, size, runs, benchmark.pedantic, missing, host_clock=True)
