"""Interlaced input: whole frames on request, as many as there are, at their times."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from srfast.video import InputOptions
from srfast.video.reader import RgbFrame, VideoReader


def woven(path: Path, interlaced: bool = True) -> Path:
    """A white bar that moves 4 pixels from field to field: odd lines are 20 ms later."""
    options = {"qp": "0"} | ({"flags": "+ildct+ilme", "x264-params": "tff=1"} if interlaced else {})
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for i in range(6):
            image = np.full((48, 64, 3), 20, np.uint8)
            for line in range(48):
                start = 8 * i + 4 * (line % 2)
                image[line, start : start + 8] = 230
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")))
        out.mux(video.encode(None))
    return path


def read(path: Path, deinterlace: bool, limit: int | None = None) -> tuple[list[np.ndarray], list[int]]:
    with VideoReader(path, InputOptions(deinterlace=deinterlace)) as reader:
        frames = [item for item in reader.items([], limit) if isinstance(item, RgbFrame)]
        assert not reader.damage
        assert not (deinterlace and reader.interlaced)
    return [f.image for f in frames], [f.pts for f in frames]


def combing(image: np.ndarray) -> float:
    """How much lines differ from the mean of their neighbours; an upright bar has none of it."""
    lines = image[..., 0].astype(float)
    return float(np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean())


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_combs_go_and_frames_stay(tmp_path: Path, suffix: str) -> None:
    path = woven(tmp_path / f"in{suffix}")
    before, times = read(path, False)
    after, again = read(path, True)
    assert len(before) == len(after) == 6
    assert times == again
    assert min(map(combing, before)) > 20
    assert max(map(combing, after[1:-1])) < 5
    some, _ = read(path, True, limit=3)
    assert all(np.array_equal(a, b) for a, b in zip(some, after, strict=False))
    assert len(some) == 3


def test_progressive_frames_pass(tmp_path: Path) -> None:
    path = woven(tmp_path / "in.mkv", interlaced=False)
    for one, other in zip(read(path, False)[0], read(path, True)[0], strict=True):
        assert np.array_equal(one, other)
