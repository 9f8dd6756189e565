"""Every example runs as its first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for i in range(4):
            image = np.full((32, 48, 3), 40 * i, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(stream.encode(None))
    return path


def start(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def run(name: str, *arguments: object) -> str:
    done = start(name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_region(picture: Path, tmp_path: Path) -> None:
    assert run("region.py", picture, tmp_path / "part.png", 3, 4, 20, 10) == "80x40"


def test_video_frames(clip: Path) -> None:
    assert run("video_frames.py", clip, 2).splitlines()[1] == "1 0.040 (128, 192, 3)"


def test_opencv_loop(clip: Path) -> None:
    assert run("opencv_loop.py", clip) == "4 frames of 192x128"


def test_live(clip: Path) -> None:
    assert run("live.py", clip).startswith("4 frames in: ")


def test_opencv_superres(picture: Path, tmp_path: Path, data_folder: Path) -> None:
    model = data_folder / "checkpoints" / "opencv_dnn_superres" / "FSRCNN_x2.pb"
    said = run("opencv_superres.py", model, "fsrcnn", 2, picture, tmp_path / "large.png")
    assert said == "fsrcnn x2: 100x80"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("region.py", ("nowhere.png", "out.png", 0, 0, 4, 4)),
        ("video_frames.py", ("nowhere.mp4",)),
        ("opencv_loop.py", ("nowhere.mp4",)),
        ("live.py", ("nowhere.mp4",)),
        ("opencv_superres.py", ("nowhere.pb", "espcn", 2, "nowhere.png", "out.png")),
    ],
)
def test_mistakes(name: str, arguments: tuple[object, ...]) -> None:
    """Without arguments the usage; without the input a line that names it."""
    for given, says in (((), f"Usage: python examples/{name}"), (arguments, "nowhere")):
        done = start(name, *given)
        assert done.returncode == 1
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_all_examples_are_run() -> None:
    text = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f'run("{path.name}"' not in text] == []
