"""Interlaced input: whole frames on request, as many as there are, at their times."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from srfast.video import InputOptions, upscale_video
from srfast.video.reader import RgbFrame, VideoReader
from tests.helpers.video.children import tiny


def woven(path: Path, interlaced: bool = True) -> Path:
    """A white bar that moves 4 pixels from field to field: even lines are 20 ms later, as x264 flags frames of no flag."""
    options = {"qp": "0"} | ({"flags": "+ildct+ilme", "x264-params": "bff=1"} if interlaced else {})
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for i in range(6):
            image = np.full((48, 64, 3), 20, np.uint8)
            for line in range(48):
                start = 8 * i + 4 * (1 - line % 2)
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


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".avi"])
def test_fields_become_frames(tmp_path: Path, suffix: str) -> None:
    """25 interlaced frames a second become 50: the bar moves by 4 pixels from each to the next."""
    path = woven(tmp_path / f"in{suffix}")
    with VideoReader(path, InputOptions(deinterlace="field")) as reader:
        assert reader.rate == 50
        assert reader.expected_frames == 12
        frames = [item for item in reader.items([]) if isinstance(item, RgbFrame)]
        assert not reader.damage
        times = [float((f.pts - frames[0].pts) * reader.time_base) for f in frames]
    assert times == pytest.approx([0.02 * i for i in range(12)], abs=0.001)
    assert max(combing(f.image) for f in frames[1:-1]) < 5
    middles = [float(np.average(np.arange(64), weights=f.image[8:40, :, 0].mean(0) - 19)) for f in frames]
    assert np.diff(middles) == pytest.approx(4, abs=0.5)


def test_fields_of_whole_frames_are_frames(tmp_path: Path) -> None:
    path = woven(tmp_path / "in.mkv", interlaced=False)
    with VideoReader(path, InputOptions(deinterlace="field")) as reader:
        assert reader.rate == 25
        assert sum(isinstance(item, RgbFrame) for item in reader.items([])) == 6


def test_fifty_frames_a_second_in_the_output(tmp_path: Path) -> None:
    path = woven(tmp_path / "in.mkv")
    upscale_video(path, tmp_path / "out.mp4", tiny(), input_options=InputOptions(deinterlace="field"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].average_rate == 50
        assert sum(1 for _ in container.decode(video=0)) == 12
