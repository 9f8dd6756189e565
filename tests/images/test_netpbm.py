"""PGM, PPM and PAM: white is the number that the file names, and colours are in its order."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from srfast.cli import main
from srfast.images import read_image

DEPTHS = {1: "GRAYSCALE", 2: "GRAYSCALE_ALPHA", 3: "RGB", 4: "RGB_ALPHA"}


def values(white: int, depth: int) -> np.ndarray:
    made = np.random.default_rng(0).integers(0, white, (4, 5, depth), endpoint=True)
    made[0, :2] = [[0], [white]]
    return made


def content(values: np.ndarray, white: int, magic: str) -> bytes:
    height, width, depth = values.shape
    head = f"{magic}\n# made by 7 of 9\n{width} {height}\n{white}\n"
    if magic == "P7":
        sizes = f"WIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {white}\nTUPLTYPE {DEPTHS[depth]}\n"
        head = f"P7\n# made by hand\n{sizes}ENDHDR\n"
    if magic in ("P2", "P3"):
        return head.encode() + " ".join(map(str, values.ravel())).encode() + b"\n"
    return head.encode() + values.astype(">u2" if white > 255 else np.uint8).tobytes()


def expected(values: np.ndarray, white: int) -> np.ndarray:
    """In OpenCV's order, by exact fractions: half of the last place is never reached but by even numbers."""
    most = 255 if white < 256 else 65_535
    scaled = values.astype(float) * most / white
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[values.shape[2]]
    return scaled[..., order].squeeze()


@pytest.mark.parametrize("white", [1, 100, 255, 300, 1023, 4095, 65_535])
@pytest.mark.parametrize(
    ("magic", "depth"),
    [("P2", 1), ("P3", 3), ("P5", 1), ("P6", 3), ("P7", 1), ("P7", 2), ("P7", 3), ("P7", 4)],
)
def test_white_and_colours(tmp_path: Path, white: int, magic: str, depth: int) -> None:
    numbers = values(white, depth)
    (tmp_path / "in").write_bytes(content(numbers, white, magic))
    image = read_image(tmp_path / "in")
    wanted = expected(numbers, white)
    assert (image.dtype, image.shape) == (np.uint8 if white < 256 else np.uint16, wanted.shape)
    # OpenCV rounds the numbers of text files of 8 bits down.
    assert np.abs(image - wanted).max() <= (1 if magic in ("P2", "P3") and white < 256 else 0.5)


def test_a_file_that_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.pam").write_bytes(content(values(255, 3), 255, "P7")[:-1])
    assert main(["upscale", str(tmp_path / "in.pam"), str(tmp_path / "out.png"), "-m", "compact_x2"]) == 6
    assert "is not an image that can be read" in capsys.readouterr().err


@pytest.mark.parametrize(("magic", "depth"), [("P2", 1), ("P3", 3), ("P6", 3), ("P7", 4)])
def test_from_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, magic: str, depth: int) -> None:
    data = content(values(255, depth), 255, magic)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["upscale", "-", str(tmp_path / "out.png"), "-m", "compact_x2"]) == 0
    assert cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED).shape[:2] == (8, 10)
