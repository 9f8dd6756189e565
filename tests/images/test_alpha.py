"""Alpha: solid stays solid, and what lies hidden under alpha 0 has no part in the result."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

import srfast
from srfast.images.alpha import fill_hidden, within_neighbours
from srfast.upscaler import Upscaler
from srfast.video import iter_video

RED = (20, 30, 230)
HIDDEN = [(0, 255, 0), (255, 255, 255), (0, 0, 0), (255, 0, 255)]


def disc(hidden: tuple[int, int, int], dtype: type = np.uint8, soft: bool = False) -> np.ndarray:
    """[48, 52, 4] BGRA: a red disc of radius 12 in the middle, over alpha 0 that hides a colour."""
    y, x = np.mgrid[:48, :52]
    distance = np.hypot(y - 23.5, x - 25.5)
    alpha = np.clip((12 - distance) * 255, 0, 255) if not soft else np.clip((14 - distance) / 4, 0, 1) * 255
    image = np.empty((48, 52, 4), np.uint8)
    image[...] = (*hidden, 0)
    image[alpha > 0, :3] = RED
    image[:, :, 3] = np.rint(alpha)
    return image if dtype is np.uint8 else image.astype(np.uint16) * 257


@pytest.fixture(scope="module", params=["srgan_x4", "srresnet_x4", "compact_x4"])
def upscaler(request: pytest.FixtureRequest) -> Upscaler:
    return srfast.load(request.param, device="cpu", dtype="fp32")


@pytest.mark.parametrize(
    ("dtype", "soft", "hidden"),
    [(np.uint8, False, HIDDEN), (np.uint8, True, HIDDEN[:2]), (np.uint16, False, HIDDEN[:2])],
)
def test_a_disc_over_any_hidden_colour(
    upscaler: Upscaler, dtype: type, soft: bool, hidden: list[tuple[int, int, int]]
) -> None:
    results = [upscaler(disc(colour, dtype, soft)) for colour in hidden]
    for other in results[1:]:
        assert np.array_equal(results[0], other)
    image, white = results[0], np.iinfo(dtype).max
    y, x = np.mgrid[: 48 * 4, : 52 * 4]
    distance = np.hypot(y - 95.5, x - 103.5) / 4
    assert (image[distance < 8, 3] == white).all()
    assert (image[distance > 18, 3] == 0).all()
    edge = image[image[:, :, 3] > white // 8, :3].astype(float) / (white / 255)
    assert np.abs(edge.mean(0) - RED).max() < 6
    assert edge[:, 1].max() < RED[1] + 40  # no green


@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_constant_alpha_stays_constant(upscaler: Upscaler, value: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (21, 33, 4), dtype=np.uint8)
    image[:, :, 3] = value
    assert (upscaler(image)[:, :, 3] == value).all()


def test_alpha_of_a_video(tmp_path: Path, upscaler: Upscaler) -> None:
    """The frames of a video are those that the same pictures give."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 52, 48, "bgra"
        for hidden in HIDDEN[:2]:
            out.mux(video.encode(av.VideoFrame.from_ndarray(disc(hidden), format="bgra")))
        out.mux(video.encode(None))
    first, second = (frame.image for frame in iter_video(path, upscaler))
    assert np.array_equal(first, second)
    assert np.array_equal(first, upscaler(disc(HIDDEN[0])))


def test_what_is_filled() -> None:
    colour = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    alpha = np.full((9, 7), 9, np.uint8)
    assert np.array_equal(fill_hidden(colour, alpha), colour)
    assert np.array_equal(fill_hidden(colour, np.zeros_like(alpha)), colour)
    alpha[:, 3:] = 0
    filled = fill_hidden(colour, alpha)
    assert np.array_equal(filled[:, :3], colour[:, :3])
    assert np.array_equal(filled[:, 3:], np.repeat(colour[:, 2:3], 4, 1))


def test_edges_stay_in_their_range() -> None:
    torch.manual_seed(0)
    alpha = np.random.default_rng(2).integers(0, 256, (6, 5), dtype=np.uint8)
    large = np.random.default_rng(3).integers(0, 256, (18, 15), dtype=np.uint8)
    limited = within_neighbours(large, alpha)
    for y in range(18):
        for x in range(15):
            around = alpha[max(0, y // 3 - 1) : y // 3 + 2, max(0, x // 3 - 1) : x // 3 + 2]
            assert limited[y, x] == min(max(large[y, x], around.min()), around.max())
    assert cv2.countNonZero((limited != large).astype(np.uint8)) > 0
