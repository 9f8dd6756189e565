"""What Ray costs: one video by one process, and in segments by one worker on Ray, whole commands from start to end."""

from __future__ import annotations

import itertools
import subprocess
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import srfast
from benchmarks.sampling import Run
from benchmarks.session import Session

CLIP = Path(srfast.__file__).parent / "assets" / "clip.mp4"
FRAMES = 15_000  # ten minutes
SIZE = (192, 144)  # Ray takes its ten seconds to start and end whatever is computed


def looped(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """The clip again and again, smaller, at 25 frames a second with a key frame in each second."""
    import av

    with av.open(str(CLIP)) as source, av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"x264-params": "keyint=25:scenecut=0"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        pictures = [frame.reformat(*size, format="yuv420p") for frame in source.decode(video=0)]
        for time, picture in zip(range(frames), itertools.cycle(pictures), strict=False):
            picture.pts, picture.time_base = time, Fraction(1, 25)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
    return path


def command(source: Path, target: Path, *more: str) -> None:
    """``srfast upscale`` in a process of its own."""
    words = [
        "upscale",
        str(source),
        str(target),
        "-m",
        "compact_x2",
        "-c",
        "libx264",
        "-y",
        "--progress",
        "none",
        *more,
    ]
    done = subprocess.run([sys.executable, "-m", "srfast", *words], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]


def test_cluster(bench: Session, benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs srfast[ray]")
    source = looped(tmp_path / "in.mkv", FRAMES, SIZE)
    runs: dict[str, Run] = {
        "srfast upscale": partial(command, source, tmp_path / "whole.mkv"),
        "srfast upscale --ray, one worker": partial(command, source, tmp_path / "joined.mkv", "--ray"),
    }
    case = f"{SIZE[0]}x{SIZE[1]}, {FRAMES} frames"
    bench.time("video", "Compact x2", case, runs, benchmark.pedantic, {}, host_clock=True, commands=True)
