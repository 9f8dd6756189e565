"""Images through pipes: '-' in and out, the same pixels and metadata as through files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from srfast.cli import main
from srfast.errors import InputError

FAST = ["-n", "compact_x2", "--device", "cpu"]
PICTURE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(PICTURE[..., ::-1]).save(path, dpi=(300, 300))
    return path


@pytest.fixture
def expected(photo: Path) -> bytes:
    out = photo.with_name("expected.png")
    assert main(["upscale", str(photo), str(out), *FAST]) == 0
    return out.read_bytes()


def run(*arguments: str, data: bytes = b"") -> tuple[int, bytes, str]:
    """In a process of its own, whose streams are real pipes."""
    done = subprocess.run(
        [sys.executable, "-m", "srfast", "upscale", *arguments, *FAST], input=data, capture_output=True, check=False
    )
    return done.returncode, done.stdout, done.stderr.decode()


def test_from_a_file(photo: Path, expected: bytes) -> None:
    assert run(str(photo), "-")[:2] == (0, expected)
    code, data, said = run(str(photo), "-", "-f", "jpg")
    assert code == 0, said
    assert data.startswith(b"\xff\xd8")
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (24, 32, 3)
    assert "the standard output: 32x24" in said


def test_from_the_standard_input(photo: Path, expected: bytes, tmp_path: Path) -> None:
    data = photo.read_bytes()
    assert run("-", "-", "-f", "png", data=data)[:2] == (0, expected)
    code, nothing, said = run("-", str(tmp_path / "out.png"), data=data)
    assert (code, nothing) == (0, b""), said
    assert (tmp_path / "out.png").read_bytes() == expected
    assert run("-", str(tmp_path / "out.webp"), data=data)[0] == 0
    assert cv2.imread(str(tmp_path / "out.webp")).shape == (24, 32, 3)


@pytest.mark.parametrize("name", ["pipe", "pipe.png"])
def test_from_a_pipe_with_a_name(
    photo: Path, expected: bytes, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the shell's <(...) is one."""
    os.mkfifo(tmp_path / name)
    for data, code, says in [
        (photo.read_bytes(), 0, "32x24"),
        (photo.read_bytes() * 2, 6, f"{name} holds more than one picture"),
        (b"no image", 6, f"{name} is not an image that can be read"),
    ]:
        writer = threading.Thread(target=(tmp_path / name).write_bytes, args=[data], daemon=True)
        writer.start()
        assert main(["upscale", str(tmp_path / name), str(tmp_path / "out.png"), "-y", *FAST]) == code
        writer.join(60)
        assert not writer.is_alive()
        assert says in capsys.readouterr().err
    assert (tmp_path / "out.png").read_bytes() == expected


def test_what_is_no_image(photo: Path, tmp_path: Path) -> None:
    code, data, said = run("-", str(tmp_path / "out.jpg"), data=b"no image" * 99)
    assert (code, data) == (7, b"")
    assert "is one picture, but the standard input is a video" in said
    assert "Traceback" not in said
    code, data, said = run("-", "-", "-f", "png", data=photo.read_bytes() * 2)
    assert (code, data) == (6, b"")
    assert "holds more than one picture; give --input-format png_pipe" in said
    code, data, said = run("-", "-", "-f", "png", data=photo.read_bytes()[:60])
    assert (code, data) == (6, b"")
    assert "the standard input" in said
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


def test_pictures_in_a_pipe_are_a_video(photo: Path) -> None:
    """Where nothing says an image: as many frames as there are pictures."""
    code, data, said = run("-", "-", data=photo.read_bytes() * 3)
    assert code == 0, said
    assert data.startswith(b"YUV4MPEG2")
    assert data.count(b"FRAME") == 3
    assert run(str(photo), "-", "-f", "y4m")[1].startswith(b"YUV4MPEG2")


def test_a_name_of_no_format(photo: Path) -> None:
    code, data, said = run(str(photo), "-", "-f", "png", "--codec", "ffv1")
    assert (code, data) == (2, b"")
    assert "--codec does nothing for an image" in said


@pytest.mark.parametrize("suffix", [".webp", ".bmp"])
def test_a_damaged_picture_is_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    """OpenCV writes to the terminal by itself, with places in its sources."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (24, 32, 4), np.uint8) for _ in range(4)]
    source = tmp_path / f"in{suffix}"
    if suffix == ".webp":
        animation = cv2.Animation()
        animation.frames, animation.durations = pictures, np.full(4, 100, np.int32)
        assert cv2.imwriteanimation(str(source), animation)
    else:
        assert cv2.imwrite(str(source), pictures[0][:, :, :3])
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 6 // 10])
    code, _, said = run(str(source), str(tmp_path / f"out{suffix}"))
    assert (code, said.count("\n")) == (InputError.exit_code, 1) and said.startswith("srfast: error: ")
    assert (suffix == ".webp") == (f"{len(data) - len(data) * 6 // 10} bytes shorter than it says" in said)
