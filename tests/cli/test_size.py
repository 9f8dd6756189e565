"""Results of a given size: the network, then one resampling to it in the same pass."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import srfast
from srfast.cli import main
from srfast.images.arrays import resize_array
from srfast.video import iter_video, upscale_video

CLIP = Path(srfast.__file__).parent / "assets" / "clip.mp4"
PICTURE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("given", "size"),
    [("--size 64x100", (100, 64)), ("--height 90", (90, 120)), ("--height 91", (91, 122)), ("", (60, 80))],
)
def test_an_image(tmp_path: Path, given: str, size: tuple[int, int]) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), PICTURE)
    out = tmp_path / "out.png"
    assert main(["upscale", str(tmp_path / "in.png"), str(out), "-n", "compact_x2", *given.split()]) == 0
    expected = resize_array(srfast.load("compact_x2")(PICTURE), *size)
    assert np.array_equal(cv2.imread(str(out)), expected)


def test_a_video(tmp_path: Path) -> None:
    upscaler = srfast.load("compact_x2", size=(320, 180), device="cpu")
    result = upscale_video(CLIP, tmp_path / "o.mkv", upscaler, frames=2)
    assert (result.width, result.height) == (320, 180)
    assert next(iter(iter_video(CLIP, upscaler))).image.shape == (180, 320, 3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("--size 10x10 -s 2", "give one of them"),
        ("--size 10x10 --height 5", "give one of them"),
        ("--height 0", "a side of the result has 1 to"),
        ("--height 9999999", "a side of the result has 1 to"),
    ],
)
def test_sizes_that_are_none(tmp_path: Path, given: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), PICTURE)
    assert main(["upscale", str(tmp_path / "in.png"), str(tmp_path / "o.png"), "-n", "compact_x2", *given.split()]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize("text", ["10", "0x5", "axb", "10x", "-1x5"])
def test_a_size_is_written_with_an_x(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["upscale", "in.png", "out.png", f"--size={text}"])
    assert "takes a width and a height such as 1920x1080" in capsys.readouterr().err
