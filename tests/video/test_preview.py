"""A preview: frames spread over the video, bicubic on the left, the network's on the right, before the run."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from srfast.cli import main
from srfast.errors import InputError
from srfast.video import InputOptions, preview
from tests.helpers.video.children import save_tiny, tiny
from tests.helpers.video.gradients import frame_times

FRAMES = 40


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preview") / "in.mkv"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=20, options={"qp": "0"})
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((96, 160, 3), 6 * i, np.uint8), format="rgb24")
            out.mux(video.encode(frame.reformat(format="yuv420p")))
        out.mux(video.encode(None))
    return path


def numbers(picture: np.ndarray, rows: int) -> list[int]:
    """Which frame each row shows, by its bicubic half away from the name."""
    height = picture.shape[0] // rows
    return [round(float(picture[i * height + 150, 200].mean()) / 6) for i in range(rows)]


def test_frames_are_spread(clip: Path) -> None:
    upscaler = tiny()
    picture = preview(clip, upscaler, 4)
    assert picture.shape == (4 * 192, 2 * 320, 3)
    assert picture.dtype == np.uint8
    assert numbers(picture, 4) == [5, 15, 25, 35]
    small = np.full((96, 160, 3), picture[150, 200], np.uint8)
    assert np.array_equal(picture[150, 320 + 200], upscaler(small)[150, 200])
    part = preview(clip, upscaler, 2, InputOptions(start=1.0, end=1.4))
    assert numbers(part, 2) == [22, 26]


def test_only_the_middle_of_large_frames(clip: Path) -> None:
    assert preview(clip, tiny(), 1).shape == (192, 640, 3)
    large = tiny()
    large.outscale = 9.0
    assert preview(clip, large, 1).shape == (720, 2 * 960, 3)


def test_the_commands(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = save_tiny(tmp_path / "m" / "tiny.safetensors"), tmp_path / "out.mkv"
    arguments = [str(clip), str(out), "-m", model, "--preview", "3"]
    assert main(["plan", *arguments, "--seconds", "0.01"]) == 0
    assert f"side by side: {out}.preview.png" in capsys.readouterr().err
    assert not out.exists()
    assert main(["upscale", *arguments]) == 0
    assert numbers(cv2.imread(f"{out}.preview.png"), 3) == [7, 20, 34]
    assert len(frame_times(out)) == FRAMES
    assert main(["upscale", *arguments, "-y", "--preview", "0"]) == 2
    assert "a preview shows 1 to 100 frames" in capsys.readouterr().err


def test_what_cannot_be_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the standard input can be read only once"):
        preview("-", tiny(), 2)
